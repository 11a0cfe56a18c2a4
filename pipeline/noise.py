"""What libraries print at their start, kept off the screen."""

from __future__ import annotations

import logging
import os
import warnings


def silence_libraries() -> None:
    """Keeps away what TensorFlow and Google's packages tell of their build and of Python.

    To be called before they are imported, by commands that have no log file to put it in.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore", FutureWarning)
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
