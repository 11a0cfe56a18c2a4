"""How sure the scores are, and what they are to be read against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from components.caption_evaluator import scoring
from components.caption_evaluator.blessing import Interval
from components.caption_evaluator.config import BootstrapConfig

# A slice's own document frequencies would make its CIDEr-D another measure than that of the whole.
_NOT_IN_SLICES = ("cider_d",)


@dataclass(frozen=True)
class Confidence:
    """Bootstrap intervals of one evaluation.

    Attributes:
      intervals: Slice to metric to score and interval; empty without a bootstrap.
      differences: Metric to candidate minus baseline and interval; empty without a baseline.
    """

    intervals: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Interval]


def bootstrap(
    candidate: scoring.ImageStatistics,
    baseline: scoring.ImageStatistics | None,
    slices: Mapping[str, Sequence[str]],
    overall: str,
    config: BootstrapConfig,
) -> Confidence:
    """Resamples images, for the scores, the slices and the difference to the baseline.

    Args:
      candidate: The candidate's statistics.
      baseline: The baseline's, on the same images.
      slices: Slice to the ids of its images.
      overall: Name of the slice of all images.
      config: How often and how sure.
    """
    if not config.samples:
        return Confidence({}, {})

    def intervals_of(statistics: scoring.ImageStatistics) -> dict[str, Interval]:
        return _plain(
            scoring.bootstrap_intervals(
                statistics,
                resamples=config.samples,
                confidence=config.confidence,
                seed=config.seed,
            )
        )

    intervals = {overall: intervals_of(candidate)}
    for name, ids in slices.items():
        found = intervals_of(candidate.select(ids))
        intervals[name] = {
            metric: interval for metric, interval in found.items() if metric not in _NOT_IN_SLICES
        }
    if baseline is None:
        return Confidence(intervals, {})
    differences = scoring.paired_bootstrap(
        candidate,
        baseline,
        resamples=config.samples,
        confidence=config.confidence,
        seed=config.seed,
    )
    return Confidence(intervals, _plain(differences))


def _plain(intervals: Mapping[str, scoring.Interval]) -> dict[str, Interval]:
    return {
        metric: Interval(*interval)
        for metric, interval in intervals.items()
        if not math.isnan(interval.value)
    }
