"""Compiled specifications, executed node by node as a back end would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tfx import v1 as tfx
from tfx.proto import example_gen_pb2

import schema
from components.data_gate.component import DataGate
from kubeflow.config import KubeflowConfig
from kubeflow.local_execution import LocalBackend, NodeFailedError
from kubeflow.runner import Runner

BACKENDS = {
    "kubeflow": {"pipeline_root": "minio://bucket/runs", "volume_claim": "captioner"},
    "vertex": {"pipeline_root": "gs://bucket/runs"},
}


def data_pipeline(records: Path) -> tfx.dsl.Pipeline:
    """The data part of the graph: four standard nodes and one of ours."""
    examples = tfx.components.ImportExampleGen(
        input_base=str(records),
        input_config=example_gen_pb2.Input(
            splits=[
                example_gen_pb2.Input.Split(name=split, pattern=f"{split}/*")
                for split in ("train", "val", "test")
            ]
        ),
    )
    schema_gen = tfx.components.ImportSchemaGen(
        schema_file=str(Path(schema.__file__).with_name("schema.pbtxt"))
    )
    statistics = tfx.components.StatisticsGen(
        examples=examples.outputs["examples"], schema=schema_gen.outputs["schema"]
    )
    validator = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=schema_gen.outputs["schema"]
    )
    gate = DataGate(
        anomalies=validator.outputs["anomalies"],
        statistics=statistics.outputs["statistics"],
        schema=schema_gen.outputs["schema"],
        drift={},
        code_fingerprint="1",
    )
    return tfx.dsl.Pipeline(
        pipeline_name="data",
        pipeline_root="unused",
        components=[examples, schema_gen, statistics, validator, gate],
        beam_pipeline_args=["--direct_running_mode=in_memory", "--direct_num_workers=1"],
    )


def settings(backend: str, records: Path) -> KubeflowConfig:
    return KubeflowConfig(
        image="registry/captioner:1",
        backend=backend,
        records=str(records),
        serving=str(records.parent / "serving"),
        checkpoints=str(records.parent / "checkpoints"),
        **BACKENDS[backend],
    )


def compiled(backend: str, records: Path, tmp_path: Path) -> dict:
    runner = Runner(settings(backend, records), tmp_path / "data.json")
    return runner.run(data_pipeline(records))["pipelineSpec"]


@pytest.mark.slow(reason="five processes, each importing TFX, for each of the two back ends")
@pytest.mark.parametrize("backend", BACKENDS)
def test_data_nodes_run_in_processes_of_their_own(
    backend: str, sample_records: Path, tmp_path: Path
) -> None:
    spec = compiled(backend, sample_records, tmp_path)
    tasks = LocalBackend(spec, backend, tmp_path / "run").run()

    examples, gate = (
        next(run for name, run in tasks.items() if name.lower().replace("-", "") == wanted)
        for wanted in ("importexamplegen", "datagate")
    )
    metadata = examples.outputs["examples"]["metadata"]
    assert json.loads(metadata["split_names"]) == ["train", "val", "test"]
    # Written by the driver alone: a hook on Vertex AI, called by the entry point on Kubeflow.
    assert "xor_checksum" in metadata["input_fingerprint"]
    assert all(
        (examples.path["examples"] / f"Split-{split}").is_dir() for split in ("train", "val")
    )
    approval = gate.outputs["approval"]
    assert "title: components.DataApproval" in approval["type"]["instanceSchema"]
    assert json.loads((gate.path["approval"] / "approval.json").read_text())["anomalies"] == 0
    root = "minio://bucket/runs/" if backend == "kubeflow" else str(tmp_path)
    assert approval["uri"].startswith(root)


@pytest.mark.slow(reason="starts a process that imports TFX")
def test_failing_node_is_named_with_its_log(tmp_path: Path) -> None:
    pipeline = tfx.dsl.Pipeline(
        pipeline_name="broken",
        pipeline_root="unused",
        components=[tfx.components.ImportSchemaGen(schema_file="/no/such/schema.pbtxt")],
    )
    config = settings("kubeflow", tmp_path)
    spec = Runner(config, tmp_path / "job.json").run(pipeline)["pipelineSpec"]
    with pytest.raises(NodeFailedError, match=r"(?s)importschemagen failed.*/no/such/schema"):
        LocalBackend(spec, "kubeflow", tmp_path / "run").run()
