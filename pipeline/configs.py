"""The typed configuration of a run: defaults, a preset over them, single keys over that.

A preset is a YAML file in `pipeline/presets/` (or any path) that overrides defaults; the command
line overrides single keys by `--set trainer.epochs=3`. Each room's own settings are dataclasses
of that room, composed here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass

from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
from tfx_captioner.components.scores import ENGLISH_SLICES, SLICES
from tfx_captioner.components.serving_validator.config import ServingValidatorConfig
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.metrics.languages import ENGLISH
from tfx_captioner.models.config import DecodingConfig, ModelConfig, TrainerConfig, TunerConfig
from tfx_captioner.models.data_config import STRICT, EncoderConfig, Positive, TextConfig
from tfx_captioner.pipeline import typed_yaml
from tfx_captioner.pipeline.errors import UserError

PRESETS = Path(__file__).with_name("presets")

# Becomes part of node ids, of the ModelSelector's inputs and of folder names.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]


@dataclass(frozen=True, config=STRICT)
class SampleConfig:
    """The generated data set: scenes of coloured shapes.

    Attributes:
      seed: Seeds scenes and captions.
      train: Scenes in the train split.
      val: Scenes in the val split.
      test: Scenes in the test split, of combinations that train does not show.
    """

    seed: int = 7
    train: Positive = 2000
    val: Positive = 150
    test: Positive = 200


@dataclass(frozen=True, config=STRICT)
class DataConfig:
    """Where photographs and captions come from.

    Attributes:
      source: Folder of a data set in one of the forms `captioner ingest` reads, or "sample" for
        the generated one.
      sample: Size of the generated data set; used with source "sample" only.
      ingest: How the source becomes TFRecords.
    """

    source: str = "sample"
    sample: SampleConfig = SampleConfig()
    ingest: IngestConfig = IngestConfig()


@dataclass(frozen=True, config=STRICT)
class DataGateConfig:
    """What, beside schema anomalies, stops a run before anything is trained.

    Attributes:
      drift: Feature name to the largest distance allowed between this run's train split and the
        one approved before it: L-infinity for strings, Jensen-Shannon divergence for numbers.
    """

    drift: dict[str, Annotated[float, Field(gt=0, le=1)]] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, config=STRICT)
class FeaturizerConfig:
    """How frozen encoders are applied.

    Attributes:
      batch_size: Images per call of the encoder.
    """

    batch_size: Positive = 32


@dataclass(frozen=True, config=STRICT)
class EvaluationConfig:
    """What models are evaluated on, and what a report shows.

    Attributes:
      split: Split of the examples that is captioned and scored.
      batch_size: Images per call of a model.
      slices: Groups of images scored by themselves, of `components.scores.SLICES` and of
        `word_slices`.
      word_slices: Further slices: name to words of which one occurs in a reference caption. Other
        languages than English have no other slices by words: `scores.ENGLISH_SLICES` are left out.
      meteor: Compute METEOR of English captions where there is a Java; it takes longer than all
        others together.
      gallery_size: Images of each group (best, worst, random) in the report.
      seed: Seed of random captions, and of random images in the report.
    """

    split: Annotated[str, Field(min_length=1)] = "test"
    batch_size: Positive = 32
    slices: tuple[str, ...] = SLICES
    word_slices: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    meteor: bool = True
    gallery_size: Annotated[int, Field(ge=0)] = 9
    seed: int = 1

    def __post_init__(self) -> None:
        allowed = (*SLICES, *self.word_slices)
        unknown = sorted(set(self.slices) - set(allowed))
        if unknown:
            raise ValueError(
                f"`slices` must be among {', '.join(allowed)}. Received: {', '.join(unknown)}."
            )
        taken = sorted(set(self.word_slices) & set(SLICES))
        if taken:
            raise ValueError(f"`word_slices` must not reuse the names {', '.join(taken)}.")


@dataclass(frozen=True, config=STRICT)
class SelectorConfig:
    """How the champion is chosen among blessed candidates.

    Attributes:
      metric: Name of the metric compared; higher is better.
    """

    metric: str = "bleu_4"


@dataclass(frozen=True, config=STRICT)
class PipelineConfig:
    """Everything a run can be told.

    Attributes:
      name: Pipeline name in the metadata store: lower case letters, digits and dashes.
      run_root: Folder of data, artifacts, metadata, logs and pushed models, with no wildcards in
        its absolute path; default `runs/<name>`.
      models: Captioning models to train, by name. The first two are those the project is about,
        `cnn_lstm` and `resnet_gru`.
      beam_pipeline_args: Passed to every Beam stage: runner, workers, staging locations.
    """

    models: Annotated[dict[ModelName, ModelConfig], Field(min_length=1)]
    evaluator: EvaluatorConfig
    serving_validator: ServingValidatorConfig
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")] = "captioner"
    run_root: str = ""
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    data_gate: DataGateConfig = DataGateConfig()
    featurizer: FeaturizerConfig = FeaturizerConfig()
    tuner: TunerConfig = TunerConfig()
    trainer: TrainerConfig = TrainerConfig()
    decoding: DecodingConfig = DecodingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    selector: SelectorConfig = SelectorConfig()
    beam_pipeline_args: list[str] = dataclasses.field(
        default_factory=lambda: ["--runner=FnApiRunner", "--direct_num_workers=1"]
    )

    def __post_init__(self) -> None:
        for name in self.evaluator.slice_rules:
            if name.partition(": ")[0] not in self.evaluation.slices or ": " not in name:
                raise ValueError(
                    "`evaluator.slice_rules` must name slices as the report does, such as "
                    f"`people: yes`, of {', '.join(self.evaluation.slices)}. Received: {name!r}."
                )
        if self.text.language != ENGLISH:
            self._check_not_english()

    def _check_not_english(self) -> None:
        """Refuses rules that ask for what is known of English alone."""
        of = f"`text.language` is `{self.text.language}`"
        asked = {"evaluator": self.evaluator, **self.evaluator.slice_rules}
        for name, rules in asked.items():
            key = "evaluator" if name == "evaluator" else f"evaluator.slice_rules.{name}"
            if name.partition(": ")[0] in ENGLISH_SLICES:
                raise ValueError(
                    f"`{key}`: the slice is told by English words, and {of}; "
                    "`evaluation.word_slices` takes words of one's own."
                )
            for field in ("thresholds", "change_thresholds", "not_significantly_worse"):
                if "meteor" in getattr(rules, field):
                    raise ValueError(
                        f"`{key}.{field}` must not name meteor: METEOR, as it comes with "
                        f"pycocoevalcap, has English alone, and {of}."
                    )
        if self.selector.metric == "meteor":
            raise ValueError(
                "`selector.metric` must not be meteor: METEOR, as it comes with pycocoevalcap, "
                f"has English alone, and {of}."
            )

    @property
    def root(self) -> Path:
        """`run_root`, or its default."""
        return Path(self.run_root or f"runs/{self.name}").absolute()

    def featurized_encoders(self) -> dict[str, EncoderConfig]:
        """The encoders that are frozen, or in part, by a name unique in this configuration."""
        encoders: dict[str, EncoderConfig] = {}
        for model in self.models.values():
            if model.encoder.has_frozen_part and model.encoder not in encoders.values():
                taken = sum(known.name == model.encoder.name for known in encoders.values())
                suffix = f"_{taken + 1}" if taken else ""
                encoders[f"{model.encoder.name}{suffix}"] = model.encoder
        return encoders

    def featurized_encoder_of(self, model: str) -> str:
        """Name of the encoder of a model in `featurized_encoders`; empty where there is none."""
        encoder = self.models[model].encoder
        names = [name for name, known in self.featurized_encoders().items() if known == encoder]
        return names[0] if names else ""


def check_no_wildcards(path: str, setting: str) -> None:
    """Refuses a path that TFX and Beam would read as a pattern, and find nothing by it.

    Args:
      path: Folder that a run writes to or reads from.
      setting: What it is set by.

    Raises:
      UserError: There are wildcards in it.
    """
    wildcards = sorted(set("*?[]") & set(path))
    if wildcards:
        raise UserError(
            f"{setting} must not contain `*`, `?`, `[` or `]`: TFX and Beam read the paths of a "
            f"run as patterns of file names. Received: {path}, with {' and '.join(wildcards)}."
        )


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return typed_yaml.names(PRESETS)


def load_config(
    preset: str = "sample",
    overrides: Sequence[str] = (),
    *,
    values: Mapping[str, Any] | None = None,
) -> PipelineConfig:
    """Builds the configuration of a run.

    Args:
      preset: Name of a preset of this package, or path of a YAML file.
      overrides: `dotted.key=value` strings, the value read as YAML.
      values: Further overrides by dotted key, from flags of the command line.

    Raises:
      UserError: An unknown preset or key, or a value that is not allowed; the message names key,
        value, what is allowed, and the file or flag it came from.
    """
    tree, path = typed_yaml.read(preset, PRESETS, "preset")
    origins: dict[str, str] = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UserError(f"`--set` must look like trainer.epochs=3. Received: {text!r}.")
        try:
            _assign(tree, key, yaml.safe_load(value), origins, f"--set {text}")
        except yaml.YAMLError as error:
            raise UserError(f"`--set {text}` has a value that is no YAML: {error}") from error
    for key, value in (values or {}).items():
        _assign(tree, key, value, origins, "command line")
    tree.setdefault("name", Path(preset).stem)

    def origin(key: str) -> str:
        known = (origins[name] for name in _prefixes(key) if name in origins)
        return next(known, f"preset {path.name}")

    return typed_yaml.validate(PipelineConfig, tree, "the configuration", origin)


def _assign(
    tree: dict[str, Any], key: str, value: Any, origins: dict[str, str], origin: str
) -> None:
    """Sets a dotted key in a nested dict and remembers where the value came from."""
    *parents, last = key.split(".")
    for parent in parents:
        branch = tree.setdefault(parent, {})
        if not isinstance(branch, dict):
            raise UserError(f"`{key}` ({origin}) goes through `{parent}`, which is a plain value.")
        tree = branch
    tree[last] = value
    origins[key] = origin


def _prefixes(key: str) -> Iterator[str]:
    """`a.b.c`, `a.b`, `a`."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        yield ".".join(parts[:length])
