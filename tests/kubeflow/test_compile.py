"""The compiled specification: the golden one, and what each back end needs of it."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from tfx import v1 as tfx
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import Artifact, standard_artifacts
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec

from tfx_captioner.components.data_gate.executor import Executor
from tfx_captioner.kubeflow.config import load_settings
from tfx_captioner.kubeflow.entrypoint import DRIVER_FLAG
from tfx_captioner.kubeflow.runner import Runner, compile_pipeline
from tfx_captioner.kubeflow.spec import kubernetes_name
from tfx_captioner.pipeline.configs import load_config
from tfx_captioner.pipeline.errors import UserError

GOLDEN = Path(__file__).with_name("golden") / "sample.yaml"
# Argo's, for names of tasks (`workflowFieldNameFmt` in its validation).
ARGO_NAME = r"[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?"
# Settings that are tuned more often than the graph changes: their keys are golden, not values.
TUNED = {"config", "custom_config", "decoding", "encoder"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Both documents of the file for Kubeflow."""
    output = tmp_path_factory.mktemp("compiled") / "sample.yaml"
    config = load_config("sample", ["beam_pipeline_args=[]"])
    compile_pipeline(config, load_settings("kubeflow"), output)
    return list(yaml.safe_load_all(output.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def for_vertex(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("vertex") / "flickr8k.json"
    compile_pipeline(load_config("flickr8k"), load_settings("vertex"), output)
    job: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return job


def test_specification_is_the_golden_one(compiled: list[dict[str, Any]]) -> None:
    text = yaml.safe_dump_all([normalised(document) for document in compiled])
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    assert list(yaml.safe_load_all(text)) == list(
        yaml.safe_load_all(GOLDEN.read_text(encoding="utf-8"))
    ), "The graph changed. Where that is right: UPDATE_GOLDEN=1 make test TESTS=tests/kubeflow"


@pytest.mark.slow(reason="a process of its own, for what libraries print at their import")
def test_the_command_writes_the_same_and_says_that_alone(
    compiled: list[dict[str, Any]], tmp_path: Path
) -> None:
    output = tmp_path / "sample.yaml"
    command = [
        sys.executable,
        "-m",
        "tfx_captioner.pipeline.cli",
        "compile",
        "kubeflow",
        str(output),
    ]
    command += ["--set", "beam_pipeline_args=[]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{output}: 25 nodes of sample, image ")
    assert list(yaml.safe_load_all(output.read_text(encoding="utf-8"))) == compiled


def normalised(value: Any, key: str = "") -> Any:
    """A compiled document without versions, fingerprints and what is tuned from day to day."""
    if key in TUNED and isinstance(value, dict) and "constant" in value.get("runtimeValue", {}):
        return sorted(json.loads(value["runtimeValue"]["constant"]) or [])
    if isinstance(value, dict):
        return {name: normalised(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [normalised(item) for item in value]
    if key == "sdkVersion":
        return "tfx"
    if key == "instanceSchema":
        return yaml.safe_load(value)["title"]
    if isinstance(value, str):
        if re.fullmatch(r"[0-9a-f]{16}", value):
            return "fingerprint"
        if value.startswith("{") and value != "{{$}}":
            tree = json.loads(value)
            # The container is told its component's inputs once more.
            return "inputs" if tree.keys() <= {"artifacts", "parameters"} else normalised(tree)
    return value


def test_names_of_tasks_are_argo_s(compiled: list[dict[str, Any]]) -> None:
    tasks = compiled[0]["root"]["dag"]["tasks"]
    assert "trainer-cnn-lstm" in tasks
    assert all(re.fullmatch(ARGO_NAME, name) for name in tasks)
    for task in tasks.values():
        assert set(task.get("dependentTasks", [])) <= set(tasks)
        for source in task.get("inputs", {}).get("artifacts", {}).values():
            assert source["taskOutputArtifact"]["producerTask"] in tasks


def test_nodes_are_containers_of_the_image_with_its_entry_point(
    compiled: list[dict[str, Any]],
) -> None:
    executors = compiled[0]["deploymentSpec"]["executors"]
    assert len(executors) == len(compiled[0]["root"]["dag"]["tasks"])
    for label, executor in executors.items():
        container = executor["container"]
        suffix = "-gpu" if label.startswith("Trainer.") else ""
        assert container["image"] == f"registry.example.com/tfx-captioner:0.1.0{suffix}"
        assert container["command"] == ["python", "-m", "tfx_captioner.kubeflow.entrypoint"]
        assert "lifecycle" not in container
    assert DRIVER_FLAG in executors["ImportExampleGen_executor"]["container"]["args"]


def test_limits_and_volume_reach_every_node(compiled: list[dict[str, Any]]) -> None:
    spec, platform = compiled
    executors = spec["deploymentSpec"]["executors"]
    resources = {label: entry["container"]["resources"] for label, entry in executors.items()}
    assert resources["Trainer.cnn_lstm_executor"]["accelerator"] == {
        "type": "nvidia.com/gpu",
        "count": "1",
    }
    assert resources["ImportExampleGen_executor"] == {"cpuLimit": 2, "memoryLimit": 8.59}
    mounted = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert mounted.keys() == executors.keys()


def test_what_depends_on_folders_is_not_cached(compiled: list[dict[str, Any]]) -> None:
    tasks = compiled[0]["root"]["dag"]["tasks"]
    uncached = {name for name, task in tasks.items() if "cachingOptions" not in task}
    assert uncached == {"importexamplegen", "baseline-cnn-lstm", "baseline-resnet-gru"}


def test_a_search_comes_before_the_training_and_changes_nothing_else(
    compiled: list[dict[str, Any]], tmp_path: Path
) -> None:
    output = tmp_path / "tuned.yaml"
    config = load_config("sample", ["beam_pipeline_args=[]", "tuner.trials=4"])
    compile_pipeline(config, load_settings("kubeflow"), output)
    spec, _ = yaml.safe_load_all(output.read_text(encoding="utf-8"))
    tasks = spec["root"]["dag"]["tasks"]
    for model in ("cnn-lstm", "resnet-gru"):
        search, training = tasks.pop(f"tuner-{model}"), tasks[f"trainer-{model}"]
        source = training["inputs"]["artifacts"].pop("hyperparameters")["taskOutputArtifact"]
        assert source == {
            "producerTask": f"tuner-{model}",
            "outputArtifactKey": "best_hyperparameters",
        }
        training["dependentTasks"].remove(f"tuner-{model}")
        assert search["inputs"]["artifacts"] == training["inputs"]["artifacts"]
        executor = spec["deploymentSpec"]["executors"][f"Tuner.{model.replace('-', '_')}_executor"]
        assert executor["container"]["resources"]["accelerator"]["type"] == "nvidia.com/gpu"
    assert normalised(tasks) == normalised(compiled[0]["root"]["dag"]["tasks"])


def test_vertex_keeps_the_driver_as_a_hook(for_vertex: dict[str, Any]) -> None:
    spec = for_vertex["pipelineSpec"]
    executors = spec["deploymentSpec"]["executors"]
    container = executors["ImportExampleGen_executor"]["container"]
    assert "preCacheCheck" in container["lifecycle"]
    assert DRIVER_FLAG not in container["args"]
    assert "Trainer.cnn_lstm" in spec["root"]["dag"]["tasks"]
    assert "cachingOptions" in spec["root"]["dag"]["tasks"]["ImportExampleGen"]
    assert for_vertex["runtimeConfig"]["gcsOutputDirectory"] == "gs://BUCKET/pipelines"


def test_beam_arguments_reach_the_nodes_they_are_for(for_vertex: dict[str, Any]) -> None:
    executors = for_vertex["pipelineSpec"]["deploymentSpec"]["executors"]
    on_dataflow = {
        label
        for label, executor in executors.items()
        if "--runner=DataflowRunner" in executor["container"]["args"]
    }
    assert on_dataflow
    assert all(label.startswith("ImageFeaturizer.") for label in on_dataflow)


class NowhereArtifact(Artifact):
    """A type whose name says another place than its own."""

    TYPE_NAME = "tfx_captioner.NowhereArtifact"


@pytest.mark.parametrize("problem", ["executor", "artifact"])
def test_a_node_without_an_importable_path_is_named(problem: str, tmp_path: Path) -> None:
    output_type = NowhereArtifact if problem == "artifact" else standard_artifacts.Model

    class LocalExecutor(BaseExecutor):
        def Do(self, input_dict: Any, output_dict: Any, exec_properties: Any) -> None:  # noqa: N802
            raise NotImplementedError

    class LocalSpec(ComponentSpec):
        PARAMETERS: ClassVar[dict[str, Any]] = {}
        INPUTS: ClassVar[dict[str, Any]] = {}
        OUTPUTS: ClassVar[dict[str, Any]] = {"made": ChannelParameter(type=output_type)}

    class Added(BaseComponent):
        SPEC_CLASS = LocalSpec
        EXECUTOR_SPEC = ExecutorClassSpec(Executor if problem == "artifact" else LocalExecutor)

    node = Added(LocalSpec(made=Channel(type=output_type)))
    pipeline = tfx.dsl.Pipeline(pipeline_name="added", pipeline_root="unused", components=[node])
    message = {
        "executor": r"Added: its executor must be importable.*<locals>\.LocalExecutor",
        "artifact": r"Added: the type of its `made` must be.*tfx_captioner\.NowhereArtifact",
    }[problem]
    with pytest.raises(UserError, match=message):
        Runner(load_settings("kubeflow"), tmp_path / "added.yaml").run(pipeline)


def test_a_resolver_is_refused(tmp_path: Path) -> None:
    resolver = tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestArtifactStrategy,
        model=tfx.dsl.Channel(type=standard_artifacts.Model),
    ).with_id("Latest")
    pipeline = tfx.dsl.Pipeline(pipeline_name="a", pipeline_root="unused", components=[resolver])
    with pytest.raises(UserError, match="node Latest is resolver, not a container"):
        Runner(load_settings("kubeflow"), tmp_path / "a.yaml").run(pipeline)


def test_drift_that_cannot_be_seen_is_refused(tmp_path: Path) -> None:
    config = load_config("sample", ["data_gate.drift={caption/text: 0.1}"])
    with pytest.raises(UserError, match=r"`data_gate.drift`.*caption/text"):
        compile_pipeline(config, load_settings("kubeflow"), tmp_path / "sample.yaml")


def test_workers_elsewhere_need_a_bucket_they_can_read(tmp_path: Path) -> None:
    arguments = {"Transform": ["--runner=DataflowRunner"]}
    settings = load_settings("kubeflow", {"beam_pipeline_args": arguments})
    with pytest.raises(UserError, match=r"of Transform names a runner.*minio://mlpipeline"):
        compile_pipeline(load_config("sample"), settings, tmp_path / "sample.yaml")


def test_wildcards_in_a_location_are_refused(tmp_path: Path) -> None:
    settings = load_settings("kubeflow", {"records": "/mnt/captioner/records [1]"})
    with pytest.raises(UserError, match=r"`records` must not contain .* with \[ and \]"):
        compile_pipeline(load_config("sample"), settings, tmp_path / "sample.yaml")


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must end in .yaml or .json"):
        compile_pipeline(load_config("sample"), load_settings("kubeflow"), tmp_path / "sample.txt")


def test_node_ids_become_kubernetes_names() -> None:
    assert kubernetes_name("Trainer.cnn_lstm") == "trainer-cnn-lstm"


def test_tfx_s_own_kubeflow_engine_is_still_broken() -> None:
    """When a TFX release mends `tfx pipeline create --engine=kubeflow`, this tells."""
    with pytest.raises(ImportError, match="kubeflow_dag_runner"):
        importlib.import_module("tfx.tools.cli.handler.kubeflow_handler")
