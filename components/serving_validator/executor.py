"""Work of the ServingValidator."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tensorflow as tf
from pydantic import TypeAdapter
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils
from tfx.utils import io_utils, path_utils

from tfx_captioner.components.artifacts import MODEL_DIGEST
from tfx_captioner.components.serving_validator import probes
from tfx_captioner.components.serving_validator.config import ServingValidatorConfig
from tfx_captioner.components.serving_validator.probes import Example
from tfx_captioner.serving import config as serving_config
from tfx_captioner.serving import launcher, versions
from tfx_captioner.serving.client import CaptionClient
from tfx_captioner.serving.errors import ServingError

_LOG = logging.getLogger("captioner.serving_validator")

# Marks and property of TFX's InfraValidator; Pusher reads the property.
_MARKS = {True: "INFRA_BLESSED", False: "INFRA_NOT_BLESSED"}
_MODEL = serving_config.CHAMPION
_VERSION = 1
_LATENCY_CALLS = 24
_MAX_REASONS = 1000  # characters of the custom property


@dataclass
class Validation:
    """What was found; becomes `validation.json`.

    Attributes:
      server: Kind of the server that was asked.
      reasons: Why the model is not blessed; empty if it is.
      measured: Latencies in milliseconds, memory in MiB, number of images.
    """

    server: str
    reasons: list[str] = field(default_factory=list)
    measured: dict[str, float] = field(default_factory=dict)


class Executor(BaseExecutor):
    """Serves the model on trial and probes it."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Serves the model on trial, probes it, and writes what was found.

        Args:
          input_dict: `model` (SavedModel) and `examples` (raw Examples).
          output_dict: `blessing`.
          exec_properties: `config` (JSON of a ServingValidatorConfig).

        Raises:
          ValueError: The configuration limits nothing, or the split holds no images.
          ServerError: The kind of server asked for is not on this machine.
        """
        config = TypeAdapter(ServingValidatorConfig).validate_json(exec_properties["config"])
        model = artifact_utils.get_single_instance(input_dict["model"])
        examples_artifact = artifact_utils.get_single_instance(input_dict["examples"])
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        examples = read_examples(examples_artifact, config.split, config.images)
        kind = launcher.choose(config.server if config.server != "auto" else _server_here())

        with tempfile.TemporaryDirectory() as folder:
            serving_dir = Path(folder)
            saved_model = serving_dir / _MODEL / str(_VERSION)
            io_utils.copy_dir(path_utils.serving_model_path(model.uri), str(saved_model))
            digest = versions.digest_of(versions.content_of(str(saved_model)))
            log = serving_dir / "server.log"
            log.touch()
            validation = validate(kind, serving_dir, saved_model, examples, config, log)
            fileio.makedirs(blessing.uri)
            fileio.copy(str(log), f"{blessing.uri}/server.log", overwrite=True)
        blessing.set_string_custom_property(MODEL_DIGEST, digest)
        _write(blessing, validation, config)


def validate(
    kind: launcher.Kind,
    serving_dir: Path,
    saved_model: Path,
    examples: Sequence[Example],
    config: ServingValidatorConfig,
    log: Path,
) -> Validation:
    """Starts a server for what is in a serving directory, and asks it.

    Args:
      kind: Which server.
      serving_dir: Directory that holds the model as version 1 of `captioner`.
      saved_model: Folder of that version.
      examples: Real images.
      config: Limits.
      log: File for the server's output.
    """
    validation = Validation(server=kind)
    serving_config.write_all(serving_dir)
    endpoint = launcher.free_endpoint()
    argv = launcher.command(kind, serving_dir, endpoint)
    _LOG.info("serving the model on trial: %s server", kind)
    try:
        with launcher.running(argv, endpoint, log) as server:
            started = time.monotonic()
            server.wait_until_available([_MODEL], config.max_loading_seconds)
            validation.measured["loading_seconds"] = time.monotonic() - started
            direct = probes.call_directly(saved_model, examples)
            validation.reasons += probes.probe_examples(
                endpoint, _MODEL, examples, direct, config.score_tolerance
            )
            validation.reasons += probes.probe_hostile_inputs(endpoint, _MODEL, examples[0].image)
            _measure(server, endpoint, examples, config, validation)
            if server.process.poll() is not None:
                validation.reasons.append(f"the server ended: {server.log_tail()}")
    except (launcher.ServerError, probes.WrongFormError) as error:
        validation.reasons.append(str(error))
    except ServingError as error:
        validation.reasons.append(f"the server stopped answering: {error}")
    return validation


def read_examples(artifact: Artifact, split: str, count: int) -> list[Example]:
    """The first images of a split.

    Args:
      artifact: Raw examples, as TFRecords.
      split: Name of the split.
      count: Images at the most.

    Raises:
      ValueError: There is no such split, or it holds no images.
    """
    splits = artifact_utils.decode_split_names(artifact.split_names)
    if split not in splits:
        raise ValueError(f"The examples have no split `{split}`, only {', '.join(splits)}.")
    examples = []
    for serialized in _read_records(artifact_utils.get_split_uri([artifact], split)):
        feature = tf.train.Example.FromString(serialized).features.feature["image/encoded"]
        if feature.bytes_list.value:
            examples.append(Example(feature.bytes_list.value[0], serialized))
        if len(examples) == count:
            break
    if not examples:
        raise ValueError(f"Split `{split}` of {artifact.uri} holds no `image/encoded`.")
    return examples


def _read_records(uri: str) -> Iterator[bytes]:
    files = sorted(fileio.glob(f"{uri}/*"))
    for file in files:
        compression = "GZIP" if file.endswith(".gz") else ""
        for record in tf.data.TFRecordDataset(file, compression_type=compression):
            yield record.numpy()


def _server_here() -> launcher.Kind:
    """The real binary where there is one; no Docker, since a node may run in a container."""
    return "binary" if shutil.which(launcher.BINARY) else "local"


def _measure(
    server: launcher.Server,
    endpoint: launcher.Endpoint,
    examples: Sequence[Example],
    config: ServingValidatorConfig,
    validation: Validation,
) -> None:
    """Latency of one image at a time over gRPC, and the server's memory after all requests."""
    latencies = []
    with CaptionClient(endpoint.grpc_url, model=_MODEL) as client:
        for index in range(_LATENCY_CALLS):
            started = time.perf_counter()
            client.caption(examples[index % len(examples)].image)
            latencies.append((time.perf_counter() - started) * 1e3)
    p50, p95 = np.percentile(latencies, [50, 95])
    memory = _resident_mib(server.process.pid)
    validation.measured |= {
        "latency_p50_ms": float(p50),
        "latency_p95_ms": float(p95),
        "memory_mb": memory,
        "images": len(examples),
    }
    _LOG.info("latency p95 %.0f ms, memory %.0f MiB", p95, memory)
    if config.max_latency_p95_ms is not None and p95 > config.max_latency_p95_ms:
        validation.reasons.append(
            f"latency p95 is {p95:.0f} ms, above `max_latency_p95_ms` {config.max_latency_p95_ms}"
        )
    if config.max_memory_mb is not None and memory > config.max_memory_mb:
        validation.reasons.append(
            f"the server holds {memory:.0f} MiB, above `max_memory_mb` {config.max_memory_mb}"
        )


def _resident_mib(pid: int) -> float:
    process = psutil.Process(pid)
    total = 0
    for member in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += member.memory_info().rss
    return total / 2**20


def _write(blessing: Artifact, validation: Validation, config: ServingValidatorConfig) -> None:
    blessed = not validation.reasons
    document = {"blessed": blessed, **asdict(validation), "limits": asdict(config)}
    io_utils.write_string_file(f"{blessing.uri}/validation.json", json.dumps(document, indent=2))
    io_utils.write_string_file(f"{blessing.uri}/{_MARKS[blessed]}", "")
    blessing.set_int_custom_property("blessed", int(blessed))
    blessing.set_string_custom_property("server", validation.server)
    blessing.set_string_custom_property("reasons", "; ".join(validation.reasons)[:_MAX_REASONS])
    if blessed:
        _LOG.info("blessed: %d images answered right", int(validation.measured["images"]))
    for reason in validation.reasons:
        _LOG.warning("not blessed: %s", reason)
