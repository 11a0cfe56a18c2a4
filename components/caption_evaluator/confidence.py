"""How sure the scores are, and the difference to the baseline, over all images and in slices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfx_captioner.components.caption_evaluator.blessing import Interval
from tfx_captioner.components.caption_evaluator.config import BootstrapConfig
from tfx_captioner.components.scores import OVERALL
from tfx_captioner.metrics import bootstrap
from tfx_captioner.metrics.statistics import ImageStatistics

# Slice to metric to value and interval.
Intervals = Mapping[str, Mapping[str, Interval]]


@dataclass(frozen=True)
class Confidence:
    """Bootstrap intervals of one evaluation.

    Attributes:
      intervals: Intervals of the scores; empty without a bootstrap.
      differences: Intervals of candidate minus baseline; empty without a baseline.
    """

    intervals: Intervals
    differences: Intervals


def resample(
    candidate: ImageStatistics, baseline: ImageStatistics | None, config: BootstrapConfig
) -> Confidence:
    """Resamples images, for the scores and for the difference to the baseline.

    Args:
      candidate: Statistics of the candidate's captions.
      baseline: Statistics of the baseline's captions of the same images; None without one.
      config: Number of resamples, and level of confidence.
    """
    if not config.samples:
        return Confidence({}, {})
    options: dict[str, Any] = {
        "resamples": config.samples,
        "confidence": config.confidence,
        "seed": config.seed,
    }
    intervals, differences = {}, {}
    others = {OVERALL: baseline, **baseline.by_slice()} if baseline else {}
    for name, part in {OVERALL: candidate, **candidate.by_slice()}.items():
        if len(part.ids) < 2:
            continue  # every resample of one image is that image
        intervals[name] = _plain(bootstrap.bootstrap_intervals(part, **options))
        if baseline is not None:
            differences[name] = _plain(bootstrap.paired_bootstrap(part, others[name], **options))
    return Confidence(intervals, differences)


def _plain(intervals: Mapping[str, bootstrap.Interval]) -> dict[str, Interval]:
    return {
        metric: Interval(*interval)
        for metric, interval in intervals.items()
        if not math.isnan(interval.value)
    }
