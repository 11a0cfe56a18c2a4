"""What captions are like, beside how well they match: variety, novelty, health.

Definitions: distinct-n is the share of different n-grams among all n-grams of the hypotheses (Li et
al., 2016). Vocabulary coverage is the share of the references' different words that the hypotheses
use (van Miltenburg et al., 2018). Both fall and rise with the number of captions: compare equal
sets only. A dangling caption ends in a word that no sentence ends in, the sign of a decoder that
ran into its length limit; the words are English ones, so that other languages go without.

Means over images are resampled like the scores. The others count *different* words: a resample
holds some images twice and a third of them not at all, so that it always has fewer different words
than a set of its size, and its scores lie beside the one that they should surround. Their intervals
are made by the jackknife (Efron & Stein, "The jackknife estimate of variance", 1981), which leaves
each image out once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from tfx_captioner.metrics.languages import ENGLISH, tokenizer
from tfx_captioner.metrics.matches import Comparison
from tfx_captioner.metrics.ngrams import Types, offsets

# What a model writes for a word outside its vocabulary.
UNKNOWN_TOKEN = "<unk>"

_ARTICLES = ("a", "an", "the", "this", "that", "his", "her", "its", "their", "some")
_PREPOSITIONS = (
    *("of", "in", "on", "at", "to", "for", "from", "with", "by", "into", "onto", "near", "under"),
    *("over", "behind", "beside", "between", "through"),
)
DANGLING_WORDS = frozenset((*_ARTICLES, *_PREPOSITIONS, "and", "or", "as", "is", "are", "am"))


@dataclass(frozen=True, slots=True, eq=False)
class ImageDescriptions:
    """What each image adds to the measures.

    Attributes:
        names: Names of the means.
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
        return ImageDescriptions(
            self.names,
            self.means[rows],
            self.pair_counts[rows],
            _select(self.words, rows),
            _select(self.pairs, rows),
            _select(self.reference_words, rows),
        )

    def values(self) -> dict[str, float]:
        """The measures of all images by TFMA name, NaN where there is nothing to divide by."""
        words, references = self._vocabularies()
        pairs = np.bincount(self.pairs.number)
        sums = self.means.sum(axis=0).tolist()
        return {
            "distinct_1": _ratio((words > 0).sum(), self._lengths().sum()),
            "distinct_2": _ratio((pairs > 0).sum(), self.pair_counts.sum()),
            "vocabulary_coverage": _ratio(((words * references) > 0).sum(), (references > 0).sum()),
            **{name: _ratio(sums[i], len(self.means)) for i, name in enumerate(self.names)},
        }

    def leave_one_out(self) -> dict[str, np.ndarray]:
        """The measures that do not resample, without each image in turn: float64 [images]."""
        images, lengths = len(self.means), self._lengths()
        words, references = self._vocabularies()
        pairs = np.bincount(self.pairs.number)
        own_words, own_references = (
            _only_in(types, len(words)) for types in (self.words, self.reference_words)
        )
        shared = (words > 0) & (references > 0)
        # A word that both use is lost with the only image in which the one, or the other, does.
        lost = np.concatenate(
            [own_words[shared], own_references[shared & (own_references != own_words)]]
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "distinct_1": ((words > 0).sum() - _tally(own_words, images))
                / (lengths.sum() - lengths),
                "distinct_2": ((pairs > 0).sum() - _tally(_only_in(self.pairs, len(pairs)), images))
                / (self.pair_counts.sum() - self.pair_counts),
                "vocabulary_coverage": (shared.sum() - _tally(lost, images))
                / ((references > 0).sum() - _tally(own_references, images)),
            }

    def _lengths(self) -> np.ndarray:
        return self.means[:, self.names.index("mean_caption_length")]

    def _vocabularies(self) -> tuple[np.ndarray, np.ndarray]:
        """Images with each word in the hypothesis, and in a reference, int64 [words]."""
        kinds = self.words, self.reference_words
        size = 1 + max(types.number.max(initial=-1) for types in kinds)
        words, references = (np.bincount(types.number, minlength=size) for types in kinds)
        return words, references


def describe(
    comparison: Comparison,
    hypotheses: Sequence[str],
    training_captions: Collection[str] | None = None,
    *,
    language: str = ENGLISH,
) -> ImageDescriptions:
    """Counts what the measures are made of.

    Args:
        comparison: Hypotheses and references, counted.
        hypotheses: Tokenised hypothesis of each image.
        training_captions: Tokenised captions of the training split, for `novel_captions`.
        language: Language of the captions; `dangling_captions` are counted in English only.
    """
    # The tokenizer takes some unknown tokens apart ("[UNK]"): look for all its pieces in a row.
    unknown = f" {tokenizer(language)(UNKNOWN_TOKEN)} "
    means = {
        "mean_caption_length": comparison.hypotheses.lengths,
        "unknown_word_captions": [unknown in f" {text} " for text in hypotheses],
    }
    if language == ENGLISH:
        means["dangling_captions"] = [
            DANGLING_WORDS.issuperset(text.split()[-1:] or [""]) for text in hypotheses
        ]
    if training_captions is not None:
        means["novel_captions"] = [text not in training_captions for text in hypotheses]
    words, pairs = comparison.hypotheses.counts[:2]
    # A word of no reference comes behind all of theirs.
    number = np.where(
        comparison.numbers[0] < 0,
        len(comparison.references.spelling) + np.arange(len(comparison.numbers[0])),
        comparison.numbers[0],
    )
    return ImageDescriptions(
        tuple(means),
        np.array(list(means.values()), np.float64).T,
        np.maximum(0, comparison.hypotheses.lengths - 1),
        Types(number[words.number].astype(np.int32), words.first),
        Types(pairs.number, pairs.first),
        comparison.documents[0],
    )


def jackknife_error(leave_one_out: np.ndarray) -> float:
    """Standard error of a statistic, of its values without each image; NaN where there is none.

    Args:
        leave_one_out: float64 [images].

    Example:
        >>> jackknife_error(np.array([2.0, 1.0, 3.0]))  # of a mean: the usual standard error
        1.1547005383792515
    """
    images = len(leave_one_out)
    if images < 2:
        return math.nan
    spread = leave_one_out - leave_one_out.mean()
    return math.sqrt((images - 1) / images * float(spread @ spread))


def _select(types: Types, images: np.ndarray) -> Types:
    """Those of some images, in the order of their rows, int64 [images]."""
    sizes = np.diff(types.first)[images]
    first = offsets(sizes)
    rows = np.repeat(types.first[images] - first[:-1], sizes) + np.arange(first[-1])
    return Types(types.number[rows], first)


def _only_in(types: Types, size: int) -> np.ndarray:
    """The one image that has each word, -1 where several have it or none, int64 [size]."""
    only = np.full(size, -1)
    only[types.number] = types.image()
    only[np.bincount(types.number, minlength=size) != 1] = -1
    return only


def _tally(rows: np.ndarray, images: int) -> np.ndarray:
    return np.bincount(rows[rows >= 0], minlength=images)


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan
