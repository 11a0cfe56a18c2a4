"""From captions and TFMA's results to the summary that is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from components.caption_evaluator import evaluation
from components.caption_evaluator.blessing import Baseline, BaselineStatus, Interval, decide
from components.caption_evaluator.captioning import Captions
from components.caption_evaluator.config import EvaluatorConfig
from components.caption_evaluator.images import EvaluatedSplit
from components.caption_evaluator.summary import OVERALL, EvaluationSummary

EXAMPLE_COUNT = "example_count"


@dataclass(frozen=True)
class Judged:
    """What there is to judge.

    Attributes:
      config: Rules and slices.
      split: Images and references.
      captions: The candidate's.
      baseline: Whether there is something to compare with.
      baseline_captions: The baseline's captions, also of one that does not compare; None where
        there is none, or it could not caption.
    """

    config: EvaluatorConfig
    split: EvaluatedSplit
    captions: Captions
    baseline: Baseline
    baseline_captions: Captions | None


def summarize(
    model_name: str, uri: str, judged: Judged, seconds: Mapping[str, float]
) -> EvaluationSummary:
    """Reads TFMA's results and decides.

    Args:
      model_name: Name for the report.
      uri: Folder of the evaluation, with TFMA's results in it.
      judged: Captions and rules.
      seconds: Part of the evaluation to the time it took.
    """
    results = evaluation.read_scores(uri, with_baseline=judged.baseline_captions is not None)
    scores, baseline_scores = results.candidate, results.baseline.get(OVERALL, {})
    baseline_scores.pop(EXAMPLE_COUNT, None)
    sizes = {name: int(values.pop(EXAMPLE_COUNT)) for name, values in scores.items()}
    differences = {}
    if judged.baseline.status is BaselineStatus.COMPARABLE:
        differences = {
            metric: Interval(value - baseline_scores[metric])
            for metric, value in scores[OVERALL].items()
        }
    verdict = decide(
        judged.config,
        scores[OVERALL],
        evaluation.failed_thresholds(uri),
        judged.baseline,
        differences,
    )
    return EvaluationSummary(
        model_name=model_name,
        split=judged.config.split,
        split_fingerprint=judged.split.fingerprint,
        image_count=len(judged.split.images),
        verdict=verdict,
        baseline=judged.baseline,
        scores=scores,
        slice_sizes=sizes,
        baseline_scores=baseline_scores,
        differences=differences,
        undecodable=judged.split.undecodable,
        refused=judged.captions.refused,
        empty=judged.captions.empty,
        seconds=dict(seconds),
    )
