"""Corpus BLEU (Papineni et al., 2002) as the COCO caption evaluation computes it.

BLEU pools clipped n-gram matches over the corpus before it divides, so it is a function of ten
sums of integers: the same to the last bit however the corpus is split and merged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tfx_captioner.metrics.matches import Comparison
from tfx_captioner.metrics.ngrams import MAX_ORDER, offsets

COUNTS = 2 * MAX_ORDER + 2
# The reference implementation keeps its divisions defined with these; they decide the last digits.
_TINY = 1e-15
_SMALL = 1e-9


def bleu_counts(comparison: Comparison) -> np.ndarray:
    """What each image adds to the sums.

    Returns:
        int64 [images, 10]: clipped n-gram matches of orders 1 to 4, n-grams of the hypothesis of
        orders 1 to 4, words of the hypothesis, and words of the reference closest to it in length,
        the shorter one of a tie.
    """
    columns = []
    for own, texts, matches in zip(
        comparison.hypotheses.counts,
        comparison.references.counts,
        comparison.matches,
        strict=True,
    ):
        most = np.zeros(len(own.number), np.int32)
        np.maximum.at(most, matches.hypothesis, texts.occurrences[matches.reference])
        clipped = np.minimum(own.occurrences, most)
        columns.append(np.bincount(own.caption(), clipped, minlength=len(own.first) - 1))
    lengths = comparison.hypotheses.lengths
    columns += [np.maximum(0, lengths - order) for order in range(MAX_ORDER)]
    columns += [lengths, _closest(lengths, comparison.references.lengths, comparison.captions)]
    return np.stack(columns, axis=1).astype(np.int64)


def _closest(lengths: np.ndarray, references: np.ndarray, captions: np.ndarray) -> np.ndarray:
    """Length of the reference nearest to each hypothesis; of two equally near ones the shorter."""
    bound = references.max(initial=0) + 1
    distance = np.abs(references - np.repeat(lengths, captions))
    return np.minimum.reduceat(distance * bound + references, offsets(captions)[:-1]) % bound


def bleu_scores(sums: Sequence[float]) -> list[float]:
    """BLEU-1 to BLEU-4, each in [0, 1]; NaN without any image.

    The geometric mean of the first n precisions times the brevity penalty. No smoothing: a corpus
    without a single matching 4-gram scores next to zero.

    Args:
        sums: The ten columns of `bleu_counts`, added up.

    Example:
        >>> [round(score, 3) for score in bleu_scores([2, 1, 0, 0, 3, 2, 1, 0, 3, 3])]
        [0.667, 0.577, 0.0, 0.0]
    """
    matches, totals = sums[:MAX_ORDER], sums[MAX_ORDER : 2 * MAX_ORDER]
    hypothesis_length, reference_length = sums[2 * MAX_ORDER :]
    if not reference_length and not hypothesis_length:
        return [math.nan] * MAX_ORDER
    ratio = (hypothesis_length + _TINY) / (reference_length + _SMALL)
    brevity_penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores = []
    product = 1.0
    for order in range(MAX_ORDER):
        product *= (matches[order] + _TINY) / (totals[order] + _SMALL)
        scores.append(product ** (1.0 / (order + 1)) * brevity_penalty)
    return scores
