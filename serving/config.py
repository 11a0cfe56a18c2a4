"""Configuration files of TF Serving, generated from what a run pushed.

The same files start the `tensorflow_model_server` binary, its Docker image and the local server.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from tfx_captioner.serving import messages
from tfx_captioner.serving.versions import whole_versions

CHAMPION = "captioner"
STABLE, CANARY = "stable", "canary"
MODELS_FILE = "models.config"
BATCHING_FILE = "batching.config"
MONITORING_FILE = "monitoring.config"
METRICS_PATH = "/monitoring/prometheus/metrics"
# Versions kept loaded: the newest one, and the one to go back to.
LOADED_VERSIONS = 2


@dataclass(frozen=True)
class BatchingParameters:
    """TF Serving's batching parameters, with its defaults.

    Attributes:
      max_batch_size: Rows of a request at the most, and, where requests are not split, of a batch.
      batch_timeout_micros: Microseconds a request waits for others to share its batch.
      max_enqueued_batches: Batches that may wait; a request beyond that is refused.
      num_batch_threads: Batches run at the same time.
      enable_large_batch_splitting: Whether the rows of a request may be run in several batches.
      max_execution_batch_size: Rows of a batch at the most, where requests are split; None for
        `max_batch_size`.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("max_batch_size", 1),
            ("batch_timeout_micros", 0),
            ("max_enqueued_batches", 1),
            ("num_batch_threads", 1),
            ("max_execution_batch_size", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"`{name}` must be at least {least}. Received: {value}.")
        if self.execution_size > self.max_batch_size:
            raise ValueError(
                "When `enable_large_batch_splitting` is true, `max_batch_size` must be at least "
                f"`max_execution_batch_size`. Received: {self.max_batch_size}, "
                f"{self.execution_size}."
            )

    @property
    def execution_size(self) -> int:
        """Rows of a batch at the most."""
        if not self.enable_large_batch_splitting:
            return self.max_batch_size
        return self.max_execution_batch_size or self.max_batch_size

    def to_text(self) -> str:
        """The parameters as TF Serving's text proto."""
        return "".join(
            f"{name} {{ value: {str(value).lower()} }}\n"
            for name, value in vars(self).items()
            if value is not None
        )

    @classmethod
    def from_text(cls, text: str) -> BatchingParameters:
        """Reads TF Serving's text proto; parameters that this class does not know are refused.

        Raises:
          ValueError: No such text proto, an unknown parameter, or a value out of range.
        """
        try:
            message = text_format.Parse(text, messages.BatchingParameters())
        except text_format.ParseError as error:
            raise ValueError(
                f"Batching parameters cannot be read: {str(error).rstrip('.')}. "
                f"Known are: {', '.join(vars(cls()))}, each as `name {{ value: 1 }}`."
            ) from error
        return cls(**{field.name: value.value for field, value in message.ListFields()})


# Chosen on two cores. ResNet-50 with the GRU, images per second against batches of 8: 0.83 one by
# one, 0.92 in batches of 4, 0.84 of 16, 0.74 of 32. Batches form while both threads are busy; to
# wait for one holds up who asks alone. Measure your own machine with `python -m bench.serving`.
#
# What is good to run at once is little for a request: TF Serving would refuse one of nine images.
# So requests are split, and `max_batch_size` is what one may hold: 64 images, which at a mebibyte
# each fill the local server's largest request, and a quarter of the queue.
BATCHING = BatchingParameters(
    max_batch_size=64,
    batch_timeout_micros=0,
    max_enqueued_batches=32,
    num_batch_threads=2,
    enable_large_batch_splitting=True,
    max_execution_batch_size=8,
)


def find_models(serving_dir: Path) -> dict[str, list[int]]:
    """Models and the whole versions of each, oldest first.

    Args:
      serving_dir: `<run root>/serving`.
    """
    found = {
        base.name: list(whole_versions(str(base)))
        for base in sorted(path for path in serving_dir.iterdir() if path.is_dir())
    }
    return {name: versions for name, versions in found.items() if versions}


