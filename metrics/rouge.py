"""ROUGE-L (Lin, 2004) as the COCO caption evaluation computes it: the mean over images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from tfx_captioner.metrics.matches import Comparison
from tfx_captioner.metrics.ngrams import CountedCaptions, groups, offsets

_BETA = 1.2
# Words of a caption whose place in it fits into a bit of an integer of 64.
_MAX_WORDS = 63
_CAPTIONS_PER_CHUNK = 16_384


def rouge_l(hypothesis: str, references: Sequence[str]) -> float:
    """ROUGE-L of one tokenised hypothesis against its tokenised references, in [0, 1].

    The F-score (beta 1.2, so that recall weighs more) of the longest common subsequence. Precision
    and recall are each the best over the references, possibly from two different ones.

    Example:
        >>> round(rouge_l("a dog runs", ["the dog runs fast", "a cat"]), 4)
        0.5571
    """
    # At single spaces, as the reference implementation: an empty caption is one empty word there.
    words = hypothesis.split(" ")
    precision = recall = 0.0
    for reference in references:
        reference_words = reference.split(" ")
        common = longest_common_subsequence(words, reference_words)
        precision = max(precision, common / len(words))
        recall = max(recall, common / len(reference_words))
    return float(_f_score(np.array([precision]), np.array([recall]))[0])


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table per word (Hyyrö, 2004).

    The table's differences are the bits of one integer, so that a row costs an addition.

    Example:
        >>> longest_common_subsequence("a dog runs".split(), "a red dog".split())
        2
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | (1 << place)
    everywhere = (1 << len(first)) - 1
    row = everywhere
    for word in second:
        matched = row & places.get(word, 0)
        row = ((row + matched) | (row - matched)) & everywhere
    return len(first) - row.bit_count()


def rouge_l_scores(
    comparison: Comparison, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
) -> np.ndarray:
    """`rouge_l` of each image, many at once.

    Args:
        comparison: The captions below, counted.
        hypotheses: One tokenised caption per image.
        references: Tokenised references of each image.

    Returns:
        float64 [images].
    """
    lengths, own_lengths = comparison.references.lengths, comparison.hypotheses.lengths
    image = groups(comparison.captions)
    common = _common_subsequences(comparison, image)
    first = offsets(comparison.captions)[:-1]
    precision = np.maximum.reduceat(common / np.maximum(own_lengths, 1)[image], first)
    recall = np.maximum.reduceat(common / np.maximum(lengths, 1), first)
    scores = _f_score(precision, recall)
    regular = np.logical_and.reduceat(
        _regular(comparison.references, chain.from_iterable(references)), first
    )
    for row in np.flatnonzero(~(regular & _regular(comparison.hypotheses, hypotheses))):
        scores[row] = rouge_l(hypotheses[row], references[row])
    return scores


def _regular(counted: CountedCaptions, captions: Iterable[str]) -> np.ndarray:
    """Whether each caption has one to 63 words with single spaces between them, bool."""
    spaces = counted.lengths - 1
    letters = np.array([len(word) for word in counted.spelling], np.int64)
    letters = np.bincount(
        groups(counted.lengths), letters[counted.words], minlength=len(counted.lengths)
    )
    sizes = np.array([(len(caption), caption.count(" ")) for caption in captions]).reshape(-1, 2)
    at_spaces = (sizes[:, 0] == letters + spaces) & (sizes[:, 1] == spaces)
    return at_spaces & (spaces >= 0) & (spaces < _MAX_WORDS)


def _f_score(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    product = (1 + _BETA**2) * precision * recall
    total = recall + _BETA**2 * precision
    return np.divide(product, total, out=np.zeros_like(product), where=product > 0)


def _common_subsequences(comparison: Comparison, image: np.ndarray) -> np.ndarray:
    """`longest_common_subsequence` of each reference and its hypothesis, int64 [references].

    Captions are cut after so many words as an integer has bits.
    """
    # Words of hypotheses by the references' numbers; -1 is found in no reference.
    own = _table(comparison.numbers[0][comparison.hypotheses.words], comparison.hypotheses.lengths)
    words = comparison.references.words
    lengths = comparison.references.lengths
    first_word = offsets(lengths)
    common = np.zeros(len(image), np.int64)
    for first in range(0, len(image), _CAPTIONS_PER_CHUNK):
        chunk = slice(first, first + _CAPTIONS_PER_CHUNK)
        bounds = first_word[[first, min(chunk.stop, len(image))]]
        columns = np.ascontiguousarray(own[image[chunk]].T)
        row = everywhere = (
            np.uint64(1)
            << np.minimum(comparison.hypotheses.lengths, _MAX_WORDS).astype(np.uint64)[image[chunk]]
        ) - np.uint64(1)
        for word in _table(words[slice(*bounds)], lengths[chunk], fill=-2).T:
            matched = np.zeros(len(row), np.uint64)
            for place, column in enumerate(columns):
                matched |= (column == word).astype(np.uint64) << np.uint64(place)
            matched &= row
            row = ((row + matched) | (row - matched)) & everywhere
        common[chunk] = np.unpackbits((row ^ everywhere).view(np.uint8)).reshape(-1, 64).sum(axis=1)
    return common


def _table(words: np.ndarray, lengths: np.ndarray, fill: int = -1) -> np.ndarray:
    """The first words of each caption, int32 [captions, at most 63]."""
    place = np.arange(len(words)) - np.repeat(offsets(lengths)[:-1], lengths)
    caption = groups(lengths)
    inside = place < _MAX_WORDS
    table = np.full((len(lengths), min(lengths.max(initial=0), _MAX_WORDS)), fill, np.int32)
    table[caption[inside], place[inside]] = words[inside]
    return table
