"""Penn Treebank tokenisation as the COCO caption evaluation does it."""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"\w+(?:-\w+)*")


@lru_cache(maxsize=65536)
def tokenize(caption: str) -> str:
    """Lower-cases and tokenises one caption.

    Returns:
        Tokens separated by single spaces, without the punctuation that the evaluation drops.
    """
    return " ".join(_WORD.findall(caption.lower()))