def generate(serving_dir: Path) -> Any:
    """A configuration that serves every model of a serving directory.

    The newest two versions are loaded; `stable` and `canary` both name the newest one until
    `captioner promote` moves them.

    Raises:
      ValueError: Nothing was pushed there.
    """
    models = find_models(serving_dir)
    if not models:
        raise ValueError(f"{serving_dir} holds no model: no <name>/<version>/saved_model.pb in it.")
    config = messages.ModelServerConfig()
    for name, versions in models.items():
        model = config.model_config_list.config.add(
            name=name, base_path=str((serving_dir / name).absolute()), model_platform="tensorflow"
        )
        model.model_version_policy.latest.num_versions = LOADED_VERSIONS
        for label in (STABLE, CANARY):
            model.version_labels[label] = versions[-1]
    return config


def load_or_generate(serving_dir: Path) -> Any:
    """The configuration as it was last written, brought up to date with what is on disk.

    Labels and version policies of known models are kept, as long as their versions exist; new
    models are added, and models that are gone are left out.

    Raises:
      ValueError: Nothing was pushed there, or the file is no configuration.
    """
    fresh = generate(serving_dir)
    path = serving_dir / MODELS_FILE
    if not path.is_file():
        return fresh
    known = {model.name: model for model in read_models(path).model_config_list.config}
    versions = find_models(serving_dir)
    for model in fresh.model_config_list.config:
        old = known.get(model.name)
        if old is None:
            continue
        pinned = old.model_version_policy.WhichOneof("policy_choice") == "specific"
        if pinned and set(old.model_version_policy.specific.versions) <= set(versions[model.name]):
            model.model_version_policy.CopyFrom(old.model_version_policy)
        for label, version in old.version_labels.items():
            if version in loaded_versions(model, versions[model.name]):
                model.version_labels[label] = version
    return fresh


def read_models(path: Path) -> Any:
    """Reads a `models.config`.

    Raises:
      ValueError: It is no ModelServerConfig.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), messages.ModelServerConfig())
    except text_format.ParseError as error:
        raise ValueError(f"{path} is no tensorflow.serving.ModelServerConfig: {error}") from error


def write_models(config: Any, path: Path) -> None:
    """Writes a `models.config`, whole or not at all."""
    _write(path, text_format.MessageToString(config))


def write_all(serving_dir: Path) -> None:
    """Writes everything that a server needs into the serving directory.

    Raises:
      ValueError: Nothing was pushed there.
    """
    write_models(load_or_generate(serving_dir), serving_dir / MODELS_FILE)
    _write(serving_dir / BATCHING_FILE, BATCHING.to_text())
    _write(
        serving_dir / MONITORING_FILE,
        f'prometheus_config {{ enable: true path: "{METRICS_PATH}" }}\n',
    )


def loaded_versions(model: Any, versions: Sequence[int]) -> list[int]:
    """The versions that the policy of a ModelConfig loads, of those on disk."""
    policy = model.model_version_policy
    if policy.WhichOneof("policy_choice") == "specific":
        return [version for version in policy.specific.versions if version in versions]
    return sorted(versions)[-(policy.latest.num_versions or 1) :]


def read_metrics_path(path: Path) -> str:
    """Path of the Prometheus page that a `monitoring.config` asks for; empty for none.

    Raises:
      ValueError: It is no MonitoringConfig.
    """
    try:
        config = text_format.Parse(path.read_text(encoding="utf-8"), messages.MonitoringConfig())
    except text_format.ParseError as error:
        raise ValueError(f"{path} is no tensorflow.serving.MonitoringConfig: {error}") from error
    prometheus = config.prometheus_config
    return (prometheus.path or METRICS_PATH) if prometheus.enable else ""


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
