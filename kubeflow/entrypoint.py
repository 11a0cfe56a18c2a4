"""What a node's container starts: TFX's entry point, prepared.

Before TFX's own is called, and after:

- Bucket URIs become the local folders they are mirrored or mounted under (`minio://b/k` is
  `/minio/b/k`), since TensorFlow opens `gs://` alone; afterwards they become URIs again. Not so
  for a node whose Beam runner is elsewhere: its workers have no such folders.
- Output folders are made, as they are in a local run.
- Input artifacts get the type the compiled component declares; Kubeflow hands on none.
- The ExampleGen's driver, a hook that Kubeflow does not call, runs here.

It is light: TFX is imported by the processes it starts.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tfx_captioner.pipeline.beam_arguments import runs_elsewhere

MODULE = "tfx_captioner.kubeflow.entrypoint"
TFX_EXECUTOR = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"
TFX_DRIVER = "tfx.orchestration.kubeflow.v2.file_based_example_gen.driver"

EXECUTOR_FLAG = "--executor_class_path"
INVOCATION_FLAG = "--json_serialized_invocation_args"
INPUTS_SPEC_FLAG = "--json_serialized_inputs_spec_args"
DRIVER_FLAG = "--run_example_gen_driver"

# Where Kubeflow's launcher mirrors buckets (LocalPathForURI in its launcher_v2.go), and Vertex AI
# mounts those of Google. Another root stands in for the container's file system where there is
# no container.
MOUNTS = {"gs://": "gcs", "s3://": "s3", "minio://": "minio"}
MOUNT_ROOT_VARIABLE = "CAPTIONER_MOUNT_ROOT"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the ExampleGen's driver where asked for, then the executor.

    Args:
      argv: Arguments of the container.

    Returns:
      Exit status of what failed, or 0.
    """
    parser = argparse.ArgumentParser(prog=MODULE, allow_abbrev=False)
    parser.add_argument(EXECUTOR_FLAG, required=True)
    parser.add_argument(INVOCATION_FLAG, required=True)
    parser.add_argument(INPUTS_SPEC_FLAG, required=True)
    parser.add_argument(DRIVER_FLAG, action="store_true")
    arguments, beam_arguments = parser.parse_known_args(argv)
    root = None if runs_elsewhere(beam_arguments) else os.environ.get(MOUNT_ROOT_VARIABLE, "/")
    inputs_spec = arguments.json_serialized_inputs_spec_args
    invocation = prepare(
        json.loads(arguments.json_serialized_invocation_args), json.loads(inputs_spec), root
    )
    output_file = Path(invocation["outputs"]["outputFile"])
    if root is not None:
        _make_folders(invocation)

    def start(module: str, *flags: str) -> int:
        common = [INVOCATION_FLAG, json.dumps(invocation), INPUTS_SPEC_FLAG, inputs_spec]
        command = [sys.executable, "-m", module, *flags, *common, *beam_arguments]
        return subprocess.run(command, check=False).returncode

    if arguments.run_example_gen_driver:
        status = start(TFX_DRIVER)
        if status:
            return status
        merge_driver_output(invocation, output_file)
    status = start(TFX_EXECUTOR, EXECUTOR_FLAG, arguments.executor_class_path)
    if root is not None and not status:
        _restore_uris(output_file, root)
    return status


def prepare(
    invocation: dict[str, Any], inputs_spec: dict[str, Any], root: str | None
) -> dict[str, Any]:
    """An ExecutorInput of the back end as TFX understands it.

    Args:
      invocation: ExecutorInput as JSON.
      inputs_spec: The component's declared inputs, as JSON.
      root: Root of the file system that buckets are mirrored in; None to leave URIs alone.
    """

    def local(value: Any) -> Any:
        return value if root is None else _map_strings(value, lambda text: to_path(text, root))

    # Artifacts alone are mirrored; a bucket among the parameters is read as it is.
    inputs, outputs = (
        local(invocation.get(side, {}).get("artifacts", {})) for side in ("inputs", "outputs")
    )
    declared = inputs_spec.get("artifacts", {})
    for key, artifacts in inputs.items():
        for artifact in artifacts.get("artifacts", []):
            artifact["type"] = declared[key]["artifactType"]
    return {
        "inputs": {**invocation.get("inputs", {}), "artifacts": inputs},
        "outputs": {
            **invocation["outputs"],
            "artifacts": outputs,
            "outputFile": local(invocation["outputs"]["outputFile"]),
        },
    }


def merge_driver_output(invocation: dict[str, Any], output_file: Path) -> None:
    """Gives the executor what the ExampleGen's driver found out about its output.

    Its parameters the executor reads from the file itself, and then overwrites the file.

    Args:
      invocation: ExecutorInput that the executor will get; changed in place.
      output_file: ExecutorOutput of the driver.
    """
    written = json.loads(output_file.read_text(encoding="utf-8"))
    for key, artifacts in written.get("artifacts", {}).items():
        artifact = invocation["outputs"]["artifacts"][key]["artifacts"][0]
        metadata = artifacts["artifacts"][0].get("metadata", {})
        artifact["metadata"] = {**artifact.get("metadata", {}), **metadata}


def to_path(text: str, root: str) -> str:
    """A bucket URI as the folder it is mirrored under; any other text as it is."""
    for scheme, folder in MOUNTS.items():
        if text.startswith(scheme):
            return os.path.join(root, folder, text.removeprefix(scheme))
    return text


def to_uri(text: str, root: str) -> str:
    """The reverse of `to_path`."""
    for scheme, folder in MOUNTS.items():
        mount = os.path.join(root, folder, "")
        if text.startswith(mount):
            return scheme + text.removeprefix(mount)
    return text


def _make_folders(invocation: dict[str, Any]) -> None:
    for artifacts in invocation["outputs"]["artifacts"].values():
        for artifact in artifacts["artifacts"]:
            Path(artifact["uri"]).mkdir(parents=True, exist_ok=True)


def _restore_uris(output_file: Path, root: str) -> None:
    output = json.loads(output_file.read_text(encoding="utf-8"))
    restored = _map_strings(output, lambda text: to_uri(text, root))
    output_file.write_text(json.dumps(restored), encoding="utf-8")


def _map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """A copy of a JSON value with each of its strings changed; keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_map_strings(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _map_strings(item, change) for key, item in value.items()}
    return value


if __name__ == "__main__":
    sys.exit(main())
