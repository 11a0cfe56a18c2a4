"""The nodes of the evaluation, run one by one without an orchestrator."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from pydantic import TypeAdapter
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import Artifact, standard_artifacts

from tfx_captioner.components.artifacts import (
    CaptionReferences,
    CaptionStatistics,
    EvaluationPages,
    GeneratedCaptions,
)
from tfx_captioner.components.caption_evaluator import executor as caption_evaluator
from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
from tfx_captioner.components.caption_files import (
    Generation,
    write_captions,
    write_generation,
)
from tfx_captioner.components.caption_scorer import executor as caption_scorer
from tfx_captioner.components.evaluation_report import executor as evaluation_report
from tfx_captioner.components.examples import fingerprint_of, read_captions, split_files
from tfx_captioner.components.reference_scorer import executor as reference_scorer
from tfx_captioner.components.scores import SLICES

MODEL = "model"
# Name of a node, to time it.
Clock = Callable[[str], contextlib.AbstractContextManager[object]]


class Nodes:
    """Runs the nodes behind the captions of a model, from references to pages.

    Args:
      folder: Folder of what they put out.
      examples: Raw examples with the splits train and test.
      meteor: Whether METEOR is computed.
      clock: Times the nodes.
    """

    def __init__(
        self,
        folder: str,
        examples: standard_artifacts.Examples,
        *,
        meteor: bool,
        clock: Clock = contextlib.nullcontext,
    ) -> None:
        self._folder = Path(folder)
        self._examples = examples
        self._clock = clock
        files = split_files([examples], "test")
        self._generation = Generation("test", fingerprint_of(read_captions(files)))
        self._references = self._execute(
            "ReferenceScorer",
            reference_scorer.Executor(),
            {"references": CaptionReferences},
            {
                "split": "test",
                "encoders": "",
                "slices": json.dumps(SLICES),
                "word_slices": "{}",
                "meteor": int(meteor),
                "seed": 1,
            },
            {"examples": examples},
        )["references"]

    def evaluate(
        self,
        name: str,
        captions: Mapping[str, str],
        config: EvaluatorConfig,
        baseline: Mapping[str, str] | None = None,
    ) -> tuple[str, str]:
        """Scores captions, judges them, and draws the pages.

        Args:
          name: Name of the captioner.
          captions: Image id to caption.
          config: Rules and the bootstrap.
          baseline: Captions of the baseline; None without one.

        Returns:
          Folders of the evaluation and of the pages.
        """
        generated = {
            "captions": self._captions(name, captions),
            "baseline_captions": self._captions(f"{name}.baseline", baseline),
        }
        statistics = self._execute(
            "CaptionScorer",
            caption_scorer.Executor(),
            {"statistics": CaptionStatistics, "baseline_statistics": CaptionStatistics},
            {},
            {"references": self._references, **generated},
        )
        model = standard_artifacts.Model()
        model.uri = str(self._folder / MODEL)
        evaluated = self._execute(
            "CaptionEvaluator",
            caption_evaluator.Executor(),
            {
                "evaluation": standard_artifacts.ModelEvaluation,
                "blessing": standard_artifacts.ModelBlessing,
            },
            {
                "model_name": name,
                "encoder_name": "",
                "config": TypeAdapter(EvaluatorConfig).dump_json(config).decode(),
            },
            {"references": self._references, "model": model, **generated, **statistics},
        )
        _save_silent_captioner(model.uri)
        run = standard_artifacts.ModelRun()
        run.uri = str(self._folder / "model_run")
        pages = self._execute(
            "EvaluationReport",
            evaluation_report.Executor(),
            {"pages": EvaluationPages},
            {"models": name, "gallery_size": 9, "seed": 1},
            {
                "examples": self._examples,
                f"evaluation_{name}": evaluated["evaluation"],
                f"model_{name}": model,
                f"model_run_{name}": run,
            },
        )
        return evaluated["evaluation"].uri, pages["pages"].uri

    def _captions(self, name: str, captions: Mapping[str, str] | None) -> GeneratedCaptions:
        artifact = GeneratedCaptions()
        artifact.uri = str(self._folder / "captions" / name)
        generation = self._generation
        if captions is not None:
            write_captions(artifact.uri, captions)
            generation = Generation(generation.split, generation.split_fingerprint, name)
        write_generation(artifact.uri, generation)
        return artifact

    def _execute(
        self,
        node: str,
        executor: BaseExecutor,
        outputs: Mapping[str, type[Artifact]],
        exec_properties: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
    ) -> dict[str, Any]:
        made = {key: kind() for key, kind in outputs.items()}
        number = len(list((self._folder / node).glob("*")))
        for key, artifact in made.items():
            artifact.uri = str(self._folder / node / str(number) / key)
            Path(artifact.uri).mkdir(parents=True)
        with self._clock(node):
            executor.Do(
                {key: [artifact] for key, artifact in inputs.items()},
                {key: [artifact] for key, artifact in made.items()},
                {"code_fingerprint": "", **exec_properties},
            )
        return made


def _save_silent_captioner(folder: str) -> None:
    """A model that is there and has no attention to show."""
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def caption(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"caption": image_bytes, "score": tf.zeros_like(image_bytes, tf.float32)}

    tf.saved_model.save(module, f"{folder}/Format-Serving", signatures={"serving_default": caption})
