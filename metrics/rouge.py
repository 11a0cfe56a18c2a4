"""ROUGE-L (Lin, 2004) as the COCO caption evaluation computes it: the mean over images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tfx_captioner.metrics.sums import MeanStatistics

_BETA = 1.2


def rouge_l(hypothesis: str, references: Sequence[str]) -> float:
    """ROUGE-L of one tokenised hypothesis against its tokenised references, in [0, 1].

    The F-score (beta 1.2, so that recall weighs more) of the longest common subsequence. Precision
    and recall are each the best over the references, possibly from two different ones.

    Raises:
        ValueError: There is no reference.
    """
    if not references:
        raise ValueError("ROUGE-L needs at least one reference per image. Received: none.")
    # At single spaces, as the reference implementation: an empty caption is one empty word there.
    words = hypothesis.split(" ")
    precision = recall = 0.0
    for reference in references:
        reference_words = reference.split(" ")
        common = longest_common_subsequence(words, reference_words)
        precision = max(precision, common / len(words))
        recall = max(recall, common / len(reference_words))
    if not precision or not recall:
        return 0.0
    return ((1 + _BETA**2) * precision * recall) / (recall + _BETA**2 * precision)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the table per word (Hyyrö, 2004).

    The table's differences are the bits of one integer, so that a row costs an addition.
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


@dataclass(slots=True)
class RougeStatistics(MeanStatistics):
    """Sufficient statistics of the mean ROUGE-L."""

    def add(self, hypothesis: str, references: Sequence[str]) -> None:
        """Adds one image."""
        self.add_value(rouge_l(hypothesis, references))
