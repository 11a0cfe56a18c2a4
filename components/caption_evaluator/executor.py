"""Work of the CaptionEvaluator, from artifacts to artifacts."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import TypeAdapter
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import Artifact, artifact_utils
from tfx.utils import path_utils

from tfx_captioner.components.caption_evaluator.baseline import caption_by_baseline, find_baseline
from tfx_captioner.components.caption_evaluator.blessing import write_blessing
from tfx_captioner.components.caption_evaluator.captioning import (
    Attention,
    Captions,
    caption_split,
    load_attention,
    load_captioner,
)
from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
from tfx_captioner.components.caption_evaluator.gallery import choose, make_gallery, write_gallery
from tfx_captioner.components.caption_evaluator.images import read_split, split_files
from tfx_captioner.components.caption_evaluator.judgement import (
    Judged,
    Measured,
    measure,
    score,
    summarize,
)
from tfx_captioner.components.caption_evaluator.report import (
    REPORT_FILE,
    TrainingHistory,
    read_history,
    render_report,
    write_history,
    write_report,
)
from tfx_captioner.components.caption_evaluator.summary import (
    EvaluationSummary,
    write_captions,
    write_references,
    write_statistics,
    write_summary,
)
from tfx_captioner.components.caption_evaluator.training import read_training_text

LOG = logging.getLogger("captioner.caption_evaluator")

ArtifactDict = dict[str, list[Artifact]]


class Executor(BaseBeamExecutor):
    """Captions, scores, judges and reports."""

    def Do(
        self,
        input_dict: ArtifactDict,
        output_dict: ArtifactDict,
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates one model.

        Raises:
          ValueError: The examples have no such split, or none of its images can be decoded.
          UnusableModelError: The model to evaluate has no usable `serving_default`.
        """
        config = TypeAdapter(EvaluatorConfig).validate_json(exec_properties["config"])
        model = artifact_utils.get_single_instance(input_dict["model"])
        uri = artifact_utils.get_single_uri(output_dict["evaluation"])
        clock = _Clock()
        files = split_files(input_dict["examples"], config.split)
        judged, baseline_model = _caption(input_dict, model, uri, files, config, clock)
        with clock("metrics"), self._make_beam_pipeline() as pipeline:
            score(pipeline, uri, judged)
        measured = measure(judged, input_dict.get("features", []), clock)
        summary = summarize(exec_properties["model_name"], uri, judged, measured, clock.seconds)
        attention = load_attention(path_utils.serving_model_path(model.uri))
        history = read_history(run.uri for run in input_dict.get("model_run", []))
        write_outputs(uri, files, judged, measured, summary, attention, history)
        write_blessing(
            artifact_utils.get_single_instance(output_dict["blessing"]),
            blessed=summary.verdict.blessed,
            model=model,
            baseline=baseline_model,
            component_id=exec_properties.get("current_component_id"),
            split_fingerprint=judged.split.fingerprint,
        )
        LOG.info(
            "%s: %s. %s",
            summary.model_name,
            "blessed" if summary.verdict.blessed else "not blessed",
            " ".join(reason.text for reason in summary.verdict.reasons),
        )


def _caption(
    input_dict: ArtifactDict,
    model: Artifact,
    uri: str,
    files: Sequence[str],
    config: EvaluatorConfig,
    clock: _Clock,
) -> tuple[Judged, Artifact | None]:
    """Captions by the candidate and by the baseline; the baseline's artifact, if there is one."""
    with clock("reading"):
        split = read_split(files)
        training = read_training_text(input_dict["examples"], uri)

    def caption(model_path: str) -> Captions:
        with clock("captioning"):
            captioner = load_captioner(model_path)
            return caption_split(captioner, files, list(split.images), batch_size=config.batch_size)

    captions = caption(path_utils.serving_model_path(model.uri))
    baseline_model, baseline = find_baseline(
        input_dict.get("baseline_model", []),
        input_dict.get("baseline_blessing", []),
        model,
        split.fingerprint,
    )
    baseline_captions = None
    if baseline_model is not None:
        baseline_captions, baseline = caption_by_baseline(baseline_model, baseline, caption)
    judged = Judged(config, split, training, captions, baseline, baseline_captions)
    return judged, baseline_model


def write_outputs(
    uri: str,
    files: Sequence[str],
    judged: Judged,
    measured: Measured,
    summary: EvaluationSummary,
    attention: Attention | None,
    history: TrainingHistory | None,
) -> None:
    """Writes what lies beside TFMA's results: captions, references, verdict, gallery, report.

    Args:
      uri: Folder of the evaluation.
      files: GZIP TFRecords of the evaluated split, for the pixels.
      judged: Captions and rules.
      measured: What was computed beside TFMA.
      summary: What was found.
      attention: Where the model looked; None where it cannot tell.
      history: Learning curves; None where the trainer left none.
    """
    captions, references = judged.captions.texts, judged.split.references
    baseline_captions = judged.baseline_captions
    candidate = measured.candidate
    scores = dict(zip(candidate.ids, candidate.cider_d.tolist(), strict=True))
    pictures = make_gallery(
        files,
        choose(scores, judged.config.gallery_size, judged.config.seed),
        references,
        captions,
        baseline_captions.texts if baseline_captions else None,
        attention,
    )
    write_captions(uri, captions)
    write_references(uri, references)
    write_gallery(uri, pictures)
    write_statistics(uri, candidate)
    if history is not None:
        write_history(uri, history)
    write_report(uri, REPORT_FILE, render_report(summary, captions, references, pictures, history))
    write_summary(uri, summary)


class _Clock:
    """Sums up how long the parts of an evaluation take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - start
