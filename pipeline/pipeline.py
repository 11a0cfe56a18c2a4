"""The graph: from TFRecords to a pushed model. Knows no runner and no machine."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode
from tfx.proto import example_gen_pb2, trainer_pb2
from tfx.types import Artifact
from tfx.types.channel import BaseChannel

from tfx_captioner.components.artifacts import (
    CaptionStatistics,
    DataApproval,
    GeneratedCaptions,
)
from tfx_captioner.components.caption_evaluator.component import CaptionEvaluator
from tfx_captioner.components.caption_gen.component import CaptionGen
from tfx_captioner.components.caption_scorer.component import CaptionScorer
from tfx_captioner.components.data_gate.component import DataGate
from tfx_captioner.components.evaluation_report.component import EvaluationReport
from tfx_captioner.components.example_gen.component import ExampleGen
from tfx_captioner.components.exporter.component import Exporter
from tfx_captioner.components.image_featurizer.component import ImageFeaturizer
from tfx_captioner.components.model_selector.component import ModelSelector
from tfx_captioner.components.pushed_model.component import PushedModel
from tfx_captioner.components.pusher.component import Pusher
from tfx_captioner.components.reference_scorer.component import ReferenceScorer
from tfx_captioner.components.resolvers import (
    PreviousApprovedStatisticsStrategy,
    PreviousBlessedModelStrategy,
)
from tfx_captioner.components.serving_validator.component import ServingValidator
from tfx_captioner.models.config import ModelConfig, RunConfig
from tfx_captioner.models.data_config import to_plain
from tfx_captioner.pipeline.configs import PipelineConfig, check_no_wildcards
from tfx_captioner.pipeline.fingerprint import code_fingerprint

CHAMPION = "captioner"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Locations:
    """Where a pipeline reads and writes; local paths or any URI that TFX understands.

    Wildcards in one are a UserError.

    Attributes:
      records: Ingested TFRecords, in `train/`, `val/` and `test/`.
      artifacts: Pipeline root, where TFX keeps each node's outputs.
      serving: Base folder of pushed models, one folder per model name.
      schema: The schema file. TFX's cache knows its path, not its content, so another content
        needs another path (or, on Kubeflow, another image).
      checkpoints: Where an interrupted training is kept.
    """

    records: str
    artifacts: str
    serving: str
    schema: str
    checkpoints: str

    def __post_init__(self) -> None:
        for name, path in vars(self).items():
            check_no_wildcards(path, f"`{name}`")


class Previous(enum.Enum):
    """Where a run finds what came before it."""

    # The metadata store, asked by resolver nodes with strategies of our own.
    METADATA = "metadata"
    # The folder of pushed models, for orchestrators that cannot run such resolvers. Statistics of
    # earlier runs are not there, so the DataGate does not look for drift.
    SERVING = "serving"


def create_pipeline(
    config: PipelineConfig,
    locations: Locations,
    metadata: metadata_store_pb2.ConnectionConfig | None = None,
    previous: Previous = Previous.METADATA,
) -> tfx.dsl.Pipeline:
    """Builds the whole graph.

    Args:
      config: Settings of the run.
      locations: Where to read and write.
      metadata: Connection of the metadata store; None where the orchestrator brings its own.
      previous: Where what came before this run is found.
    """
    data = _data_nodes(config, locations, previous)
    examples = data["transform"].outputs["transformed_examples"]
    featurizers = {
        name: ImageFeaturizer(
            examples=examples,
            encoder=encoder,
            batch_size=config.featurizer.batch_size,
            code_fingerprint=_fingerprint("image_featurizer"),
        ).with_id(f"ImageFeaturizer.{name}")
        for name, encoder in config.featurized_encoders().items()
    }
    references = ReferenceScorer(
        examples=data["example_gen"].outputs["examples"],
        features={name: node.outputs["examples"] for name, node in featurizers.items()},
        split=config.evaluation.split,
        slices=config.evaluation.slices,
        word_slices=config.evaluation.word_slices,
        language=config.text.language,
        meteor=config.evaluation.meteor,
        seed=config.evaluation.seed,
        code_fingerprint=_fingerprint("reference_scorer"),
    )
    references.add_upstream_node(data["gate"])
    nodes: list[BaseNode] = [*data.values(), *featurizers.values(), references]
    candidates = {}
    for name in config.models:
        candidate = _candidate_nodes(
            config, locations, name, previous, data, featurizers, references
        )
        candidates[name] = candidate
        nodes += candidate.values()
    return tfx.dsl.Pipeline(
        pipeline_name=config.name,
        pipeline_root=locations.artifacts,
        components=nodes + _delivery_nodes(config, locations, data["example_gen"], candidates),
        enable_cache=True,
        metadata_connection_config=metadata,
        beam_pipeline_args=config.beam_pipeline_args,
    )


def _fingerprint(component: str) -> str:
    return code_fingerprint(f"tfx_captioner.components.{component}.executor")


def _data_nodes(
    config: PipelineConfig, locations: Locations, previous: Previous
) -> dict[str, BaseNode]:
    """Ingested examples, held against the schema, approved, and transformed."""
    example_gen = ExampleGen(
        input_base=locations.records,
        input_config=example_gen_pb2.Input(
            splits=[
                example_gen_pb2.Input.Split(name=split, pattern=f"{split}/*") for split in SPLITS
            ]
        ),
    ).with_id("ImportExampleGen")
    schema = tfx.components.ImportSchemaGen(schema_file=locations.schema)
    # With the schema TFDV knows that `image/encoded` is an image, and does not count it as text.
    statistics = tfx.components.StatisticsGen(
        examples=example_gen.outputs["examples"], schema=schema.outputs["schema"]
    )
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema.outputs["schema"]
    )
    earlier = _previous_statistics(statistics) if previous is Previous.METADATA else None
    gate = DataGate(
        anomalies=validator.outputs["anomalies"],
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        previous_statistics=earlier.outputs["statistics"] if earlier else None,
        drift=config.data_gate.drift,
        code_fingerprint=_fingerprint("data_gate"),
    )
    transform = tfx.components.Transform(
        examples=example_gen.outputs["examples"],
        schema=schema.outputs["schema"],
        preprocessing_fn="tfx_captioner.models.preprocessing.preprocessing_fn",
        custom_config={
            "text": to_plain(config.text),
            "code_fingerprint": code_fingerprint("tfx_captioner.models.preprocessing"),
        },
        # StatisticsGen has been over this data; twice more would be twice for nothing.
        disable_statistics=True,
    )
    transform.add_upstream_node(gate)
    return {
        "example_gen": example_gen,
        "schema": schema,
        "statistics": statistics,
        "validator": validator,
        **({"previous": earlier} if earlier else {}),
        "gate": gate,
        "transform": transform,
    }


def _previous_statistics(statistics: BaseNode) -> BaseNode:
    """Resolves the statistics that the DataGate approved before this run."""
    return tfx.dsl.Resolver(
        strategy_class=PreviousApprovedStatisticsStrategy,
        statistics=_all_of(tfx.types.standard_artifacts.ExampleStatistics, statistics.id),
        approval=_all_of(DataApproval, DataGate.__name__),
        current=statistics.outputs["statistics"],
    ).with_id("PreviousStatistics")


def _training_nodes(
    config: PipelineConfig,
    locations: Locations,
    name: str,
    model: ModelConfig,
    *,
    examples: BaseChannel,
    transform_graph: BaseChannel,
) -> dict[str, BaseNode]:
    """The Trainer of a model, and before it the Tuner where hyper-parameters are searched."""

    def run(module: str) -> dict[str, Any]:
        return to_plain(
            RunConfig(
                model_name=name,
                model=model,
                text=config.text,
                trainer=config.trainer,
                code_fingerprint=code_fingerprint(module),
                checkpoint_root=locations.checkpoints,
            )
        )

    data = {
        "examples": examples,
        "transform_graph": transform_graph,
        "train_args": trainer_pb2.TrainArgs(splits=["train"]),
        "eval_args": trainer_pb2.EvalArgs(splits=["val"]),
    }
    tuner = None
    if config.tuner.trials:
        tuner = tfx.components.Tuner(
            tuner_fn="tfx_captioner.models.tuner.tuner_fn",
            custom_config={
                "run": run("tfx_captioner.models.tuner"),
                "tuner": to_plain(config.tuner),
            },
            **data,
        ).with_id(f"Tuner.{name}")
    trainer = tfx.components.Trainer(
        run_fn="tfx_captioner.models.trainer.run_fn",
        hyperparameters=tuner.outputs["best_hyperparameters"] if tuner else None,
        custom_config={"run": run("tfx_captioner.models.trainer")},
        **data,
    ).with_id(f"Trainer.{name}")
    return {**({"tuner": tuner} if tuner else {}), "trainer": trainer}


def _candidate_nodes(
    config: PipelineConfig,
    locations: Locations,
    name: str,
    previous: Previous,
    data: dict[str, BaseNode],
    featurizers: dict[str, BaseNode],
    references: BaseNode,
) -> dict[str, BaseNode]:
    """From the training of one model to the verdict on it."""
    encoder = config.featurized_encoder_of(name)
    transform = data["transform"].outputs
    training = _training_nodes(
        config,
        locations,
        name,
        config.models[name],
        examples=(
            featurizers[encoder].outputs["examples"]
            if encoder
            else transform["transformed_examples"]
        ),
        transform_graph=transform["transform_graph"],
    )
    exporter = Exporter(
        weights=training["trainer"].outputs["model"],
        transform_graph=transform["transform_graph"],
        decoding=config.decoding,
        code_fingerprint=_fingerprint("exporter"),
    ).with_id(f"Exporter.{name}")
    baseline = _baseline(name, exporter, locations, previous)
    captions = CaptionGen(
        examples=data["example_gen"].outputs["examples"],
        model=exporter.outputs["model"],
        baseline_model=baseline.outputs["model"],
        earlier_captions=baseline.outputs.get("captions"),
        split=config.evaluation.split,
        batch_size=config.evaluation.batch_size,
        code_fingerprint=_fingerprint("caption_gen"),
    ).with_id(f"CaptionGen.{name}")
    scorer = CaptionScorer(
        references=references.outputs["references"],
        captions=captions.outputs["captions"],
        baseline_captions=captions.outputs["baseline_captions"],
        earlier_statistics=baseline.outputs.get("statistics"),
        code_fingerprint=_fingerprint("caption_scorer"),
    ).with_id(f"CaptionScorer.{name}")
    evaluator = CaptionEvaluator(
        references=references.outputs["references"],
        captions=captions.outputs["captions"],
        statistics=scorer.outputs["statistics"],
        baseline_captions=captions.outputs["baseline_captions"],
        baseline_statistics=scorer.outputs["baseline_statistics"],
        model=exporter.outputs["model"],
        baseline_model=baseline.outputs["model"],
        baseline_blessing=baseline.outputs.get("model_blessing"),
        model_name=name,
        encoder_name=encoder,
        config=config.evaluator,
        code_fingerprint=_fingerprint("caption_evaluator"),
    ).with_id(f"CaptionEvaluator.{name}")
    return {
        **training,
        "exporter": exporter,
        "baseline": baseline,
        "captions": captions,
        "scorer": scorer,
        "evaluator": evaluator,
    }


def _baseline(name: str, exporter: BaseNode, locations: Locations, previous: Previous) -> BaseNode:
    """Finds the last blessed model of this name that is older than the candidate."""
    if previous is Previous.SERVING:
        return PushedModel(
            base_directory=f"{locations.serving}/{name}",
            code_fingerprint=_fingerprint("pushed_model"),
        ).with_id(f"Baseline.{name}")
    artifacts = tfx.types.standard_artifacts
    return tfx.dsl.Resolver(
        strategy_class=PreviousBlessedModelStrategy,
        model=_all_of(artifacts.Model, exporter.id),
        model_blessing=_all_of(artifacts.ModelBlessing, f"CaptionEvaluator.{name}"),
        captions=_all_of(GeneratedCaptions, f"CaptionGen.{name}"),
        statistics=_all_of(CaptionStatistics, f"CaptionScorer.{name}"),
        candidate=exporter.outputs["model"],
    ).with_id(f"Baseline.{name}")


def _all_of(artifact_type: type[Artifact], node_id: str) -> tfx.dsl.Channel:
    """All artifacts of a type that a node put out, in any run.

    No `output_key` is given: with it, TFX's compiler would take this channel and the node's output
    in the current run for one and the same input of a resolver, and drop one.
    """
    return tfx.dsl.Channel(type=artifact_type, producer_component_id=node_id)


def _delivery_nodes(
    config: PipelineConfig,
    locations: Locations,
    example_gen: BaseNode,
    candidates: dict[str, dict[str, BaseNode]],
) -> list[BaseNode]:
    """The champion is chosen, served on trial, and pushed; so is each blessed candidate."""
    selector = ModelSelector(
        candidates={
            name: (
                nodes["exporter"].outputs["model"],
                nodes["evaluator"].outputs["evaluation"],
                nodes["evaluator"].outputs["blessing"],
            )
            for name, nodes in candidates.items()
        },
        metric=config.selector.metric,
        code_fingerprint=_fingerprint("model_selector"),
    )
    report = EvaluationReport(
        examples=example_gen.outputs["examples"],
        models={
            name: {
                "evaluation": nodes["evaluator"].outputs["evaluation"],
                "model": nodes["exporter"].outputs["model"],
                "model_run": nodes["trainer"].outputs["model_run"],
            }
            for name, nodes in candidates.items()
        },
        selection=selector.outputs["blessing"],
        gallery_size=config.evaluation.gallery_size,
        seed=config.evaluation.seed,
        code_fingerprint=_fingerprint("evaluation_report"),
    )
    validator = ServingValidator(
        model=selector.outputs["model"],
        examples=example_gen.outputs["examples"],
        config=config.serving_validator,
        code_fingerprint=_fingerprint("serving_validator"),
    )
    champion = Pusher(
        model=selector.outputs["model"],
        model_blessing=selector.outputs["blessing"],
        infra_blessing=validator.outputs["blessing"],
        base_directory=f"{locations.serving}/{CHAMPION}",
        code_fingerprint=_fingerprint("pusher"),
    )
    pushers = [
        Pusher(
            model=nodes["exporter"].outputs["model"],
            model_blessing=nodes["evaluator"].outputs["blessing"],
            base_directory=f"{locations.serving}/{name}",
            code_fingerprint=_fingerprint("pusher"),
        ).with_id(f"Pusher.{name}")
        for name, nodes in candidates.items()
    ]
    return [selector, report, validator, champion, *pushers]
