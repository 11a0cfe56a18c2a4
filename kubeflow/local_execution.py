"""Executes a compiled specification on one machine, as its back end would on a cluster.

Each node runs as a process of its own, by the container's command with the container's real
arguments; only its environment is this machine's instead of the image's. Nothing else passes from
node to node than what the back end hands on: URIs and metadata. So what would fail in a cluster
fails here: a class that cannot be imported by its path, a type that does not survive the way
through JSON, a node that reads what it was not given.

What is emulated, and what is not:

- Kubeflow Pipelines: the driver (artifacts without type, MLMD's numbers as names), and the
  launcher (artifacts copied from the bucket into the pod's mirror of it, and back).
- Vertex AI: the hook `lifecycle.preCacheCheck`, run before the executor. Artifacts lie in local
  folders in place of gs://.
- Neither: caching, resources, importers and resolvers (the graph has none of the two).
"""

from __future__ import annotations

import dataclasses
import graphlib
import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

from tfx_captioner.kubeflow import entrypoint

LOG = logging.getLogger("captioner.kubeflow")
_LOG_TAIL = 4000

Json = dict[str, Any]


class NodeFailedError(RuntimeError):
    """A node's process failed; the message names it and ends with its log."""


@dataclasses.dataclass(frozen=True)
class TaskRun:
    """One node that ran.

    Attributes:
      command: Its command line.
      outputs: Its output artifacts by key, as the next nodes get them: name, URI, metadata.
      path: Folder of each output on this machine, by key.
    """

    command: list[str]
    outputs: dict[str, Json]
    path: dict[str, Path]


