"""What captions are like, image by image, so that intervals over images can be had.

The measures of `metrics.diversity`, from the same counts. Means over images are resampled like the
scores. The other three count *different* words: a resample holds some images twice and a third of
them not at all, so that it always has fewer different words than a set of its size, and its scores
lie beside the one that they should surround. Their intervals are made by the jackknife (Efron &
Stein, "The jackknife estimate of variance", 1981), which leaves each image out once.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfx_captioner.metrics.diversity import DiversityStatistics

MEANS = ("mean_caption_length", "unknown_word_captions", "dangling_captions", "novel_captions")


class Types(NamedTuple):
    """Which different words, or pairs of them, occur in which images.

    Attributes:
        row: Image, int64 [occurrences]; a type comes once for each image that has it.
        number: Type, int64 [occurrences].
    """

    row: np.ndarray
    number: np.ndarray

    def select(self, place: np.ndarray) -> Types:
        """The occurrences in some images.

        Args:
            place: New row of each image, -1 for those left out, int64 [images].
        """
        row = place[self.row]
        return Types(row[row >= 0], self.number[row >= 0])

    def different(self) -> set[int]:
        """The types."""
        return set(np.unique(self.number).tolist())

    def only_in(self) -> dict[int, int]:
        """Type to the one image that has it, of the types that no other image has."""
        numbers, first, counts = np.unique(self.number, return_index=True, return_counts=True)
        alone = counts == 1
        return dict(zip(numbers[alone].tolist(), self.row[first[alone]].tolist(), strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class ImageDescriptions:
    """What each image adds to the measures.

    Attributes:
        names: Of the means, some of `MEANS`.
        means: float64 [images, means].
        pair_counts: Pairs of neighbouring words of each hypothesis, int64 [images].
        words: Words of the hypotheses.
        pairs: Pairs of neighbouring words of the hypotheses.
        reference_words: Words of the references, numbered like those of the hypotheses.
    """

    names: tuple[str, ...]
    means: np.ndarray
    pair_counts: np.ndarray
    words: Types
    pairs: Types
    reference_words: Types

    def select(self, rows: np.ndarray) -> ImageDescriptions:
        """Those of some images, in the order of their rows."""
        place = np.full(len(self.means), -1, np.int64)
        place[rows] = np.arange(len(rows))
        return ImageDescriptions(
            self.names,
            self.means[rows],
            self.pair_counts[rows],
            self.words.select(place),
            self.pairs.select(place),
            self.reference_words.select(place),
        )

    def values(self) -> dict[str, float]:
        """The measures of all images by TFMA name, NaN where there is nothing to divide by."""
        images = len(self.means)
        lengths, pairs = self._lengths().sum(), self.pair_counts.sum()
        words, references = self.words.different(), self.reference_words.different()
        sums = self.means.sum(axis=0).tolist()
        return {
            "distinct_1": _ratio(len(words), lengths),
            "distinct_2": _ratio(len(self.pairs.different()), pairs),
            "vocabulary_coverage": _ratio(len(words & references), len(references)),
            **{name: _ratio(sums[i], images) for i, name in enumerate(self.names)},
        }

    def leave_one_out(self) -> dict[str, np.ndarray]:
        """The measures that do not resample, without each image in turn: float64 [images]."""
        images = len(self.means)
        lengths, own_words, own_pairs = self._lengths(), self.words.only_in(), self.pairs.only_in()
        own_references = self.reference_words.only_in()
        words, references = self.words.different(), self.reference_words.different()
        # A word that both use is lost with the only image in which the one, or the other, does.
        shared = words & references
        lost = [
            place
            for number in shared
            for place in {own_words.get(number), own_references.get(number)}
            if place is not None
        ]
        pairs = len(self.pairs.different())
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "distinct_1": (len(words) - _tally(own_words.values(), images))
                / (lengths.sum() - lengths),
                "distinct_2": (pairs - _tally(own_pairs.values(), images))
                / (self.pair_counts.sum() - self.pair_counts),
                "vocabulary_coverage": (len(shared) - _tally(lost, images))
                / (len(references) - _tally(own_references.values(), images)),
            }

    def _lengths(self) -> np.ndarray:
        return self.means[:, self.names.index("mean_caption_length")]


def describe(
    images: Iterable[tuple[str, Sequence[str]]], training_captions: Collection[str] | None = None
) -> ImageDescriptions:
    """Counts what the measures are made of.

    Args:
        images: Tokenised hypothesis and tokenised references of each.
        training_captions: Tokenised captions of the training split, for `novel_captions`.
    """
    names = MEANS if training_captions is not None else MEANS[:-1]
    numbers: dict[str, int] = {}
    means, pair_counts = [], []
    # Words, pairs, words of references: rows and numbers of each.
    occurrences = [(array("q"), array("q")) for _ in range(3)]
    for row, (hypothesis, references) in enumerate(images):
        own = DiversityStatistics()
        own.add(hypothesis, references)
        values = [own.words, own.unknown, own.dangling]
        if training_captions is not None:
            values.append(hypothesis not in training_captions)
        means.append(values)
        pair_counts.append(own.pairs)
        texts = (own.distinct_words, own.distinct_pairs, own.reference_words)
        for (rows, types), kind in zip(occurrences, texts, strict=True):
            rows.extend([row] * len(kind))
            types.extend(numbers.setdefault(text, len(numbers)) for text in kind)
    words, pairs, reference_words = (
        Types(np.array(rows, np.int64), np.array(types, np.int64)) for rows, types in occurrences
    )
    return ImageDescriptions(
        names,
        np.array(means, np.float64).reshape(-1, len(names)),
        np.array(pair_counts, np.int64),
        words,
        pairs,
        reference_words,
    )


def jackknife_error(leave_one_out: np.ndarray) -> float:
    """Standard error of a statistic, of its values without each image; NaN where there is none.

    Args:
        leave_one_out: float64 [images].
    """
    images = len(leave_one_out)
    if images < 2:
        return math.nan
    spread = leave_one_out - leave_one_out.mean()
    return math.sqrt((images - 1) / images * float(spread @ spread))


def _tally(rows: Iterable[int], images: int) -> np.ndarray:
    return np.bincount(np.fromiter(rows, np.int64), minlength=images)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
