"""The sample preset, compiled for Kubeflow and executed node by node, against the local run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tfx import v1 as tfx

from tfx_captioner import schema
from tfx_captioner.components.caption_evaluator.summary import read_summary
from tfx_captioner.components.scores import OVERALL
from tfx_captioner.kubeflow.config import KubeflowConfig
from tfx_captioner.kubeflow.local_execution import LocalBackend
from tfx_captioner.kubeflow.runner import compile_pipeline
from tfx_captioner.pipeline.configs import PipelineConfig, load_config
from tfx_captioner.pipeline.pipeline import Locations, create_pipeline
from tfx_captioner.pipeline.runs import latest_outputs, open_store

SCHEMA = Path(schema.__file__).with_name("schema.pbtxt")
# Small enough for minutes, and thresholds that a model of one epoch passes.
OVERRIDES = (
    "trainer={epochs: 1, batch_size: 32, learning_rate: 0.003, warmup_epochs: 0}",
    "decoding={beam_size: 1, max_length: 12}",
    "evaluator.thresholds={bleu_1: 0.0}",
    "evaluator.change_thresholds={bleu_1: -1.0}",
    "selector.metric=bleu_1",
    "serving_validator={max_latency_p95_ms: 60000, max_memory_mb: 8192}",
    "models.cnn_lstm.decoder={cell: lstm, units: 32, embedding_dim: 16, attention: additive}",
    "models.resnet_gru.decoder={cell: gru, units: 32, embedding_dim: 16, attention: dot_product}",
)


@pytest.fixture(scope="module")
def config() -> PipelineConfig:
    return load_config("sample", OVERRIDES)


@pytest.fixture(scope="module")
def local_scores(
    config: PipelineConfig, sample_records: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, float | None]]:
    """Scores of each model by TFX's LocalDagRunner, as `captioner run` does."""
    root = tmp_path_factory.mktemp("local")
    metadata = root / "metadata.db"
    locations = Locations(
        records=str(sample_records),
        artifacts=str(root / "artifacts"),
        serving=str(root / "serving"),
        schema=str(SCHEMA),
        checkpoints=str(root / "checkpoints"),
    )
    connection = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(metadata))
    tfx.orchestration.LocalDagRunner().run(create_pipeline(config, locations, connection))
    outputs = latest_outputs(open_store(metadata), config.name)
    return {
        name: read_summary(outputs[f"CaptionEvaluator.{name}"]["evaluation"].uri).scores[OVERALL]
        for name in config.models
    }


@pytest.mark.slow(reason="the whole pipeline twice: in one process, and each node in its own")
def test_compiled_specification_pushes_a_model_with_the_scores_of_a_local_run(
    config: PipelineConfig,
    local_scores: dict[str, dict[str, float | None]],
    sample_records: Path,
    tmp_path: Path,
) -> None:
    settings = KubeflowConfig(
        image="registry/captioner:1",
        pipeline_root="minio://bucket/runs",
        volume_claim="captioner",
        records=str(sample_records),
        serving=str(tmp_path / "serving"),
        checkpoints=str(tmp_path / "checkpoints"),
        schema=str(SCHEMA),
    )
    spec = compile_pipeline(config, settings, tmp_path / "captioner.yaml")["pipelineSpec"]

    tasks = LocalBackend(spec, "kubeflow", tmp_path / "run").run()

    examples = tasks["importexamplegen"].outputs["examples"]["metadata"]
    assert json.loads(examples["split_names"]) == ["train", "val", "test"]
    # Written by the driver alone, which the entry point calls.
    assert "xor_checksum" in examples["input_fingerprint"]
    gate = tasks["datagate"]
    assert "title: tfx_captioner.DataApproval" in gate.outputs["approval"]["type"]["instanceSchema"]
    assert gate.outputs["approval"]["uri"].startswith("minio://bucket/runs/")
    assert json.loads((gate.path["approval"] / "approval.json").read_text())["anomalies"] == 0
    for name in config.models:
        evaluation = tasks[f"captionevaluator-{name.replace('_', '-')}"].path["evaluation"]
        assert read_summary(str(evaluation)).scores[OVERALL] == pytest.approx(
            local_scores[name], abs=1e-6
        )
        assert _versions(tmp_path / "serving" / name) == 1
    assert gate.outputs["approval"]["metadata"]
    assert tasks["pusher"].outputs["pushed_model"]["metadata"]["pushed"] == 1
    assert _versions(tmp_path / "serving" / "captioner") == 1


def _versions(base: Path) -> int:
    """How many versions of a model were pushed."""
    return sum((version / "saved_model.pb").is_file() for version in base.iterdir())
