"""An interrupted training, kept and found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

_SCHEMA = 1


def training_key(run: Mapping[str, Any], inputs: Sequence[str]) -> str:
    """Names a training: the same for the same settings, code and inputs only.

    Args:
      run: Settings, a `RunConfig` as plain data; the code fingerprint is part of it.
      inputs: File patterns and folders the training reads. TFX never reuses the folder of an
        artifact, so names stand for contents.
    """
    text = json.dumps([_SCHEMA, run, sorted(inputs)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class TrainingCheckpoint:
    """Variables and progress of a training, saved together or not at all.

    Example:

    ```python
    checkpoint = TrainingCheckpoint("checkpoints/0123", variables)
    progress = checkpoint.restore() or {"epoch": 0}
    checkpoint.save({"epoch": progress["epoch"] + 1})
    ```

    Args:
      folder: Folder of the checkpoint; any path of tf.io.gfile.
      variables: Everything that training changes: weights, statistics, states of random number
        generators, optimizer slots.
    """

    def __init__(self, folder: str, variables: Sequence[tf.Variable]):
        self._folder = folder
        self._progress = tf.Variable("{}", dtype=tf.string, trainable=False)
        checkpoint = tf.train.Checkpoint(variables=list(variables), progress=self._progress)
        # The manager names a checkpoint as the latest only after it is written in full.
        self._manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=1)

    def restore(self) -> dict[str, Any] | None:
        """Sets the variables as last saved; gives the progress saved with them, None if none is."""
        if not self._manager.latest_checkpoint:
            return None
        self._manager.checkpoint.restore(self._manager.latest_checkpoint).assert_consumed()
        return json.loads(self._progress.numpy())

    def save(self, progress: Mapping[str, Any]) -> None:
        """Replaces what is saved.

        Args:
          progress: Progress of the training, JSON-able.
        """
        self._progress.assign(json.dumps(progress))
        self._manager.save()

    def remove(self) -> None:
        """Deletes what is saved; the training's result is safe elsewhere."""
        if tf.io.gfile.exists(self._folder):
            tf.io.gfile.rmtree(self._folder)
