"""Tiny captioners, made of core ops, and photographs of one colour."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import PIL.Image
import tensorflow as tf
from pydantic import TypeAdapter
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import Artifact, standard_artifacts

from tests.artifacts import make_artifact, raw_example
from tfx_captioner.components.artifacts import (
    CaptionReferences,
    CaptionStatistics,
    GeneratedCaptions,
)
from tfx_captioner.components.caption_evaluator.config import BootstrapConfig, EvaluatorConfig
from tfx_captioner.components.caption_evaluator.executor import Executor
from tfx_captioner.components.caption_gen import executor as caption_gen
from tfx_captioner.components.caption_scorer import executor as caption_scorer
from tfx_captioner.components.reference_scorer import executor as reference_scorer

COLOURS = ("red", "green", "blue", "white", "black", "yellow")


def png(colour: str, size: tuple[int, int] = (12, 8)) -> bytes:
    """A picture of one colour."""
    out = io.BytesIO()
    PIL.Image.new("RGB", size, colour).save(out, format="PNG")
    return out.getvalue()


def wall(image_id: str, encoded: bytes, captions: Sequence[str]) -> tf.train.Example:
    """A raw example of a wall."""
    return raw_example(
        image__id=[image_id.encode()],
        image__encoded=[encoded],
        image__source=[b"walls"],
        caption__text=[caption.encode() for caption in captions],
    )


def references(colour: str) -> list[str]:
    """Captions a good captioner comes close to."""
    return [f"a plain {colour} wall in the sun", f"a man looks at a plain {colour} wall"]


class ByBytes(tf.Module):
    """Captions by looking the encoded bytes up; refuses what ends in `refuse`."""

    def __init__(self, captions: Mapping[bytes, str]) -> None:
        super().__init__()
        self.table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(list(captions), list(captions.values())), ""
        )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def caption(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        refused = tf.strings.substr(image_bytes, -6, 6) == "refuse"
        with tf.control_dependencies(
            [tf.debugging.Assert(tf.logical_not(tf.reduce_any(refused)), ["cannot decode"])]
        ):
            captions = self.table.lookup(image_bytes)
        return {"caption": captions, "score": tf.zeros_like(captions, tf.float32)}


def save_captioner(folder: Path, captions: Mapping[bytes, str]) -> standard_artifacts.Model:
    """A Model artifact with a SavedModel that gives these captions."""
    module = ByBytes(captions)
    tf.saved_model.save(
        module, str(folder / "Format-Serving"), signatures={"serving_default": module.caption}
    )
    return make_artifact(standard_artifacts.Model, folder, artifact_id=sum(folder.name.encode()))


GOOD = {png(colour): f"a plain {colour} wall in the sun" for colour in COLOURS}
FAIR = {**GOOD, png("red"): "a plain red wall", png("blue"): "the sun shines on a blue wall"}
CAPTIONERS = {"good": GOOD, "fair": FAIR, "bad": dict.fromkeys(GOOD, "dogs run")}


@dataclass
class Evaluated:
    """Outputs of the evaluation of one model."""

    captions: GeneratedCaptions
    baseline_captions: GeneratedCaptions
    statistics: CaptionStatistics
    baseline_statistics: CaptionStatistics
    evaluation: standard_artifacts.ModelEvaluation
    blessing: standard_artifacts.ModelBlessing

    @property
    def verdict(self) -> dict[str, Any]:
        return json.loads((Path(self.evaluation.uri) / "verdict.json").read_text())

    @property
    def reasons(self) -> str:
        return " ".join(reason["text"] for reason in self.verdict["verdict"]["reasons"])


@dataclass
class Bench:
    """Evaluates models on the same six coloured walls, node by node as in the pipeline."""

    root: Path
    examples: standard_artifacts.Examples
    models: dict[str, standard_artifacts.Model] = field(default_factory=dict)

    def model(self, name: str) -> standard_artifacts.Model:
        """One of `CAPTIONERS`."""
        if name not in self.models:
            self.models[name] = save_captioner(self.root / name, CAPTIONERS[name])
        return self.models[name]

    def copy(self, model: standard_artifacts.Model) -> standard_artifacts.Model:
        """The same model in another place, as a second training would make it."""
        folder = shutil.copytree(model.uri, f"{model.uri}-again")
        return make_artifact(standard_artifacts.Model, Path(folder), artifact_id=model.id + 1)

    def execute(
        self,
        executor: BaseExecutor,
        outputs: Mapping[str, type[Artifact]],
        exec_properties: Mapping[str, Any],
        **inputs: Artifact | list[Artifact] | None,
    ) -> dict[str, Any]:
        """Runs the work of a node; an input that is None is not connected."""
        out = Path(tempfile.mkdtemp(prefix="run", dir=self.root))
        made = {key: make_artifact(kind, out / key) for key, kind in outputs.items()}
        for artifact in made.values():
            Path(artifact.uri).mkdir(parents=True)
        executor.Do(
            {
                key: value if isinstance(value, list) else [value]
                for key, value in inputs.items()
                if value is not None
            },
            {key: [artifact] for key, artifact in made.items()},
            {"code_fingerprint": "0", **exec_properties},
        )
        return made

    def captions(
        self, model: standard_artifacts.Model, split: str = "test", **inputs: Any
    ) -> dict[str, GeneratedCaptions]:
        """Outputs of a CaptionGen."""
        return self.execute(
            caption_gen.Executor(),
            {"captions": GeneratedCaptions, "baseline_captions": GeneratedCaptions},
            {"split": split, "batch_size": 4},
            examples=self.examples,
            model=model,
            **inputs,
        )

    def references(self, **settings: Any) -> CaptionReferences:
        """Output of a ReferenceScorer."""
        defaults = {
            "split": "test",
            "encoders": "",
            "slices": json.dumps(["people", "brightness"]),
            "word_slices": "{}",
            "language": "en",
            "meteor": 0,
            "seed": 1,
        }
        return self.execute(
            reference_scorer.Executor(),
            {"references": CaptionReferences},
            {**defaults, **settings},
            examples=self.examples,
        )["references"]

    def statistics(self, **inputs: Any) -> dict[str, CaptionStatistics]:
        """Outputs of a CaptionScorer."""
        kinds = {"statistics": CaptionStatistics, "baseline_statistics": CaptionStatistics}
        return self.execute(caption_scorer.Executor(), kinds, {}, **inputs)

    def evaluate(
        self,
        model: standard_artifacts.Model,
        settings: EvaluatorConfig,
        baseline_model: standard_artifacts.Model | None = None,
        baseline_blessing: standard_artifacts.ModelBlessing | None = None,
        scored_against: CaptionReferences | None = None,
    ) -> Evaluated:
        """From a model to the verdict on it."""
        captions = self.captions(model, baseline_model=baseline_model)
        references = self.references()
        statistics = self.statistics(references=scored_against or references, **captions)
        outputs = self.execute(
            Executor(),
            {
                "evaluation": standard_artifacts.ModelEvaluation,
                "blessing": standard_artifacts.ModelBlessing,
            },
            {
                "config": TypeAdapter(EvaluatorConfig).dump_json(settings).decode(),
                "model_name": "walls",
                "encoder_name": "",
                "current_component_id": "CaptionEvaluator.walls",
            },
            references=references,
            model=model,
            baseline_model=baseline_model,
            baseline_blessing=baseline_blessing,
            **captions,
            **statistics,
        )
        return Evaluated(**captions, **statistics, **outputs)


def settings(**changes: Any) -> EvaluatorConfig:
    """Settings with a threshold every captioner of these tests passes."""
    defaults = {"thresholds": {"bleu_1": 0.0}, "bootstrap": BootstrapConfig(samples=20)}
    return EvaluatorConfig(**{**defaults, **changes})
