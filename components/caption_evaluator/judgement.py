"""From TFMA's results to the summary that is written down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfx_captioner.components.caption_evaluator import evaluation
from tfx_captioner.components.caption_evaluator.blessing import (
    Baseline,
    BaselineStatus,
    Interval,
    Measurements,
    decide,
)
from tfx_captioner.components.caption_evaluator.confidence import Intervals, resample
from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
from tfx_captioner.components.caption_evaluator.summary import EvaluationSummary
from tfx_captioner.components.caption_evaluator.tfma_metrics import EXAMPLE_COUNT
from tfx_captioner.components.caption_files import Generation
from tfx_captioner.components.reference_scorer.summary import ReferencesSummary
from tfx_captioner.components.scores import NEAREST, OVERALL, MetricValues, SliceScores
from tfx_captioner.metrics.statistics import ImageStatistics


@dataclass(frozen=True)
class Evaluated:
    """What is evaluated.

    Attributes:
      model_name: Name of the model.
      encoder: Encoder whose nearest neighbours it is held against; empty for none.
      config: Rules and the bootstrap.
      references: The split, and the scores of what needs no model.
      generation: How its captions were generated.
      empty: Ids of images that got an empty caption.
      statistics: Counts of its captions.
      baseline: Whether there is something to compare with.
      baseline_statistics: Counts of the baseline's captions, also of one that does not compare;
        None without any.
    """

    model_name: str
    encoder: str
    config: EvaluatorConfig
    references: ReferencesSummary
    generation: Generation
    empty: Sequence[str]
    statistics: ImageStatistics
    baseline: Baseline
    baseline_statistics: ImageStatistics | None


def summarize(uri: str, evaluated: Evaluated) -> EvaluationSummary:
    """Reads TFMA's results, resamples, and decides.

    Args:
      uri: Folder of the evaluation, with TFMA's results in it.
      evaluated: What is evaluated.
    """
    baseline = evaluated.baseline_statistics
    comparable = evaluated.baseline.status is BaselineStatus.COMPARABLE
    results = evaluation.read_scores(uri, with_baseline=baseline is not None)
    scores = results.candidate
    sizes = {name: int(values.pop(EXAMPLE_COUNT)) for name, values in scores.items()}
    for values in results.baseline.values():
        del values[EXAMPLE_COUNT]
    confidence = resample(
        evaluated.statistics, baseline if comparable else None, evaluated.config.bootstrap
    )
    differences = (
        _differences(scores, results.baseline, confidence.differences) if comparable else {}
    )
    context = _context(evaluated)
    unavailable = _unavailable(evaluated, context)
    measured = Measurements(
        scores,
        evaluation.failed_thresholds(uri),
        differences,
        unavailable,
        context.get(NEAREST, {}).get(OVERALL, {}),
        evaluated.references.warning,
    )
    references = evaluated.references
    return EvaluationSummary(
        model_name=evaluated.model_name,
        split=references.split,
        split_fingerprint=references.split_fingerprint,
        train_fingerprint=references.train_fingerprint,
        image_count=len(evaluated.statistics.ids),
        verdict=decide(evaluated.config, measured, evaluated.baseline),
        baseline=evaluated.baseline,
        scores=scores,
        slice_sizes=sizes,
        baseline_scores=results.baseline,
        intervals=confidence.intervals,
        confidence=evaluated.config.bootstrap.confidence,
        differences=differences,
        context=context,
        unavailable=unavailable,
        language=references.language,
        segmentation=references.segmentation,
        warning=references.warning,
        undecodable=references.undecodable,
        refused=[
            image_id
            for image_id in evaluated.generation.refused
            if image_id not in references.undecodable
        ],
        empty=list(evaluated.empty),
    )


def _context(evaluated: Evaluated) -> Mapping[str, Mapping[str, MetricValues]]:
    """Lines that the scores are read against, the nearest neighbour of its encoder the last."""
    nearest = evaluated.references.nearest.get(evaluated.encoder)
    return {**evaluated.references.context, **({NEAREST: nearest} if nearest else {})}


def _unavailable(
    evaluated: Evaluated, context: Mapping[str, Mapping[str, MetricValues]]
) -> Mapping[str, str]:
    """What a reader will miss, to why it is not there."""
    reasons = dict(evaluated.references.unavailable)
    if evaluated.statistics.meteor_failure:
        reasons["meteor"] = evaluated.statistics.meteor_failure
    if evaluated.references.train_fingerprint and NEAREST not in context:
        reasons[NEAREST] = (
            "no encoder features of these images are connected, as where the encoder is trained "
            "together with the decoder"
        )
    return reasons


def _differences(
    scores: SliceScores, baseline: SliceScores, drawn: Intervals
) -> dict[str, dict[str, Interval]]:
    """Candidate minus baseline in each slice, with an interval where one was drawn."""
    differences = {}
    for name, values in scores.items():
        changes = {metric: value - baseline[name][metric] for metric, value in values.items()}
        # Captions that are all empty have no distinct words, say; nothing differs from no number.
        differences[name] = {
            metric: drawn.get(name, {}).get(metric, Interval(change))
            for metric, change in changes.items()
            if not math.isnan(change)
        }
    return differences
