"""From captions to the summary that is written down."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import apache_beam as beam
from tfx.types import Artifact

from tfx_captioner.components.caption_evaluator import context, evaluation, specs
from tfx_captioner.components.caption_evaluator.blessing import (
    Baseline,
    BaselineStatus,
    Found,
    Interval,
    decide,
)
from tfx_captioner.components.caption_evaluator.captioning import Captions
from tfx_captioner.components.caption_evaluator.confidence import Confidence, Intervals, bootstrap
from tfx_captioner.components.caption_evaluator.config import OVERALL, EvaluatorConfig
from tfx_captioner.components.caption_evaluator.context import SliceScores
from tfx_captioner.components.caption_evaluator.images import EvaluatedSplit
from tfx_captioner.components.caption_evaluator.slices import slice_features
from tfx_captioner.components.caption_evaluator.summary import EvaluationSummary
from tfx_captioner.components.caption_evaluator.training import TrainingText
from tfx_captioner.metrics import ptb, scoring

EXAMPLE_COUNT = "example_count"

# Of the name of a part of the work, to time it.
Clock = Callable[[str], contextlib.AbstractContextManager[object]]


@dataclass(frozen=True)
class Judged:
    """What there is to judge.

    Attributes:
      config: Rules and slices.
      split: Images and references.
      training: Captions of the train split.
      captions: The candidate's.
      baseline: Whether there is something to compare with.
      baseline_captions: The baseline's captions, also of one that does not compare; None where
        there is none, or it could not caption.
    """

    config: EvaluatorConfig
    split: EvaluatedSplit
    training: TrainingText
    captions: Captions
    baseline: Baseline
    baseline_captions: Captions | None

    @property
    def unavailable(self) -> dict[str, str]:
        """Metric to why it is not computed."""
        reasons = specs.unavailable_metrics(
            document_frequencies=self.training.frequencies_path,
            training_captions=self.training.captions_path,
        )
        return reasons if self.config.meteor else {**reasons, "meteor": "switched off by `meteor`"}

    def statistics(
        self,
        captions: Mapping[str, str],
        references: Mapping[str, Sequence[str]] | None = None,
        tokenize: Callable[[str], str] = ptb.tokenize,
    ) -> scoring.ImageStatistics:
        """Per-image statistics of captions.

        Args:
          captions: Image id to caption.
          references: Image id to references; those of the split where they are not given.
          tokenize: `ptb.tokenize`, or what remembers more of its results.
        """
        return scoring.image_statistics(
            self.split.references if references is None else references,
            captions,
            with_meteor="meteor" not in self.unavailable,
            document_frequencies=self.training.frequencies,
            training_captions=self.training.tokenised,
            tokenize=tokenize,
        )


@dataclass(frozen=True)
class Measured:
    """What is computed beside TFMA, from statistics per image.

    Attributes:
      candidate: Statistics of the candidate's captions.
      confidence: Bootstrap intervals.
      context: Line, such as the human one, to slice to metrics.
    """

    candidate: scoring.ImageStatistics
    confidence: Confidence
    context: Mapping[str, SliceScores]


def score(pipeline: beam.Pipeline, uri: str, judged: Judged) -> None:
    """Adds the scoring of the captions to a Beam pipeline, which leaves TFMA's results.

    Args:
      pipeline: Beam pipeline.
      uri: Folder of the evaluation.
      judged: Captions and rules.
    """
    baseline_captions = judged.baseline_captions
    path = evaluation.examples_path(uri)
    evaluation.write_examples(
        path,
        judged.split.images.values(),
        judged.captions.texts,
        baseline_captions.texts if baseline_captions else None,
        judged.config,
    )
    metrics = specs.metrics_spec(
        document_frequencies=judged.training.frequencies_path,
        training_captions=judged.training.captions_path,
        with_meteor=judged.config.meteor,
    )
    config = evaluation.eval_config(
        judged.config,
        metrics,
        with_baseline=baseline_captions is not None,
        compare=judged.baseline.status is BaselineStatus.COMPARABLE,
    )
    evaluation.run_tfma(pipeline, path, config, uri)


def measure(
    judged: Judged, features: Sequence[Artifact], clock: Clock = contextlib.nullcontext
) -> Measured:
    """Scores images one by one, resamples them, and scores the lines to compare with.

    Args:
      judged: Captions and rules.
      features: Featurized Examples; empty where they are not connected.
      clock: Times the parts.
    """
    config, split = judged.config, judged.split
    slices = _slices(judged)
    # The same references come with every line; the tokenizer's own memory is for one of them.
    statistics = functools.partial(judged.statistics, tokenize=functools.cache(ptb.tokenize))
    with clock("statistics of images"):
        candidate = statistics(judged.captions.texts)
        comparable = judged.baseline.status is BaselineStatus.COMPARABLE
        baseline = (
            statistics(judged.baseline_captions.texts)
            if comparable and judged.baseline_captions
            else None
        )
    with clock("bootstrap"):
        confidence = bootstrap(candidate, baseline, slices, OVERALL, config.bootstrap)

    def score_line(
        references: Mapping[str, Sequence[str]], captions: Mapping[str, str]
    ) -> SliceScores:
        return _by_slice(statistics(captions, references), slices)

    with clock("context lines"):
        lines = context.training_lines(
            list(split.images),
            judged.training.captions,
            context.nearest_neighbours(features, list(split.images), config.split),
            config.seed,
        )
        human = context.human_line(split.references, score_line)
        scored = {name: score_line(split.references, captions) for name, captions in lines.items()}
    return Measured(candidate, confidence, ({context.HUMAN: human} if human else {}) | scored)


def _by_slice(
    statistics: scoring.ImageStatistics, slices: Mapping[str, Sequence[str]]
) -> SliceScores:
    """All scores over all images, and in each slice that has some of them the means over images.

    Those compare from slice to slice; the others would take as long as the candidate's own.
    """
    scores = {OVERALL: statistics.corpus()}
    means = {"rouge_l": statistics.rouge_l, "cider_d_train_idf": statistics.cider_d_train_idf}
    place = {image_id: row for row, image_id in enumerate(statistics.ids)}
    for name, ids in slices.items():
        if rows := [place[image_id] for image_id in ids if image_id in place]:
            scores[name] = {
                metric: float(values[rows].mean())
                for metric, values in means.items()
                if values is not None
            }
    return scores


def _slices(judged: Judged) -> dict[str, list[str]]:
    """Slice, named as TFMA's are, to the ids of its images."""
    config = judged.config
    slices: dict[str, list[str]] = {}
    for image_id, image in judged.split.images.items():
        for key in slice_features(image, config.slices, config.word_slices).items():
            slices.setdefault(evaluation.slice_name([key]), []).append(image_id)
    return slices


