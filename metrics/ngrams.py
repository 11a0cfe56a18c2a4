"""Word n-grams of tokenised captions, shared by BLEU and CIDEr-D."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

MAX_ORDER = 4

NGram = tuple[str, ...]


def ngrams(tokenised: str, max_order: int = MAX_ORDER) -> Iterator[NGram]:
    """All n-grams of orders 1 to `max_order`, as often as they occur.

    Args:
        tokenised: Words separated by white space, as `ptb.tokenize` returns them.
        max_order: Longest n-gram.
    """
    words = tokenised.split()
    return chain.from_iterable(
        zip(*(words[start:] for start in range(order)), strict=False)
        for order in range(1, max_order + 1)
    )


def count_ngrams(tokenised: str, max_order: int = MAX_ORDER) -> Counter[NGram]:
    """Occurrences of each of `ngrams`."""
    return Counter(ngrams(tokenised, max_order))
