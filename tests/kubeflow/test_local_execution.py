"""Compiled specifications, executed node by node as a back end would."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tfx import v1 as tfx
from tfx.proto import example_gen_pb2

from tfx_captioner.kubeflow.config import KubeflowConfig
from tfx_captioner.kubeflow.local_execution import LocalBackend, NodeFailedError
from tfx_captioner.kubeflow.runner import Runner


def data_pipeline(records: Path) -> tfx.dsl.Pipeline:
    """A file-based ExampleGen, whose driver is a hook on Vertex AI, and who reads from it."""
    examples = tfx.components.ImportExampleGen(
        input_base=str(records),
        input_config=example_gen_pb2.Input(
            splits=[
                example_gen_pb2.Input.Split(name=split, pattern=f"{split}/*")
                for split in ("train", "val", "test")
            ]
        ),
    )
    statistics = tfx.components.StatisticsGen(examples=examples.outputs["examples"])
    return tfx.dsl.Pipeline(
        pipeline_name="data",
        pipeline_root="unused",
        components=[examples, statistics],
        beam_pipeline_args=["--direct_running_mode=in_memory", "--direct_num_workers=1"],
    )


@pytest.mark.slow(reason="three processes that import TFX")
def test_the_driver_is_run_as_vertex_does(sample_records: Path, tmp_path: Path) -> None:
    """Kubeflow's way is in `test_whole_pipeline`."""
    settings = KubeflowConfig(
        image="registry/captioner:1",
        backend="vertex",
        pipeline_root="gs://bucket/runs",
        records=str(sample_records),
        serving="/gcs/bucket/serving",
        checkpoints="/gcs/bucket/checkpoints",
    )
    runner = Runner(settings, tmp_path / "data.json")
    spec = runner.run(data_pipeline(sample_records))["pipelineSpec"]

    tasks = LocalBackend(spec, "vertex", tmp_path / "run").run()

    examples = tasks["ImportExampleGen"]
    metadata = examples.outputs["examples"]["metadata"]
    assert json.loads(metadata["split_names"]) == ["train", "val", "test"]
    assert "xor_checksum" in metadata["input_fingerprint"]  # written by the driver alone
    assert (examples.path["examples"] / "Split-val").is_dir()
    assert (tasks["StatisticsGen"].path["statistics"] / "Split-train/FeatureStats.pb").is_file()


@pytest.mark.slow(reason="starts a process that imports TFX")
def test_failing_node_is_named_with_its_log(tmp_path: Path) -> None:
    pipeline = tfx.dsl.Pipeline(
        pipeline_name="broken",
        pipeline_root="unused",
        components=[tfx.components.ImportSchemaGen(schema_file="/no/such/schema.pbtxt")],
    )
    settings = KubeflowConfig(
        image="registry/captioner:1",
        pipeline_root="minio://bucket/runs",
        volume_claim="captioner",
        records="/mnt/captioner/records",
        serving="/mnt/captioner/models",
        checkpoints="/mnt/captioner/checkpoints",
    )
    spec = Runner(settings, tmp_path / "job.json").run(pipeline)["pipelineSpec"]
    with pytest.raises(NodeFailedError, match=r"(?s)importschemagen failed.*/no/such/schema"):
        LocalBackend(spec, "kubeflow", tmp_path / "run").run()