def summarize(
    model_name: str, uri: str, judged: Judged, measured: Measured, seconds: Mapping[str, float]
) -> EvaluationSummary:
    """Reads TFMA's results and decides.

    Args:
      model_name: Name for the report.
      uri: Folder of the evaluation, with TFMA's results in it.
      judged: Captions and rules.
      measured: What was computed beside TFMA.
      seconds: Part of the evaluation to the time it took.
    """
    results = evaluation.read_scores(uri, with_baseline=judged.baseline_captions is not None)
    scores, baseline_scores = results.candidate, results.baseline
    sizes = {name: int(values.pop(EXAMPLE_COUNT)) for name, values in scores.items()}
    for values in baseline_scores.values():
        del values[EXAMPLE_COUNT]
    comparable = judged.baseline.status is BaselineStatus.COMPARABLE
    differences = (
        _differences(scores, baseline_scores, measured.confidence.differences) if comparable else {}
    )
    found = Found(
        scores,
        evaluation.failed_thresholds(uri),
        differences,
        judged.unavailable,
        measured.context.get(context.NEAREST, {}).get(OVERALL, {}),
    )
    verdict = decide(judged.config, found, judged.baseline)
    return EvaluationSummary(
        model_name=model_name,
        split=judged.config.split,
        split_fingerprint=judged.split.fingerprint,
        train_fingerprint=judged.training.fingerprint,
        image_count=len(judged.split.images),
        verdict=verdict,
        baseline=judged.baseline,
        scores=scores,
        slice_sizes=sizes,
        baseline_scores=baseline_scores,
        intervals=measured.confidence.intervals,
        confidence=judged.config.bootstrap.confidence,
        differences=differences,
        context=measured.context,
        unavailable=_unavailable(judged, measured),
        undecodable=judged.split.undecodable,
        refused=judged.captions.refused,
        empty=judged.captions.empty,
        seconds=dict(seconds),
    )


def _unavailable(judged: Judged, measured: Measured) -> dict[str, str]:
    """What a reader will miss, to why it is not there."""
    reasons = judged.unavailable
    if judged.training.captions and context.NEAREST not in measured.context:
        reasons = {
            **reasons,
            context.NEAREST: "no encoder features of these images are connected, as where the "
            "encoder is trained together with the decoder",
        }
    return reasons


def _differences(
    scores: evaluation.Scores, baseline: evaluation.Scores, drawn: Intervals
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
