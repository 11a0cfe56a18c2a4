"""Settings of a cluster: what the graph of `pipeline.pipeline` needs to know to run on one.

They are kept apart from `pipeline.configs`: those say what is trained, these say where.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from tfx_captioner.pipeline import typed_yaml
from tfx_captioner.pipeline.errors import UserError

SETTINGS = Path(__file__).with_name("settings")
STRICT = ConfigDict(extra="forbid")

_IMAGE = r"^[^\s@]+(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$"
Image = Annotated[str, Field(pattern=_IMAGE)]
# A bucket, or a folder every node sees: a mounted volume, or Vertex AI's /gcs.
Location = Annotated[str, Field(pattern=r"^(gs://[^/]+|/[^/]+).*$")]


@dataclass(frozen=True, config=STRICT)
class NodeResources:
    """What one node's container may use.

    Attributes:
      cpu: CPU cores, at the most.
      memory_gib: Memory in GiB, at the most.
      accelerator: Kind of GPU: the resource's name on Kubernetes (`nvidia.com/gpu`), the machine
        type's on Vertex AI (`NVIDIA_TESLA_T4`).
      accelerator_count: How many of them.
    """

    cpu: Annotated[float, Field(gt=0)] | None = None
    memory_gib: Annotated[float, Field(gt=0)] | None = None
    accelerator: str | None = None
    accelerator_count: Annotated[int, Field(ge=1)] = 1


@dataclass(frozen=True, config=STRICT)
class KubeflowConfig:
    """Everything about a cluster that a compiled pipeline depends on.

    Keys of `images`, `resources` and `beam_pipeline_args` are node ids or patterns of them
    (`Trainer.*`); where several match a node, the last wins.

    Attributes:
      image: Image of all nodes, with a tag or digest that never names another image.
      pipeline_root: Where artifacts go: `gs://`, and on Kubeflow also `s3://` and `minio://`.
      records: Folder of ingested TFRecords, with `train/`, `val/` and `test/`.
      serving: Base folder of pushed models.
      checkpoints: Folder of interrupted trainings.
      backend: "kubeflow", the open-source back end of Kubeflow Pipelines v2, or "vertex".
      schema: Schema file within the image.
      service_account: Account the pods run as; None for the back end's default.
      volume_claim: PersistentVolumeClaim (ReadWriteMany) mounted into every node, for `records`,
        `serving` and `checkpoints` outside of buckets; Kubeflow only.
      volume_path: Where it is mounted.
      images: Other images by node: one with CUDA for nodes with a GPU.
      resources: Limits by node.
      beam_pipeline_args: Beam arguments by node, after those of the pipeline's configuration:
        another runner, more workers.
      caching: Whether nodes with known inputs and settings are skipped.
      records_are_immutable: Whether new data always comes under a new `records`. Kubeflow's cache
        sees the folder's name, not its content, so without this promise the ExampleGen always
        runs, and all behind it. Vertex AI looks at the content and needs no promise.
    """

    image: Image
    pipeline_root: Annotated[str, Field(pattern=r"^(gs|s3|minio)://[^/]+.*$")]
    records: Location
    serving: Location
    checkpoints: Location
    backend: Literal["kubeflow", "vertex"] = "kubeflow"
    schema: Annotated[str, Field(pattern="^/.+")] = (
        "/opt/venv/lib/python3.11/site-packages/tfx_captioner/schema/schema.pbtxt"
    )
    service_account: str | None = None
    volume_claim: str | None = None
    volume_path: Annotated[str, Field(pattern="^/.+")] = "/mnt/captioner"
    images: dict[str, Image] = dataclasses.field(default_factory=dict)
    resources: dict[str, NodeResources] = dataclasses.field(default_factory=dict)
    beam_pipeline_args: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    caching: bool = True
    records_are_immutable: bool = False

    @model_validator(mode="after")
    def _is_consistent(self) -> KubeflowConfig:
        latest = [name for name in (self.image, *self.images.values()) if name.endswith(":latest")]
        if latest:
            raise ValueError(
                "an image must not be tagged `latest`: caches know it by its name alone, so "
                f"another content needs another name. Received: {latest[0]}"
            )
        if self.backend == "vertex" and not self.pipeline_root.startswith("gs://"):
            raise ValueError(f"Vertex AI needs a gs:// `pipeline_root`, not {self.pipeline_root}")
        if self.backend == "vertex" and self.volume_claim:
            raise ValueError("Vertex AI mounts no `volume_claim`; use gs:// or /gcs/BUCKET")
        if self.backend == "kubeflow" and not self.volume_claim:
            local = [
                key
                for key in ("records", "serving", "checkpoints")
                if not getattr(self, key).startswith("gs://")
            ]
            if local:
                raise ValueError(
                    f"{', '.join(f'`{key}`' for key in local)} is a folder, so a `volume_claim` "
                    "must be mounted that holds it"
                )
        return self


def settings_names() -> list[str]:
    """Names of the settings that come with the package, each an example to copy."""
    return typed_yaml.names(SETTINGS)


def load_settings(settings: str, values: Mapping[str, Any] | None = None) -> KubeflowConfig:
    """Reads the settings of a cluster.

    Args:
      settings: Path of a YAML file, or the name of one that comes with the package.
      values: Keys over those of the file, from flags.

    Raises:
      UserError: No such file, an unknown key, or a value that is not allowed.
    """
    tree, path = typed_yaml.read(settings, SETTINGS, "--settings")
    return typed_yaml.validate(
        KubeflowConfig,
        {**tree, **(values or {})},
        "the cluster's settings",
        lambda key: path.name,
    )


def match_nodes(
    patterns: Mapping[str, Any], node_ids: Iterable[str], setting: str
) -> dict[str, Any]:
    """What `patterns` says of each node.

    Args:
      patterns: Node ids or `fnmatch` patterns of them, to values.
      node_ids: Nodes of the pipeline.
      setting: Name of the setting, for the message.

    Returns:
      Node id to value, of nodes that a pattern matches; of several, the last.

    Raises:
      UserError: A name without a wildcard is no node. A pattern may match none: the settings of
        a cluster serve all presets, and not each has all nodes.
    """
    ids = sorted(node_ids)
    matched: dict[str, Any] = {}
    for pattern, value in patterns.items():
        hits = fnmatch.filter(ids, pattern)
        if not hits and not set(pattern) & set("*?["):
            raise UserError(
                f"`{setting}` must name nodes of the pipeline: {', '.join(ids)}. "
                f"Received: {pattern!r}."
            )
        matched |= dict.fromkeys(hits, value)
    return matched
