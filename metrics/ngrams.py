"""Captions as arrays of word numbers, and their n-grams, numbered and counted once.

An n-gram's number is its place in the alphabet among the different n-grams of its order, whatever
the order of the captions: it decides in which order floats are added up later, and so the last
digits of a score.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

MAX_ORDER = 4


class Counts(NamedTuple):
    """The different n-grams of one order in each caption (or image), a row for each of them.

    Attributes:
        number: Number of the n-gram, int32 [rows], ascending within a caption.
        occurrences: How often the caption has it, int32 [rows].
        first: First row of each caption, and the end, int64 [captions + 1].
    """

    number: np.ndarray
    occurrences: np.ndarray
    first: np.ndarray

    def caption(self) -> np.ndarray:
        """Caption of each row, int64 [rows]."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))

    def select(self, captions: np.ndarray) -> Counts:
        """The rows of some captions.

        Args:
            captions: Whether to keep each, bool [captions].
        """
        sizes = np.diff(self.first)
        rows = np.repeat(captions, sizes)
        return Counts(self.number[rows], self.occurrences[rows], offsets(sizes[captions]))


@dataclass(frozen=True, eq=False)
class CountedCaptions:
    """Tokenised captions and their n-grams of orders 1 to 4.

    The different n-grams are a trie in sorted arrays: an n-gram is found by the number of what it
    begins with, in the order before, and its last word.

    Attributes:
        spelling: Different words in alphabetical order.
        keys: For each order the different n-grams, int64, ascending: number of the n-gram without
            its last word x `len(spelling)` + place of the last word.
        words: Place of each word of all captions in `spelling`, int32 [words].
        lengths: Words of each caption, int64 [captions].
        counts: For each order what each caption has.

    Example:
        >>> counted = CountedCaptions.of(["a dog", "a red dog"])
        >>> counted.spelling
        ['a', 'dog', 'red']
        >>> counted.counts[1].number.tolist()  # a dog | a red, red dog
        [0, 1, 2]
    """

    spelling: Sequence[str]
    keys: tuple[np.ndarray, ...]
    words: np.ndarray
    lengths: np.ndarray
    counts: tuple[Counts, ...]

    @classmethod
    def of(cls, captions: Iterable[str]) -> CountedCaptions:
        """Counts captions as `ptb.tokenize` returns them: words separated by white space."""
        vocabulary: defaultdict[str, int] = defaultdict()
        vocabulary.default_factory = vocabulary.__len__
        numbers, lengths = array("i"), array("q")
        for caption in captions:
            words = caption.split()
            numbers.extend(map(vocabulary.__getitem__, words))
            lengths.append(len(words))
        spelling = sorted(vocabulary)
        rank = np.empty(len(spelling), np.int32)
        rank[[vocabulary[word] for word in spelling]] = np.arange(len(spelling))
        ranks, sizes = rank[np.array(numbers, np.int32)], np.array(lengths, np.int64)
        return cls(spelling, *_count(ranks, sizes, len(spelling)))

    def select(self, captions: np.ndarray) -> CountedCaptions:
        """Some of the captions, their n-grams numbered as before.

        Args:
            captions: Whether to keep each, bool [captions].
        """
        return CountedCaptions(
            self.spelling,
            self.keys,
            self.words[np.repeat(captions, self.lengths)],
            self.lengths[captions],
            tuple(counts.select(captions) for counts in self.counts),
        )

    def numbers_in(self, spelling: Sequence[str], keys: Sequence[np.ndarray]) -> list[np.ndarray]:
        """For each order the number of each of these n-grams among others, -1 where it is none.

        Args:
            spelling: Words of the others, in alphabetical order.
            keys: The others, as `keys` here.
        """
        if spelling is self.spelling:
            return [np.arange(len(own)) for own in self.keys]
        word = np.array([_place(spelling, word) for word in self.spelling], np.int64)
        found: list[np.ndarray] = []
        for own, others in zip(self.keys, keys, strict=True):
            beginning, last = np.divmod(own, max(len(word), 1))
            wanted = word[last]
            if found:
                beginning = found[-1][beginning]
                unknown = (beginning < 0) | (wanted < 0)
                # No key is negative.
                wanted = np.where(unknown, -1, beginning * len(spelling) + wanted)
            found.append(find(others, wanted))
        return found


def _count(
    words: np.ndarray, lengths: np.ndarray, size: int
) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray, tuple[Counts, ...]]:
    """Keys, the words and lengths as they came, and the counts of each order."""
    first_word = offsets(lengths)
    caption = np.repeat(np.arange(len(lengths)), lengths)
    # Words from each place to the end of its caption.
    left = first_word[1:][caption] - np.arange(len(words))
    places, number = np.arange(len(words)), words.astype(np.int64)
    keys, counts = [np.arange(size)], []
    for order in range(1, MAX_ORDER + 1):
        if order > 1:
            inside = left[places] >= order
            places = places[inside]
            key = number[inside] * size + words[places + order - 1]
            different, number = np.unique(key, return_inverse=True)
            keys.append(different)
        counts.append(_rows(caption[places], number, len(keys[-1]), len(lengths)))
    return tuple(keys), words, lengths, tuple(counts)


def _rows(caption: np.ndarray, number: np.ndarray, size: int, captions: int) -> Counts:
    size = max(size, 1)
    rows, occurrences = np.unique(caption * size + number, return_counts=True)
    caption, number = np.divmod(rows, size)
    first = offsets(np.bincount(caption, minlength=captions))
    return Counts(number.astype(np.int32), occurrences.astype(np.int32), first)


def by_image(counts: Counts, captions: np.ndarray, size: int) -> Counts:
    """Counts captions that have an n-gram: once for each image, however often a caption has it.

    Args:
        counts: Counts of captions, image by image.
        captions: Captions of each image, int64 [images].
        size: Different n-grams.
    """
    image = np.repeat(np.arange(len(captions)), captions)[counts.caption()]
    return _rows(image, counts.number, size, len(captions))


def _place(spelling: Sequence[str], word: str) -> int:
    place = bisect_left(spelling, word)
    return place if place < len(spelling) and spelling[place] == word else -1


def offsets(sizes: np.ndarray) -> np.ndarray:
    """Where each of some groups in a row begins, and the end, int64 [groups + 1]."""
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])


def find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each of some values is among sorted ones, -1 for those that are not."""
    if not len(keys):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)
