"""Corpus BLEU (Papineni et al., 2002) as the COCO caption evaluation computes it.

BLEU pools clipped n-gram matches over the corpus before it divides, so it is a function of ten
sums of integers: the same to the last bit however the corpus is split and merged.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tfx_captioner.metrics.ngrams import MAX_ORDER, NGram, count_ngrams, ngrams

# The reference implementation keeps its divisions defined with these; they decide the last digits.
_TINY = 1e-15
_SMALL = 1e-9


@dataclass(slots=True)
class BleuStatistics:
    """Sufficient statistics of corpus BLEU.

    Attributes:
        matches: Clipped n-gram matches by order, 1 to 4.
        totals: n-grams in the hypotheses by order.
        hypothesis_length: Words in the hypotheses.
        reference_length: For each hypothesis the words of the reference closest to it in length
            (the shorter one of a tie), summed.
    """

    matches: list[int] = field(default_factory=lambda: [0] * MAX_ORDER)
    totals: list[int] = field(default_factory=lambda: [0] * MAX_ORDER)
    hypothesis_length: int = 0
    reference_length: int = 0

    def add(self, hypothesis: str, references: Sequence[str]) -> None:
        """Adds one image: its tokenised hypothesis against all its tokenised references."""
        self += bleu_statistics(hypothesis, references)

    def __iadd__(self, other: BleuStatistics) -> BleuStatistics:
        for order in range(MAX_ORDER):
            self.matches[order] += other.matches[order]
            self.totals[order] += other.totals[order]
        self.hypothesis_length += other.hypothesis_length
        self.reference_length += other.reference_length
        return self

    def vector(self) -> list[int]:
        """The ten sums in a row, for a resampling that adds them up as a matrix."""
        return [*self.matches, *self.totals, self.hypothesis_length, self.reference_length]


def closest_reference_length(length: int, reference_lengths: Sequence[int]) -> int:
    """The reference length nearest to `length`; of two equally near ones the shorter."""
    return min(reference_lengths, key=lambda candidate: (abs(candidate - length), candidate))


def bleu_statistics(hypothesis: str, references: Sequence[str]) -> BleuStatistics:
    """Statistics of one tokenised hypothesis against its tokenised references.

    Raises:
        ValueError: There is no reference.
    """
    if not references:
        raise ValueError("BLEU needs at least one reference per image. Received: none.")
    counts = count_ngrams(hypothesis)
    most: dict[NGram, int] = {}
    for reference in references:
        # Of a reference only what the hypothesis has too can match, a small part of it.
        for ngram, count in Counter(filter(counts.__contains__, ngrams(reference))).items():
            if count > most.get(ngram, 0):
                most[ngram] = count
    length = len(hypothesis.split())
    matches = [0] * MAX_ORDER
    for ngram, count in counts.items():
        matches[len(ngram) - 1] += min(count, most.get(ngram, 0))
    return BleuStatistics(
        matches=matches,
        totals=[max(0, length - order) for order in range(MAX_ORDER)],
        hypothesis_length=length,
        reference_length=closest_reference_length(
            length, [len(reference.split()) for reference in references]
        ),
    )


def bleu_scores(statistics: BleuStatistics) -> list[float]:
    """BLEU-1 to BLEU-4, each in [0, 1]; NaN without any image.

    The geometric mean of the first n precisions times the brevity penalty. No smoothing: a corpus
    without a single matching 4-gram scores next to zero.
    """
    if not statistics.reference_length and not statistics.hypothesis_length:
        return [math.nan] * MAX_ORDER
    ratio = (statistics.hypothesis_length + _TINY) / (statistics.reference_length + _SMALL)
    brevity_penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores = []
    product = 1.0
    for order in range(MAX_ORDER):
        product *= (statistics.matches[order] + _TINY) / (statistics.totals[order] + _SMALL)
        scores.append(product ** (1.0 / (order + 1)) * brevity_penalty)
    return scores
