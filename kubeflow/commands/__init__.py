"""Commands of a cluster; `setup.py` registers them with the `captioner` command line."""
