"""Holds resources of kinds that clusters add against their makers' own models of them.

A script, which `test_manifests` runs in an environment of its own: KServe's package wants other
versions than TFX. It prints a line for each resource that is valid, and ends with an error at one
that is not.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import kserve
import yaml
from cloudcoil.models.prometheus_operator.v1 import PodMonitor
from kubernetes import client

SCALARS = {"str": str, "int": int, "bool": bool, "float": float}


def check_inference_service(resource: dict[str, Any]) -> None:
    """Raises ValueError at a key or a type that KServe's InferenceService does not have."""
    _check(resource, "V1beta1InferenceService", "InferenceService")


def _check(value: Any, kind: str, path: str) -> None:
    """Walks along the types that the generated models declare."""
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        for index, item in enumerate(value):
            _check(item, inner[1], f"{path}[{index}]")
    elif inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        for key, item in value.items():
            _check(item, inner[1], f"{path}.{key}")
    elif model := getattr(kserve, kind, None) or getattr(client, kind, None):
        fields = {name: model.openapi_types[key] for key, name in model.attribute_map.items()}
        for key, item in value.items():
            if key not in fields:
                raise ValueError(f"{path}.{key} is no field. Allowed: {', '.join(fields)}.")
            _check(item, fields[key], f"{path}.{key}")
    elif not isinstance(value, SCALARS.get(kind, object)):
        raise ValueError(f"{path} must be of type {kind}. Received: {value!r}.")


def check_pod_monitor(resource: dict[str, Any]) -> None:
    """Raises ValueError where PodMonitor's model refuses a value or forgets a key."""
    kept = PodMonitor.model_validate(resource).model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )
    if kept != resource:
        raise ValueError(f"PodMonitor has other fields. Received: {resource}. Known: {kept}.")


CHECKS = {"InferenceService": check_inference_service, "PodMonitor": check_pod_monitor}

if __name__ == "__main__":
    for file in sys.argv[1:]:
        for loaded in yaml.safe_load_all(Path(file).read_text(encoding="utf-8")):
            CHECKS[loaded["kind"]](loaded)
            print(f"{loaded['kind']} {loaded['metadata']['name']} is valid")
