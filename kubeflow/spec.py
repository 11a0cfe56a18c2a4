"""From the specification TFX compiles to the one a back end accepts.

TFX compiles for Vertex AI. The open-source back end of Kubeflow Pipelines reads the same format,
but (read in kubeflow/pipelines, `backend/src/v2`):

- names of tasks become names of Argo tasks, which allow letters, digits and dashes;
- it ignores `lifecycle.preCacheCheck`, by which a file-based ExampleGen learns what it reads;
- resolver executors are not implemented, and so refused here;
- it hands input artifacts on without their types, and bucket URIs that TensorFlow cannot open.

The last is mended where it happens, in `kubeflow.entrypoint`; the rest here.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tfx.dsl.components.base.base_node import BaseNode
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.utils import import_utils

from tfx_captioner.kubeflow.config import KubeflowConfig, NodeResources, match_nodes
from tfx_captioner.kubeflow.entrypoint import DRIVER_FLAG, EXECUTOR_FLAG
from tfx_captioner.pipeline.errors import UserError

Spec = dict[str, Any]

# Looks at a folder instead of at inputs, so that no cache may answer for it.
_UNCACHEABLE = "tfx_captioner.components.pushed_model.executor.Executor"


def adapt(spec: Mapping[str, Any], settings: KubeflowConfig) -> Spec:
    """A compiled specification with the cluster's settings in it, fit for its back end.

    Args:
      spec: A `pipelineSpec` in the 2.1 schema.
      settings: Settings of the cluster.

    Raises:
      UserError: A node cannot run there, or a setting names no node.
    """
    adapted: Spec = copy.deepcopy(dict(spec))
    _refuse_all_but_containers(adapted)
    _forbid_caching(adapted)
    _set_images(adapted, settings.images)
    _set_resources(adapted, settings.resources)
    adapted["defaultPipelineRoot"] = settings.pipeline_root
    if settings.backend == "kubeflow":
        _run_drivers_in_container(adapted, settings)
        _rename_tasks(adapted)
    return adapted


def platform_spec(spec: Mapping[str, Any], settings: KubeflowConfig) -> Spec | None:
    """What Kubernetes alone is told: the second document of the file, or None for nothing.

    Args:
      spec: The adapted specification.
      settings: Settings of the cluster.
    """
    if not settings.volume_claim:
        return None
    executors = {
        label: {
            "pvcMount": [{"constant": settings.volume_claim, "mountPath": settings.volume_path}]
        }
        for label, _ in containers(spec)
    }
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": executors}}}}


def containers(spec: Mapping[str, Any]) -> Iterator[tuple[str, Spec]]:
    """Executor label and container of each node that runs in one."""
    for label, executor in sorted(spec["deploymentSpec"]["executors"].items()):
        if "container" in executor:
            yield label, executor["container"]


def check_importable(nodes: Iterable[BaseNode]) -> None:
    """Looks up every class that the containers will look up by its dotted path.

    Args:
      nodes: Nodes of the pipeline.

    Raises:
      UserError: An executor or an artifact type is not where its path says.
    """
    for node in nodes:
        if isinstance(node.executor_spec, ExecutorClassSpec):
            executor = node.executor_spec.executor_class
            path = f"{executor.__module__}.{executor.__qualname__}"
            _check_path(path, executor, f"node {node.id}: its executor")
        for key, channel in {**node.inputs, **node.outputs}.items():
            kind = channel.type
            if not kind.__module__.startswith("tfx."):
                _check_path(kind.TYPE_NAME, kind, f"node {node.id}: the type of its `{key}`")


def _check_path(path: str, expected: type, what: str) -> None:
    problem = "it is defined in a script" if expected.__module__ == "__main__" else ""
    try:
        if import_utils.import_class_by_path(path) is not expected:
            problem = problem or "another class is there"
    except (AttributeError, ImportError, ValueError) as error:
        problem = problem or str(error)
    if problem:
        raise UserError(
            f"{what} must be importable by its dotted path in the image, from a module of an "
            f"installed package. Received: {path} ({problem})."
        )


def _executor_class(executor: Mapping[str, Any]) -> str:
    args = executor.get("container", {}).get("args", [])
    return args[args.index(EXECUTOR_FLAG) + 1] if EXECUTOR_FLAG in args else ""


def _executors_by_node(spec: Mapping[str, Any]) -> dict[str, Spec]:
    executors = spec["deploymentSpec"]["executors"]
    return {
        node: executors[component["executorLabel"]]
        for node, component in spec["components"].items()
        if "executorLabel" in component
    }


def _forbid_caching(spec: Spec) -> None:
    executors = _executors_by_node(spec)
    for task in spec["root"]["dag"]["tasks"].values():
        if _executor_class(executors[task["componentRef"]["name"]]) == _UNCACHEABLE:
            task.pop("cachingOptions", None)


def _set_images(spec: Spec, images: Mapping[str, str]) -> None:
    executors = _executors_by_node(spec)
    for node, image in match_nodes(images, executors, "images").items():
        executors[node]["container"]["image"] = image


def _set_resources(spec: Spec, resources: Mapping[str, NodeResources]) -> None:
    """Sets limits in the specification itself: `with_platform_config` does not reach ExampleGen."""
    executors = _executors_by_node(spec)
    for node, limits in match_nodes(resources, executors, "resources").items():
        executors[node]["container"]["resources"] = _resource_spec(limits)


def _resource_spec(limits: NodeResources) -> Spec:
    resources: Spec = {}
    if limits.cpu is not None:
        resources["cpuLimit"] = limits.cpu
    if limits.memory_gib is not None:
        # The unit of the field is 10^9 bytes, whatever its name.
        resources["memoryLimit"] = round(limits.memory_gib * 2**30 / 1e9, 3)
    if limits.accelerator:
        resources["accelerator"] = {
            "type": limits.accelerator,
            "count": str(limits.accelerator_count),
        }
    return resources


def _refuse_all_but_containers(spec: Mapping[str, Any]) -> None:
    for node, executor in _executors_by_node(spec).items():
        if "container" not in executor:
            raise UserError(
                f"node {node} is {' and '.join(executor)}, not a container. Kubeflow Pipelines "
                "implements no resolvers, and importers bypass the entry point; use a node of its "
                "own, as `components.pushed_model` is."
            )


def _run_drivers_in_container(spec: Spec, settings: KubeflowConfig) -> None:
    """Hands the ExampleGen's driver to the entry point, and takes back what it made safe."""
    executors = _executors_by_node(spec)
    for task in spec["root"]["dag"]["tasks"].values():
        container = executors[task["componentRef"]["name"]].get("container", {})
        if container.pop("lifecycle", None):
            container["args"].append(DRIVER_FLAG)
            if not settings.records_are_immutable:
                task.pop("cachingOptions", None)


def _rename_tasks(spec: Spec) -> None:
    dag = spec["root"]["dag"]
    names = {name: kubernetes_name(name) for name in dag["tasks"]}
    taken: dict[str, str] = {}
    for node, name in names.items():
        if name in taken:
            raise UserError(
                f"nodes {taken[name]} and {node} would both be called {name} on Kubernetes."
            )
        taken[name] = node
    dag["tasks"] = {names[name]: task for name, task in dag["tasks"].items()}
    for task in dag["tasks"].values():
        if "dependentTasks" in task:
            task["dependentTasks"] = [names[name] for name in task["dependentTasks"]]
        for source in task.get("inputs", {}).get("artifacts", {}).values():
            output = source["taskOutputArtifact"]
            output["producerTask"] = names[output["producerTask"]]


def kubernetes_name(node_id: str) -> str:
    """A node's id as Argo accepts it: `Trainer.cnn_lstm` is `trainer-cnn-lstm`."""
    return re.sub(r"[^a-z0-9]+", "-", node_id.lower()).strip("-")