class LocalBackend:
    """Runs the tasks of one compiled specification, in order of dependence."""

    def __init__(self, spec: Mapping[str, Any], backend: str, root: Path, workers: int = 2) -> None:
        """Prepares a run.

        Args:
          spec: An adapted `pipelineSpec`.
          backend: The one it was adapted for, "kubeflow" or "vertex".
          root: Folder for buckets, pods and logs.
          workers: Nodes that may run at the same time.
        """
        self._spec = spec
        self._backend = backend
        self._root = root
        self._workers = workers
        self._done: dict[str, TaskRun] = {}
        self._ids = itertools.count(1)

    def run(self, parameters: Mapping[str, Any] | None = None) -> dict[str, TaskRun]:
        """Runs all tasks.

        Args:
          parameters: Runtime parameters by name, over the defaults of the specification.

        Returns:
          What each task did, by its name.

        Raises:
          NodeFailedError: A node's process failed.
          NotImplementedError: The specification uses what this back end does not know.
        """
        tasks = self._spec["root"]["dag"]["tasks"]
        order = graphlib.TopologicalSorter(
            {name: task.get("dependentTasks", []) for name, task in tasks.items()}
        )
        order.prepare()
        running: dict[futures.Future[TaskRun], str] = {}
        with futures.ThreadPoolExecutor(self._workers) as pool:
            while order.is_active():
                for name in order.get_ready():
                    future = pool.submit(self._run_task, name, tasks[name], parameters or {})
                    running[future] = name
                for future in futures.wait(running, return_when="FIRST_COMPLETED").done:
                    name = running.pop(future)
                    try:
                        self._done[name] = future.result()
                    except BaseException:
                        pool.shutdown(cancel_futures=True)
                        raise
                    order.done(name)
                    LOG.info("%s (%d/%d)", name, len(self._done), len(tasks))
        return self._done

    def _run_task(self, name: str, task: Json, parameters: Mapping[str, Any]) -> TaskRun:
        component = self._spec["components"][task["componentRef"]["name"]]
        executor = self._spec["deploymentSpec"]["executors"][component["executorLabel"]]
        if "container" not in executor:
            raise NotImplementedError(f"{name}: an executor of kind {', '.join(executor)}.")
        if "triggerPolicy" in task:
            raise NotImplementedError(f"{name}: a trigger policy, {task['triggerPolicy']}.")
        pod = self._root / "pods" / name
        pod.mkdir(parents=True)
        invocation = self._executor_input(name, task, component, parameters, pod)
        if self._backend == "kubeflow":
            self._download(invocation["inputs"]["artifacts"], pod)
        container = executor["container"]
        hook = container.get("lifecycle", {}).get("preCacheCheck")
        if hook:
            self._run_process(name, hook["command"] + hook["args"], invocation, pod)
            output_file = Path(invocation["outputs"]["outputFile"])
            entrypoint.merge_driver_output(invocation, output_file)
        command = self._run_process(name, container["command"] + container["args"], invocation, pod)
        return self._collect(invocation, command, pod)

    def _executor_input(
        self,
        name: str,
        task: Json,
        component: Json,
        parameters: Mapping[str, Any],
        pod: Path,
    ) -> Json:
        """The ExecutorInput the back end's driver would write."""
        declared = task.get("inputs", {})
        inputs = {}
        for key, source in declared.get("artifacts", {}).items():
            output = source["taskOutputArtifact"]
            producer = self._done[output["producerTask"]]
            artifact = dict(producer.outputs[output["outputArtifactKey"]])
            if self._backend == "kubeflow":
                del artifact["type"]
            inputs[key] = {"artifacts": [artifact]}
        outputs = {
            key: {"artifacts": [self._new_artifact(name, key, output)]}
            for key, output in component.get("outputDefinitions", {}).get("artifacts", {}).items()
        }
        return {
            "inputs": {
                "artifacts": inputs,
                "parameterValues": {
                    key: self._parameter(value, parameters)
                    for key, value in declared.get("parameters", {}).items()
                },
            },
            "outputs": {
                "artifacts": outputs,
                "outputFile": str(pod / "outputs" / "output_metadata.json"),
            },
        }

    def _parameter(self, value: Json, parameters: Mapping[str, Any]) -> Any:
        if "runtimeValue" in value:
            return value["runtimeValue"]["constant"]
        if "componentInputParameter" in value:
            name = value["componentInputParameter"]
            if name in parameters:
                return parameters[name]
            declared = self._spec["root"]["inputDefinitions"]["parameters"][name]
            if "defaultValue" in declared:
                return declared["defaultValue"]
            raise ValueError(f"Runtime parameter `{name}` has no default and was not given.")
        raise NotImplementedError(f"A parameter from {', '.join(value)}.")

    def _new_artifact(self, task: str, key: str, output: Json) -> Json:
        root = self._spec["defaultPipelineRoot"].rstrip("/")
        if self._backend == "vertex":
            root = str(self._root / "bucket")
        return {
            "name": key if self._backend == "kubeflow" else f"{task}/{key}",
            "uri": f"{root}/{self._spec['pipelineInfo']['name']}/{task}/{key}",
            "type": output["artifactType"],
            "metadata": {},
        }

    def _run_process(
        self, name: str, template: list[str], invocation: Json, pod: Path
    ) -> list[str]:
        command = [part.replace("{{$}}", json.dumps(invocation)) for part in template]
        unresolved = [part for part in command if "{{$" in part]
        if unresolved:
            raise NotImplementedError(f"{name}: placeholders other than {{{{$}}}}: {unresolved}.")
        if command[0] == "python":  # of the image; here it is this one
            command[0] = sys.executable
        # As in the image, kfp is told that it need not import its client.
        environment = os.environ | {
            "_KFP_RUNTIME": "true",
            entrypoint.MOUNT_ROOT_VARIABLE: str(pod),
        }
        log = pod / "log.txt"
        with log.open("ab") as file:
            status = subprocess.run(
                command, cwd=pod, env=environment, stdout=file, stderr=file, check=False
            ).returncode
        if status:
            tail = log.read_text(encoding="utf-8", errors="replace")[-_LOG_TAIL:]
            raise NodeFailedError(f"Node {name} failed with status {status}. Log {log}:\n{tail}")
        return command

    def _collect(self, invocation: Json, command: list[str], pod: Path) -> TaskRun:
        """Publishes what a node put out, and uploads it where the pod's files are its own."""
        output_file = Path(invocation["outputs"]["outputFile"])
        written = json.loads(output_file.read_text(encoding="utf-8")).get("artifacts", {})
        outputs = {}
        paths = {}
        for key, artifacts in invocation["outputs"]["artifacts"].items():
            artifact = artifacts["artifacts"][0]
            changed = written.get(key, {}).get("artifacts", [{}])[0]
            artifact["uri"] = changed.get("uri", artifact["uri"])
            artifact["metadata"] |= changed.get("metadata", {})
            if self._backend == "kubeflow":
                artifact["name"] = str(next(self._ids))
                mirror = Path(entrypoint.to_path(artifact["uri"], str(pod)))
                paths[key] = self._in_bucket(artifact["uri"])
                _copy_files(mirror, paths[key])
            else:
                paths[key] = Path(artifact["uri"])
            outputs[key] = artifact
        return TaskRun(command, outputs, paths)

    def _download(self, inputs: Json, pod: Path) -> None:
        for artifacts in inputs.values():
            for artifact in artifacts["artifacts"]:
                target = Path(entrypoint.to_path(artifact["uri"], str(pod)))
                _copy_files(self._in_bucket(artifact["uri"]), target)

    def _in_bucket(self, uri: str) -> Path:
        return Path(entrypoint.to_path(uri, str(self._root / "buckets")))


def _copy_files(source: Path, target: Path) -> None:
    """Copies a folder as a bucket would: a bucket keeps no folder that is empty."""
    for file in source.rglob("*"):
        if file.is_file():
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
