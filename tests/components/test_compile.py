"""The nodes of the evaluation as orchestrators see them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner
from tfx.types import Artifact, standard_artifacts
from tfx.types.channel import BaseChannel

from tests.components.walls import settings
from tfx_captioner.components.artifacts import (
    CaptionReferences,
    CaptionStatistics,
    GeneratedCaptions,
)
from tfx_captioner.components.caption_evaluator.component import CaptionEvaluator
from tfx_captioner.components.caption_gen.component import CaptionGen
from tfx_captioner.components.caption_scorer.component import CaptionScorer
from tfx_captioner.components.evaluation_report.component import EvaluationReport
from tfx_captioner.components.reference_scorer.component import ReferenceScorer

Channels = Mapping[str, BaseChannel]
KINDS: dict[str, type[Artifact]] = {
    "examples": standard_artifacts.Examples,
    "features": standard_artifacts.Examples,
    "model": standard_artifacts.Model,
    "baseline_model": standard_artifacts.Model,
    "model_run": standard_artifacts.ModelRun,
    "evaluation": standard_artifacts.ModelEvaluation,
    "selection": standard_artifacts.ModelBlessing,
    "references": CaptionReferences,
    "captions": GeneratedCaptions,
    "baseline_captions": GeneratedCaptions,
    "statistics": CaptionStatistics,
    "baseline_statistics": CaptionStatistics,
}


def take(channels: Channels, *keys: str) -> dict[str, BaseChannel]:
    return {key: channels[key] for key in keys}


NODES: dict[str, tuple[Callable[[Channels], BaseNode], set[str]]] = {
    "CaptionGen": (
        lambda channels: CaptionGen(
            **take(channels, "examples", "model", "baseline_model"),
            split="test",
            batch_size=4,
            code_fingerprint="0",
        ),
        {"examples", "model", "baseline_model"},
    ),
    "ReferenceScorer": (
        lambda channels: ReferenceScorer(
            examples=channels["examples"],
            features={"resnet50": channels["features"]},
            split="test",
            slices=("people",),
            code_fingerprint="0",
        ),
        {"examples", "features_resnet50"},
    ),
    "CaptionScorer": (
        lambda channels: CaptionScorer(
            **take(channels, "references", "captions", "baseline_captions"), code_fingerprint="0"
        ),
        {"references", "captions", "baseline_captions"},
    ),
    "CaptionEvaluator": (
        lambda channels: CaptionEvaluator(
            **take(channels, "references", "captions", "statistics", "model"),
            **take(channels, "baseline_captions", "baseline_statistics"),
            model_name="walls",
            config=settings(),
            code_fingerprint="0",
        ),
        {"references", "captions", "statistics", "model"}
        | {"baseline_captions", "baseline_statistics"},
    ),
    "EvaluationReport": (
        lambda channels: EvaluationReport(
            **take(channels, "examples", "selection"),
            models={"cnn_lstm": take(channels, "evaluation", "model", "model_run")},
            code_fingerprint="0",
        ),
        {"examples", "selection", "evaluation_cnn_lstm", "model_cnn_lstm", "model_run_cnn_lstm"},
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_kubeflow_compiles_it(tmp_path: Path, name: str) -> None:
    importers = {
        key: Importer(source_uri=f"/{key}", artifact_type=kind).with_id(key)
        for key, kind in KINDS.items()
    }
    build, inputs = NODES[name]
    node = build({key: importer.outputs["result"] for key, importer in importers.items()})
    out = tmp_path / "pipeline.json"
    kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        config=kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(default_image="image"),
        output_filename=str(out),
    ).run(tfx_pipeline.Pipeline("nodes", "/pipeline", components=[*importers.values(), node]))
    task = json.loads(out.read_text())["pipelineSpec"]["root"]["dag"]["tasks"][name]
    assert set(task["inputs"]["artifacts"]) == inputs


@pytest.mark.parametrize("name", ["", "resnet-50"])
def test_names_that_cannot_be_part_of_an_input_are_refused(name: str) -> None:
    examples = Importer(source_uri="/x", artifact_type=standard_artifacts.Examples)
    with pytest.raises(ValueError, match="letters, digits and underscores"):
        ReferenceScorer(
            examples=examples.outputs["result"],
            features={name: examples.outputs["result"]},
            split="test",
            slices=(),
            code_fingerprint="0",
        )
