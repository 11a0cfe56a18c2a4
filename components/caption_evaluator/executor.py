"""Executor of the CaptionEvaluator."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import Artifact, artifact_utils

from tfx_captioner.components.caption_evaluator import evaluation
from tfx_captioner.components.caption_evaluator.baseline import describe_baseline
from tfx_captioner.components.caption_evaluator.blessing import BaselineStatus, write_blessing
from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
from tfx_captioner.components.caption_evaluator.judgement import Evaluated, summarize
from tfx_captioner.components.caption_evaluator.summary import write_summary
from tfx_captioner.components.caption_evaluator.tfma_metrics import metrics_specs
from tfx_captioner.components.caption_files import (
    BASELINE_CAPTIONS_FILE,
    CAPTIONS_FILE,
    REFERENCES_FILE,
    copy_file,
    read_captions,
    read_generation,
    write_captions,
)
from tfx_captioner.components.reference_scorer.summary import read_references_summary
from tfx_captioner.components.statistics_files import STATISTICS_FILE, read_statistics
from tfx_captioner.metrics.languages import segmentation

LOG = logging.getLogger("captioner.caption_evaluator")

ArtifactDict = dict[str, list[Artifact]]


class Executor(BaseBeamExecutor):
    """Scores and judges one model."""

    def Do(
        self,
        input_dict: ArtifactDict,
        output_dict: ArtifactDict,
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluates one model.

        Args:
          input_dict: `references`, `captions`, `statistics`, `baseline_captions`,
            `baseline_statistics`, `model`, and, where there are some, `baseline_model` and
            `baseline_blessing`.
          output_dict: `evaluation` and `blessing`.
          exec_properties: `model_name`, `encoder_name`, `config` (JSON of an EvaluatorConfig).

        Raises:
          ValueError: Captions were counted in other words than the references.
        """
        uris = {
            key: artifact_utils.get_single_uri(input_dict[key])
            for key in (
                "references",
                "captions",
                "statistics",
                "baseline_captions",
                "baseline_statistics",
            )
        }
        uri = artifact_utils.get_single_uri(output_dict["evaluation"])
        evaluated = _read(uris, input_dict.get("baseline_blessing", []), exec_properties)
        _copy_inputs(uris, uri, evaluated)
        with self._make_beam_pipeline() as pipeline:
            add_up(pipeline, uri, uris["baseline_statistics"], evaluated)
        summary = summarize(uri, evaluated)
        write_summary(uri, summary)
        model = artifact_utils.get_single_instance(input_dict["model"])
        baselines = [
            artifact
            for artifact in input_dict.get("baseline_model", [])
            if evaluated.baseline.status is not BaselineStatus.NONE
        ]
        write_blessing(
            artifact_utils.get_single_instance(output_dict["blessing"]),
            blessed=summary.verdict.blessed,
            model=model,
            baseline=baselines[0] if baselines else None,
            component_id=exec_properties.get("current_component_id"),
            split_fingerprint=summary.split_fingerprint,
        )
        LOG.info(
            "%s: %s. %s",
            summary.model_name,
            "blessed" if summary.verdict.blessed else "not blessed",
            " ".join(reason.text for reason in summary.verdict.reasons),
        )


def add_up(pipeline: Any, uri: str, baseline_uri: str, evaluated: Evaluated) -> None:
    """Adds the sums over statistics to a Beam pipeline, which leaves TFMA's results.

    Args:
      pipeline: Beam pipeline.
      uri: Folder of the evaluation, with the candidate's statistics in it.
      baseline_uri: Folder of the baseline's statistics.
      evaluated: What is evaluated.
    """
    statistics, baseline = evaluated.statistics, evaluated.baseline_statistics
    path = evaluation.examples_path(uri)
    evaluation.write_examples(path, statistics)
    metrics = metrics_specs(
        list(statistics.corpus()),
        os.path.join(uri, STATISTICS_FILE),
        os.path.join(baseline_uri, STATISTICS_FILE) if baseline else "",
    )
    config = evaluation.eval_config(
        evaluated.config,
        metrics,
        statistics.slices,
        with_baseline=baseline is not None,
        compare=evaluated.baseline.status is BaselineStatus.COMPARABLE,
    )
    evaluation.run_tfma(pipeline, path, config, uri)


def _copy_inputs(uris: dict[str, str], uri: str, evaluated: Evaluated) -> None:
    """Makes the evaluation whole: who has its folder needs no other."""
    copy_file(uris["references"], REFERENCES_FILE, uri)
    copy_file(uris["statistics"], STATISTICS_FILE, uri)
    kept = {CAPTIONS_FILE: "captions"}
    if evaluated.baseline_statistics is not None:
        kept[BASELINE_CAPTIONS_FILE] = "baseline_captions"
    for name, key in kept.items():
        captions = read_captions(uris[key])
        scored = {image_id: captions[image_id] for image_id in evaluated.statistics.ids}
        write_captions(uri, scored, name)


def _read(
    uris: dict[str, str], blessings: Sequence[Artifact], exec_properties: dict[str, Any]
) -> Evaluated:
    references = read_references_summary(uris["references"])
    statistics = read_statistics(uris["statistics"])
    captions = read_captions(uris["captions"])
    baseline = read_generation(uris["baseline_captions"])
    baseline_statistics = (
        read_statistics(uris["baseline_statistics"]) if baseline.has_captions else None
    )
    for key, of in {"statistics": statistics, "baseline_statistics": baseline_statistics}.items():
        if of is not None and segmentation(of.language) != references.segmentation:
            raise ValueError(
                f"`{key}` must be counted in the words of the references, "
                f"{references.segmentation}. Received: {segmentation(of.language)}."
            )
    return Evaluated(
        model_name=exec_properties["model_name"],
        encoder=exec_properties["encoder_name"],
        config=TypeAdapter(EvaluatorConfig).validate_json(exec_properties["config"]),
        references=references,
        generation=read_generation(uris["captions"]),
        empty=[image_id for image_id in statistics.ids if not captions[image_id].strip()],
        statistics=statistics,
        baseline=describe_baseline(baseline, blessings),
        baseline_statistics=baseline_statistics,
    )
