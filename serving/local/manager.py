"""Which versions of which models are loaded, and the watch over the disk that changes it.

A new version is loaded and warmed up before the old one is let go, and a request keeps the version
it was given until it is answered, so that no request is dropped or mixed up by a swap.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tensorflow_serving.apis import get_model_status_pb2 as status_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from tfx_captioner.serving.local.model_config import check_models
from tfx_captioner.serving.local.servable import Servable
from tfx_captioner.serving.local.status import (
    Code,
    StatusError,
    failed_precondition,
    invalid_argument,
    not_found,
)
from tfx_captioner.serving.local.storage import (
    SETTLE_SECONDS,
    Fingerprint,
    VersionDirectory,
    select_versions,
)
from tfx_captioner.serving.saved_model import (
    SignatureDef,
    UnusableModelError,
    broken_promises,
    signatures_on_disk,
)
from tfx_captioner.serving.versions import damage

_LOG = logging.getLogger("captioner.serving")

State = status_pb2.ModelVersionStatus
# Versions that ended stay in the status, like in TF Serving, but not without bound.
_MAX_ENDED = 100
# Versions whose signatures are held against each other, the newest ones.
_MAX_COMPARED = 20

Signatures: TypeAlias = Mapping[str, SignatureDef]


@dataclass
class _Version:
    """One version: its state as the status reports it, and its servable while it is loaded."""

    number: int
    state: int = State.START
    error: StatusError | None = None
    servable: Servable | None = None
    fingerprint: Fingerprint = ()
    requests: int = 0

    def close_if_idle(self) -> None:
        if self.state == State.UNLOADING and self.requests == 0 and self.servable:
            self.servable.close()
            self.servable = None
            self.state = State.END


@dataclass
class _Model:
    config: config_pb2.ModelConfig
    directory: VersionDirectory
    versions: dict[int, _Version] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    promises: dict[int, tuple[Fingerprint, Signatures]] = field(default_factory=dict)

    def available(self) -> dict[int, _Version]:
        return {
            number: version
            for number, version in self.versions.items()
            if version.state == State.AVAILABLE
        }


@dataclass(frozen=True)
class ServableHandle:
    """A version that stays loaded until the handle is released.

    Attributes:
      model_name: Name of the model.
      version: Number of the version.
      servable: The loaded SavedModel.
      release: To be called once.
    """

    model_name: str
    version: int
    servable: Servable
    release: Callable[[], None]


class ModelManager:
    """Loads, swaps and unloads the versions of all configured models."""

    def __init__(
        self,
        *,
        load: Callable[[Path], Servable] = Servable,
        allow_labels_for_unavailable: bool = False,
    ) -> None:
        """Makes a manager without models.

        Args:
          load: Loads the SavedModel of a directory or raises StatusError.
          allow_labels_for_unavailable: Whether a new label may name a version that is not loaded.
        """
        self._load = load
        self._allow_labels = allow_labels_for_unavailable
        self._models: dict[str, _Model] = {}
        self._lock = threading.RLock()  # guards the state; held for moments only
        self._work_lock = threading.Lock()  # one reconciliation at a time; held while loading
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None

    def watch(self, interval: float) -> None:
        """Starts to look at the disk every `interval` seconds."""

        def work() -> None:
            while not self._stop.wait(interval):
                self.reconcile()

        self._watcher = threading.Thread(target=work, name="version-watcher", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Ends the watch and unloads everything."""
        self._stop.set()
        if self._watcher:
            self._watcher.join()
        with self._lock:
            models, self._models = self._models, {}
            for model in models.values():
                self._unload(model, set(model.available()))

    def acquire(self, spec: model_pb2.ModelSpec) -> ServableHandle:
        """The version a request is for: the one named, the one labelled, or the latest.

        Raises:
          StatusError: With TF Serving's words; nothing of that name is served.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        with self._lock:
            model = self._models.get(spec.name)
            available = model.available() if model else {}
            choice = spec.WhichOneof("version_choice")
            if choice == "version_label":
                number = model.labels.get(spec.version_label) if model else None
                if number is None:
                    raise invalid_argument(
                        f"Unrecognized servable version label: {spec.version_label}"
                    )
            elif choice == "version":
                number = spec.version.value
            else:
                number = max(available, default=None)
            version = available.get(number) if number is not None else None
            if version is None or version.servable is None:
                request = (
                    f"Latest({spec.name})" if number is None else f"Specific({spec.name}, {number})"
                )
                raise not_found(f"Servable not found for request: {request}")
            version.requests += 1
            return ServableHandle(
                spec.name, version.number, version.servable, lambda: self._release(version)
            )

    def status(self, spec: model_pb2.ModelSpec) -> status_pb2.GetModelStatusResponse:
        """States of one or all versions of a model, newest first.

        Raises:
          StatusError: No such model or version was ever seen.
        """
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        wanted = spec.version.value if spec.HasField("version") else None
        response = status_pb2.GetModelStatusResponse()
        with self._lock:
            model = self._models.get(spec.name)
            for number, version in sorted((model.versions if model else {}).items(), reverse=True):
                if wanted is None or number == wanted:
                    _fill_status(version, response.model_version_status.add())
        if not response.model_version_status:
            raise not_found(
                f"Could not find any versions of model {spec.name}"
                if wanted is None
                else f"Could not find version {wanted} of model {spec.name}"
            )
        return response

    def configure(self, config: config_pb2.ModelServerConfig) -> None:
        """Replaces the configuration, and returns when the new one is in force.

        Models that it does not name are unloaded.

        Raises:
          StatusError: The configuration is refused, a model has no version that loads, or a label
            names a version that is not available.
        """
        if config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                "ModelConfigList is currently supported"
            )
        models = list(config.model_config_list.config)
        with self._work_lock:
            with self._lock:
                check_models(models, {name: old.config for name, old in self._models.items()})
                self._replace_models({model.name: model for model in models})
                unsettled = any(model.directory.unsettled for model in self._models.values())
            if unsettled:
                time.sleep(SETTLE_SECONDS)  # before the look that tells what has not changed
            self._reconcile_all()
            with self._lock:
                failures = self._failures(models)
                if failures:
                    raise failures[0]
                self._assign_labels(models)

    def reconcile(self) -> None:
        """Makes what is loaded be what the disk and the version policies ask for."""
        with self._work_lock:
            self._reconcile_all()

    def model_names(self) -> list[str]:
        """Names of the configured models."""
        with self._lock:
            return sorted(self._models)

    def _replace_models(self, configs: Mapping[str, config_pb2.ModelConfig]) -> None:
        for name in set(self._models) - set(configs):
            model = self._models.pop(name)
            self._unload(model, set(model.available()))
        for name, config in configs.items():
            known = self._models.get(name)
            if known is None:
                self._models[name] = _Model(config, VersionDirectory(Path(config.base_path)))
                self._models[name].directory.look()
                continue
            if Path(config.base_path) != known.directory.base_path:
                known.directory = VersionDirectory(Path(config.base_path))
                known.directory.look()
            known.config = config
            for number in config.version_labels.values():
                if number in known.versions and known.versions[number].error:
                    del known.versions[number]  # It is asked for: it is tried again.

    def _reconcile_all(self) -> None:
        with self._lock:
            models = dict(self._models)
        for name, model in models.items():
            found = model.directory.look()
            wanted = self._load_wanted(name, model, found)
            with self._lock:
                available = set(model.available())
                if available & wanted:  # never let go of the last one that answers
                    self._unload(model, available - wanted)
                _forget_ended(model, found)

    def _load_wanted(
        self, name: str, model: _Model, found: Mapping[int, tuple[Path, Fingerprint]]
    ) -> set[int]:
        """Loads what the policy wants of the versions that can be served.

        One that cannot takes no place from another, so that there is one to go back to.
        """
        _read_promises(model, found)
        while True:
            with self._lock:
                _refuse_other_signatures(model)
                usable = {
                    number
                    for number, (_, fingerprint) in found.items()
                    if not _has_failed(model.versions.get(number), fingerprint)
                }
                wanted = select_versions(model.config.model_version_policy, usable)
                missing = wanted - set(model.available())
            if not missing:
                return wanted
            self._load_version(name, model, max(missing), *found[max(missing)])

    def _load_version(
        self, name: str, model: _Model, number: int, path: Path, fingerprint: Fingerprint
    ) -> None:
        version = _Version(number, state=State.LOADING, fingerprint=fingerprint)
        with self._lock:
            model.versions[number] = version
        _LOG.info("loading %s version %d from %s", name, number, path)
        try:
            problems = damage(str(path))
            if problems:
                raise StatusError(Code.DATA_LOSS, "; ".join(problems))
            servable = self._load(path)
        except StatusError as error:
            _LOG.error("%s version %d does not load: %s", name, number, error.message)
            with self._lock:
                version.state, version.error = State.END, error
            return
        with self._lock:
            version.servable, version.state = servable, State.AVAILABLE
        _LOG.info("%s version %d is available", name, number)

    def _unload(self, model: _Model, numbers: set[int]) -> None:
        for number in numbers:
            version = model.versions[number]
            version.state = State.UNLOADING
            version.close_if_idle()
            _LOG.info("%s version %d is unloaded", model.config.name, number)

    def _release(self, version: _Version) -> None:
        with self._lock:
            version.requests -= 1
            version.close_if_idle()

    def _failures(self, models: list[config_pb2.ModelConfig]) -> list[StatusError]:
        """Errors of configured models that have versions, none of which is available."""
        failures = []
        for config in models:
            model = self._models[config.name]
            errors = [version.error for version in model.versions.values() if version.error]
            if errors and not model.available():
                failures.append(errors[-1])
        return failures

    def _assign_labels(self, models: list[config_pb2.ModelConfig]) -> None:
        for config in models:
            model = self._models[config.name]
            for label, number in config.version_labels.items():
                moves = label in model.labels and model.labels[label] != number
                if number not in model.available() and (moves or not self._allow_labels):
                    raise failed_precondition(
                        f"Request to assign label to version {number} of model {config.name}, "
                        "which is not currently available for inference"
                    )
        for config in models:
            self._models[config.name].labels = dict(config.version_labels)


def _has_failed(version: _Version | None, fingerprint: Fingerprint) -> bool:
    """Whether a version could not be served, and nothing about it has changed."""
    return version is not None and bool(version.error) and version.fingerprint == fingerprint


def _forget_ended(model: _Model, found: Collection[int]) -> None:
    """Keeps the status bounded; what failed and is still there must not be tried again."""
    ended = [
        number
        for number, version in sorted(model.versions.items())
        if version.state == State.END and not (version.error and number in found)
    ]
    for number in ended[:-_MAX_ENDED]:
        del model.versions[number]


def _read_promises(model: _Model, found: Mapping[int, tuple[Path, Fingerprint]]) -> None:
    """Reads the signatures of versions that are new; those of one that does not load are none."""
    known, model.promises = model.promises, {}
    for number in sorted(found)[-_MAX_COMPARED:]:
        path, fingerprint = found[number]
        if number in known and known[number][0] == fingerprint:
            model.promises[number] = known[number]
            continue
        with contextlib.suppress(UnusableModelError):  # Loading it will say so.
            model.promises[number] = fingerprint, signatures_on_disk(str(path))


def _refuse_other_signatures(model: _Model) -> None:
    """Refuses versions in which clients of the one before would miss something.

    What is loaded stays, and so does what a label names: somebody chose it. The files are asked,
    not what happens to be loaded, so that a restart changes nothing.
    """
    chosen = {*model.config.version_labels.values(), *model.available()}
    before: tuple[int, Signatures] | None = None
    for number, (fingerprint, signatures) in model.promises.items():
        if _has_failed(model.versions.get(number), fingerprint):
            continue
        problems = broken_promises(before[1], signatures) if before else []
        if before and problems and number not in chosen:
            error = failed_precondition(
                f"other signatures than version {before[0]} has: {'; '.join(problems)}"
            )
            _LOG.error("%s version %d is not served: %s", model.config.name, number, error.message)
            model.versions[number] = _Version(number, State.END, error, fingerprint=fingerprint)
        else:
            before = number, signatures


def _fill_status(version: _Version, proto: status_pb2.ModelVersionStatus) -> None:
    proto.version = version.number
    proto.state = version.state
    code = version.error.code if version.error else Code.OK
    proto.status.error_code = code.value[0]
    proto.status.error_message = version.error.message if version.error else ""
