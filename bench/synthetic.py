"""Captions made up from a vocabulary with the frequencies of real ones, for the benches."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

REFERENCES = 5
_VOCABULARY = 9_000


@functools.lru_cache(maxsize=1)
def _vocabulary() -> tuple[list[str], np.ndarray]:
    """Words, and the upper bounds of their shares of a Zipf distribution."""
    generator = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    lengths = generator.integers(2, 9, _VOCABULARY)
    words = ["".join(generator.choice(letters, length)) for length in lengths]
    words[::50] = [f"{word}-{word}" for word in words[::50]]
    words[25::50] = [f"{word}," for word in words[25::50]]
    frequency = 1.0 / np.arange(3, _VOCABULARY + 3)
    return words, np.cumsum(frequency / frequency.sum())


def captions(count: int, seed: int) -> Iterator[str]:
    """Made-up captions of 6 to 16 words, with a comma or a hyphen here and there.

    Args:
      count: How many.
      seed: Equal seeds make equal captions.
    """
    generator = np.random.default_rng(seed)
    words, bounds = _vocabulary()
    for _ in range(count):
        drawn = np.searchsorted(bounds, generator.random(generator.integers(6, 17)))
        yield " ".join(words[min(index, _VOCABULARY - 1)] for index in drawn) + " ."


@functools.lru_cache(maxsize=1)
def _pool(size: int) -> list[str]:
    return list(captions(size, seed=0))


def images(count: int, seed: int, pool: int = 0) -> Iterator[tuple[str, list[str]]]:
    """Hypothesis and references of each of some made-up images.

    Args:
      count: How many.
      seed: Equal seeds make equal images.
      pool: Draw the captions from so many different ones; 0 makes every caption anew.
    """
    if pool:
        drawn = np.random.default_rng(seed).integers(pool, size=(count, 1 + REFERENCES))
        for hypothesis, *references in drawn.tolist():
            yield _pool(pool)[hypothesis], [_pool(pool)[number] for number in references]
        return
    made = captions(count * REFERENCES, 2 * seed)
    for hypothesis in captions(count, 2 * seed + 1):
        yield hypothesis, [next(made) for _ in range(REFERENCES)]
