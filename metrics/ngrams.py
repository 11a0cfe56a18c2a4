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


class Types(NamedTuple):
    """The different n-grams of one order in each image, a row for each of them.

    Attributes:
        number: Number of the n-gram, int32 [rows], ascending within an image.
        first: First row of each image, and the end, int64 [images + 1].
    """

    number: np.ndarray
    first: np.ndarray

    def image(self) -> np.ndarray:
        """Image of each row, int32 [rows]."""
        return groups(np.diff(self.first))


class Counts(NamedTuple):
    """The different n-grams of one order in each caption, a row for each of them.

    Attributes:
        number: Number of the n-gram, int32 [rows], ascending within a caption.
        first: First row of each caption, and the end, int64 [captions + 1].
        occurrences: How often the caption has it, of the smallest integers that do, [rows].
    """

    number: np.ndarray
    first: np.ndarray
    occurrences: np.ndarray

    def caption(self) -> np.ndarray:
        """Caption of each row, int32 [rows]."""
        return groups(np.diff(self.first))

    def select(self, captions: np.ndarray) -> Counts:
        """The rows of some captions.

        Args:
            captions: Whether to keep each, bool [captions].
        """
        sizes = np.diff(self.first)
        rows = np.repeat(captions, sizes)
        return Counts(self.number[rows], offsets(sizes[captions]), self.occurrences[rows])


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

    def numbers_in(self, spelling: Sequence[str], keys: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        """For each order the number of each of these n-grams among others, int32.

        Args:
            spelling: Words of the others, in alphabetical order.
            keys: The others, as `keys` here.

        Returns:
            -1 for those that the others do not have.
        """
        if keys is self.keys:
            return [np.arange(len(own), dtype=np.int32) for own in keys]
        word = np.array([_place(spelling, word) for word in self.spelling], np.int64)
        found: list[np.ndarray] = []
        for own, others in zip(self.keys, keys, strict=True):
            beginning, last = np.divmod(own, max(len(word), 1))
            wanted = word[last]
            if found:
                beginning = found[-1][beginning]
                unknown = (beginning < 0) | (wanted < 0)
                # No key is negative.
                wanted = np.where(unknown, -1, pairs(beginning, wanted, len(spelling)))
            found.append(find(others, wanted).astype(np.int32))
        return found


def _count(
    words: np.ndarray, lengths: np.ndarray, size: int
) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray, tuple[Counts, ...]]:
    """Keys, the words and lengths as they came, and the counts of each order."""
    caption = groups(lengths)
    places, number = np.arange(len(words), dtype=np.int32), words
    # Words from each place to the end of its caption.
    left = offsets(lengths)[1:].astype(np.int32)[caption] - places
    keys, counts = [np.arange(size)], []
    for order in range(1, MAX_ORDER + 1):
        if order > 1:
            inside = left[places] >= order
            places = places[inside]
            key = number[inside].astype(np.int64) * size + words[places + (order - 1)]
            different, number = np.unique(key, return_inverse=True)
            keys.append(different)
        rows, occurrences = np.unique(
            pairs(caption[places], number, len(keys[-1])), return_counts=True
        )
        counts.append(
            Counts(
                *_apart(rows, len(keys[-1]), len(lengths)),
                occurrences.astype(np.min_scalar_type(occurrences.max(initial=0))),
            )
        )
    return tuple(keys), words, lengths, tuple(counts)


def by_image(counts: Counts, captions: np.ndarray, size: int) -> Types:
    """The different n-grams of each image's captions.

    Args:
        counts: Counts of captions, image by image.
        captions: Captions of each image, int64 [images].
        size: Different n-grams.
    """
    rows = pairs(groups(captions)[counts.caption()], counts.number, size)
    return Types(*_apart(np.unique(rows), size, len(captions)))


def pairs(group: np.ndarray, number: np.ndarray, size: int) -> np.ndarray:
    """One number for a group and one of `size` n-grams in it, int64; ascends like the two."""
    return group.astype(np.int64) * size + number


def _apart(rows: np.ndarray, size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """n-gram of each of ascending `pairs`, and the first row of each group, and the end."""
    group, number = np.divmod(rows, max(size, 1))
    return number.astype(np.int32), offsets(np.bincount(group, minlength=count))


def groups(sizes: np.ndarray) -> np.ndarray:
    """Group of each of the members of some groups in a row, int32."""
    return np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)


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
