"""What an evaluation found, as one JSON file that reports, selectors and people read."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass
from tfx.dsl.io import fileio
from tfx.utils import io_utils

from tfx_captioner.components.caption_evaluator.blessing import Baseline, Interval, Verdict
from tfx_captioner.components.scores import OVERALL, MetricValues
from tfx_captioner.metrics.languages import ENGLISH, PENN_TREEBANK

SUMMARY_FILE = "verdict.json"


@dataclass(frozen=True)
class EvaluationSummary:
    """Verdict, scores and what was left out; `verdict.json` of an evaluation.

    Attributes:
      model_name: Such as `resnet_gru`.
      split: Name of the split.
      split_fingerprint: Fingerprint of its ids and references; scores compare where it is equal.
      image_count: Images scored.
      verdict: Blessed or not, with reasons.
      baseline: Whether there was something to compare with.
      scores: Slice to metrics; the slice of all images is `OVERALL`.
      train_fingerprint: Fingerprint of ids and captions of the train split; empty without one.
      slice_sizes: Slice to number of images.
      baseline_scores: Slice to metrics of the baseline; empty without one.
      intervals: Slice to metric to score and bootstrap interval.
      confidence: Share of the resampled scores that an interval holds.
      differences: Slice to metric to candidate minus baseline; empty without a comparable one.
      context: Line, such as the human one, to slice to metrics.
      unavailable: Metric, slice, or line of the context, to why it was not computed.
      language: Language that the captions were scored in.
      segmentation: How they became words; scores compare where it is equal.
      warning: What makes the scores worthless; empty where nothing is known to.
      undecodable: Image id to why it was not scored.
      refused: Ids of images the model raised an error for, scored as an empty caption.
      empty: Ids of images that got an empty caption, those refused included.
    """

    model_name: str
    split: str
    split_fingerprint: str
    image_count: int
    verdict: Verdict
    baseline: Baseline
    scores: Mapping[str, MetricValues]
    train_fingerprint: str = ""
    slice_sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    baseline_scores: Mapping[str, MetricValues] = dataclasses.field(default_factory=dict)
    intervals: Mapping[str, Mapping[str, Interval]] = dataclasses.field(default_factory=dict)
    confidence: float = 0.95
    differences: Mapping[str, Mapping[str, Interval]] = dataclasses.field(default_factory=dict)
    context: Mapping[str, Mapping[str, MetricValues]] = dataclasses.field(default_factory=dict)
    unavailable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    language: str = ENGLISH
    segmentation: str = PENN_TREEBANK
    warning: str = ""
    undecodable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    refused: list[str] = dataclasses.field(default_factory=list)
    empty: list[str] = dataclasses.field(default_factory=list)

    def interval(self, metric: str, slice_name: str = OVERALL) -> Interval | None:
        """The bootstrap interval of a metric, where there is one."""
        return self.intervals.get(slice_name, {}).get(metric)

    def difference(self, metric: str, slice_name: str = OVERALL) -> Interval | None:
        """Candidate minus baseline, where the two compare."""
        return self.differences.get(slice_name, {}).get(metric)


_ADAPTER = TypeAdapter(EvaluationSummary)


def write_summary(uri: str, summary: EvaluationSummary) -> None:
    """Writes `verdict.json` into the folder of an evaluation; NaN becomes null."""
    text = _ADAPTER.dump_json(summary, indent=1).decode()
    io_utils.write_string_file(os.path.join(uri, SUMMARY_FILE), text)


def read_summary(uri: str) -> EvaluationSummary:
    """Reads `verdict.json` of an evaluation.

    Raises:
      FileNotFoundError: There is none in the folder.
    """
    path = os.path.join(uri, SUMMARY_FILE)
    if not fileio.exists(path):
        raise FileNotFoundError(f"{uri} is no evaluation of a CaptionEvaluator: {path} is missing.")
    return _ADAPTER.validate_json(io_utils.read_string_file(path))
