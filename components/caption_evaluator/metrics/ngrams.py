"""Word n-grams of tokenised captions, shared by BLEU, CIDEr-D and the diversity metrics."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache

MAX_ORDER = 4

NGram = tuple[str, ...]


@lru_cache(maxsize=256)
def count_ngrams(tokenised: str, max_order: int = MAX_ORDER) -> Counter[NGram]:
    """Counts the n-grams of orders 1 to `max_order`.

    One image's captions are counted by several metrics in a row, hence the small cache; callers
    must not change what they get.

    Args:
        tokenised: Words separated by white space, as `ptb.tokenize` returns them.
        max_order: Longest n-gram that is counted.

    Returns:
        Occurrences of each n-gram, a tuple of words.
    """
    words = tokenised.split()
    counts: Counter[NGram] = Counter()
    for order in range(1, max_order + 1):
        counts.update(zip(*(words[start:] for start in range(order)), strict=False))
    return counts
