"""How sure the scores are, and the difference to the baseline, over all images and in slices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfx_captioner.components.caption_evaluator.blessing import Interval
from tfx_captioner.components.caption_evaluator.config import BootstrapConfig
from tfx_captioner.metrics import scoring

# Slice to metric to value and interval.
Intervals = Mapping[str, Mapping[str, Interval]]


@dataclass(frozen=True)
class Confidence:
    """Bootstrap intervals of one evaluation.

    Attributes:
      intervals: Of the scores; empty without a bootstrap.
      differences: Of candidate minus baseline; empty without a baseline.
    """

    intervals: Intervals
    differences: Intervals


def bootstrap(
    candidate: scoring.ImageStatistics,
    baseline: scoring.ImageStatistics | None,
    slices: Mapping[str, Sequence[str]],
    overall: str,
    config: BootstrapConfig,
) -> Confidence:
    """Resamples images, for the scores and for the difference to the baseline.

    Args:
      candidate: The candidate's statistics.
      baseline: The baseline's, on the same images.
      slices: Slice to the ids of its images.
      overall: Name of the slice of all images.
      config: How often and how sure.
    """
    if not config.samples:
        return Confidence({}, {})
    intervals, differences = {}, {}
    for name, ids in {overall: candidate.ids, **slices}.items():
        if len(ids) < 2:
            continue  # every resample of one image is that image
        part = _part(candidate, ids)
        intervals[name] = _plain(
            scoring.bootstrap_intervals(
                part, resamples=config.samples, confidence=config.confidence, seed=config.seed
            )
        )
        if baseline is not None:
            paired = scoring.paired_bootstrap(
                part,
                _part(baseline, ids),
                resamples=config.samples,
                confidence=config.confidence,
                seed=config.seed,
            )
            differences[name] = _plain(paired)
    return Confidence(intervals, differences)


def _part(statistics: scoring.ImageStatistics, ids: Sequence[str]) -> scoring.ImageStatistics:
    """Those of a slice; all of them as they are."""
    return statistics if tuple(ids) == statistics.ids else statistics.select(ids)


def _plain(intervals: Mapping[str, scoring.Interval]) -> dict[str, Interval]:
    return {
        metric: Interval(*interval)
        for metric, interval in intervals.items()
        if not math.isnan(interval.value)
    }
