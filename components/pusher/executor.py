"""Work of the Pusher."""

from __future__ import annotations

import logging
from typing import Any

import tensorflow as tf
from tfx.components.pusher import executor
from tfx.types import Artifact, artifact_utils
from tfx.utils import io_utils

from tfx_captioner.components.artifacts import MODEL_DIGEST
from tfx_captioner.components.pusher.publishing import publish
from tfx_captioner.serving import versions
from tfx_captioner.serving.saved_model import (
    OUTPUTS,
    SavedCaptioner,
    UnusableModelError,
    broken_promises,
    signatures_on_disk,
)

LOG = logging.getLogger("captioner.pusher")


class Executor(executor.Executor):
    """TFX's Pusher with a push of our own; blessings and properties are those of TFX."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Pushes the model if it is blessed.

        Args:
          input_dict: `model`, `model_blessing`, and, where the model was served on trial,
            `infra_blessing`.
          output_dict: `pushed_model`.
          exec_properties: `base_directory`.

        Raises:
          ValueError: The model is not the one that was served on trial, does not load or run, or
            has not the signatures of a captioner or of the version before it.
          OSError: It cannot be written, or is not on disk what it should be.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        base = exec_properties["base_directory"]
        source = self.GetModelPath(input_dict)
        content = versions.content_of(source)
        trials = input_dict.get("infra_blessing") or ()
        for blessing in trials:
            _check_validated(content, blessing, source)
        if not trials:
            _check_it_runs(source)
        _check_signatures(source, base)
        version, path = publish(source, content, base)
        io_utils.copy_dir(source, pushed.uri)
        self._MarkPushed(pushed, pushed_destination=path, pushed_version=str(version))


def _check_validated(content: versions.Content, blessing: Artifact, source: str) -> None:
    validated = blessing.get_string_custom_property(MODEL_DIGEST)
    found = versions.digest_of(content)
    if found != validated:
        raise ValueError(
            f"{source} must be the model that {blessing.uri} blesses, with SHA-256 {validated}. "
            f"Received: {found}."
        )


def _check_it_runs(source: str) -> None:
    """Keeps out what would take a place on a server without answering."""
    captioner = SavedCaptioner(source, OUTPUTS)
    for name in OUTPUTS:
        try:
            captioner.call(name, [])  # No image, but all of the graph is run.
        except tf.errors.OpError as error:
            raise UnusableModelError(f"`{name}` of {source} fails: {error.message}") from error


def _check_signatures(source: str, base: str) -> None:
    """Keeps out what does not answer the clients there are."""
    promised = signatures_on_disk(source)
    for path in reversed(versions.whole_versions(base).values()):
        try:
            known = signatures_on_disk(path)
        except UnusableModelError as error:
            LOG.warning("nobody is served by %s: %s", path, error)
            continue
        problems = broken_promises(known, promised)
        if problems:
            raise ValueError(
                f"{source} must keep the signatures of {path}, which clients know: "
                f"{'; '.join(problems)}. Push it under another name, or take the older versions "
                "away."
            )
        return
