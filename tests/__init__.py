"""Tests, mirroring the tree. A package, so that an installed package called `tests` never wins."""
