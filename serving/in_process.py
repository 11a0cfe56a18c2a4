"""A pushed SavedModel answered in this process, with the calls of the client."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfx_captioner.serving.client import CallOptions, CaptionClient
from tfx_captioner.serving.errors import ServingError
from tfx_captioner.serving.local.servable import Servable
from tfx_captioner.serving.local.status import StatusError
from tfx_captioner.serving.wire import Answer, ModelVersion, Target, input_of, to_text


def open_saved_model(path: Path, *, timeout: float = 600.0) -> CaptionClient:
    """Loads a SavedModel, and gives the client that asks it.

    Args:
      path: Directory of the SavedModel, its name being the version.
      timeout: Seconds for a call.

    Raises:
      ServingError: It does not load.
    """
    return CaptionClient(transport=_InProcess(path), options=CallOptions(timeout, attempts=1))


class _InProcess:
    """A transport to a model in the same process."""

    def __init__(self, path: Path) -> None:
        try:
            self._servable = Servable(path)
        except StatusError as error:
            raise ServingError(error.code.name, error.message) from error
        self._version = int(path.name) if path.name.isdigit() else None
        # One photograph at a time already uses every core.
        self._lock = threading.Lock()

    def predict(
        self, target: Target, signature: str, images: Sequence[bytes], timeout: float
    ) -> Answer:
        known = self._servable.signatures
        definition = known.get(signature)
        if definition is None:
            raise ServingError(
                "FAILED_PRECONDITION",
                f"{self._servable.path} has no signature `{signature}`, only "
                f"{', '.join(sorted(name for name in known if not name.startswith('__')))}.",
            )
        inputs = {input_of(signature): np.array(images, dtype=object)}
        try:
            with self._lock:
                outputs = self._servable.run(signature, inputs, sorted(definition.outputs))
        except StatusError as error:
            raise ServingError(error.code.name, error.message) from error
        return Answer(
            {alias: to_text(array.tolist()) for alias, array in outputs.items()}, self._version
        )

    def status(self, target: Target, timeout: float) -> list[ModelVersion]:
        return [ModelVersion(self._version or 0, "AVAILABLE")]

    def version(self, target: Target, timeout: float) -> int:
        return self._version or 0

    def reload(self, config: Any, timeout: float) -> None:
        raise ServingError("UNIMPLEMENTED", "A model in this process has no configuration.")

    def close(self) -> None:
        self._servable.close()
