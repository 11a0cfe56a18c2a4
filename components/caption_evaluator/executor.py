"""Work of the CaptionEvaluator, from artifacts to artifacts."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import TypeAdapter
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import Artifact, artifact_utils
from tfx.utils import path_utils

from components.caption_evaluator import evaluation
from components.caption_evaluator.baseline import caption_by_baseline, find_baseline
from components.caption_evaluator.blessing import BaselineStatus, write_blessing
from components.caption_evaluator.captioning import (
    Captions,
    caption_split,
    load_attention,
    load_captioner,
)
from components.caption_evaluator.config import EvaluatorConfig
from components.caption_evaluator.gallery import choose, make_gallery, write_gallery
from components.caption_evaluator.images import read_split, split_files
from components.caption_evaluator.judgement import Judged, summarize
from components.caption_evaluator.metrics import specs
from components.caption_evaluator.report import (
    REPORT_FILE,
    read_history,
    render_report,
    write_report,
)
from components.caption_evaluator.summary import (
    write_captions,
    write_references,
    write_summary,
)

LOG = logging.getLogger("captioner.caption_evaluator")


class Executor(BaseBeamExecutor):
    """Captions, scores, judges and reports."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
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
        with clock("reading"):
            files = split_files(input_dict["examples"], config.split)
            split = read_split(files)

        def caption(model_path: str) -> Captions:
            with clock("captioning"):
                captioner = load_captioner(model_path)
                return caption_split(
                    captioner, files, list(split.images), batch_size=config.batch_size
                )

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
        judged = Judged(config, split, captions, baseline, baseline_captions)
        with clock("metrics"):
            self._run_tfma(uri, judged)
        with clock("pictures"):
            pictures = make_gallery(
                files,
                choose(split.references, captions.texts, config.gallery_size, config.seed),
                split.references,
                captions.texts,
                baseline_captions.texts if baseline_captions else None,
                load_attention(path_utils.serving_model_path(model.uri)),
            )
        training = read_history(input_dict.get("model_run", []))
        summary = summarize(exec_properties["model_name"], uri, judged, clock.seconds)
        write_captions(uri, captions.texts)
        write_references(uri, split.references)
        write_summary(uri, summary)
        write_gallery(uri, pictures)
        html = render_report(summary, captions.texts, split.references, pictures, training)
        write_report(uri, REPORT_FILE, html)
        write_blessing(
            artifact_utils.get_single_instance(output_dict["blessing"]),
            blessed=summary.verdict.blessed,
            model=model,
            baseline=baseline_model,
            component_id=exec_properties.get("current_component_id"),
            split_fingerprint=split.fingerprint,
        )
        LOG.info(
            "%s: %s. %s",
            summary.model_name,
            "blessed" if summary.verdict.blessed else "not blessed",
            " ".join(reason.text for reason in summary.verdict.reasons),
        )

    def _run_tfma(self, uri: str, judged: Judged) -> None:
        """Scores the captions in Beam; TFMA's results are in the folder afterwards."""
        baseline_captions = judged.baseline_captions
        path = evaluation.examples_path(uri)
        evaluation.write_examples(
            path,
            judged.split.images.values(),
            judged.captions.texts,
            baseline_captions.texts if baseline_captions else None,
            judged.config,
        )
        eval_config = evaluation.eval_config(
            judged.config,
            specs.metrics_spec(),
            with_baseline=baseline_captions is not None,
            compare=judged.baseline.status is BaselineStatus.COMPARABLE,
        )
        with self._make_beam_pipeline() as pipeline:
            evaluation.run_tfma(pipeline, path, eval_config, uri)


class _Clock:
    """Sums up how long the parts of an evaluation take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - start
