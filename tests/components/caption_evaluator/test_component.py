"""The node as orchestrators see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner
from tfx.types import standard_artifacts

from tests.components.caption_evaluator.walls import settings
from tfx_captioner.components.caption_evaluator.component import CaptionEvaluator


@pytest.mark.parametrize("with_options", [False, True])
def test_kubeflow_compiles_it(tmp_path: Path, with_options: bool) -> None:
    kinds = {
        "examples": standard_artifacts.Examples,
        "model": standard_artifacts.Model,
        "model_run": standard_artifacts.ModelRun,
        "features": standard_artifacts.Examples,
    }
    nodes = {
        key: Importer(source_uri=f"/{key}", artifact_type=kind).with_id(key)
        for key, kind in kinds.items()
        if with_options or key in ("examples", "model")
    }
    evaluator = CaptionEvaluator(
        **{key: node.outputs["result"] for key, node in nodes.items()},
        model_name="walls",
        config=settings(),
        code_fingerprint="0",
    )
    out = tmp_path / "pipeline.json"
    kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        config=kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(default_image="image"),
        output_filename=str(out),
    ).run(tfx_pipeline.Pipeline("evaluation", "/pipeline", components=[*nodes.values(), evaluator]))
    task = json.loads(out.read_text())["pipelineSpec"]["root"]["dag"]["tasks"]["CaptionEvaluator"]
    assert set(task["inputs"]["artifacts"]) == set(nodes)
    assert "bleu_1" in json.dumps(task["inputs"]["parameters"]["config"])
