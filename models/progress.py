"""Progress of a training: what is saved with it, and what is logged while it runs."""

from __future__ import annotations

import dataclasses
import logging
import math
import time

import tensorflow as tf

from tfx_captioner.progress import Throttle

logger = logging.getLogger("captioner.models")

_SECONDS_BETWEEN_LINES = 15.0
# Losses are looked at this often, as each look waits for the device.
_STEPS_BETWEEN_LOOKS = 20


class NonFiniteLossError(RuntimeError):
    """A loss that became NaN or infinite; what was saved before is kept."""


@dataclasses.dataclass
class Progress:
    """Progress of a training; all of it is saved with the weights.

    >>> progress = Progress()
    >>> progress.add({"val_cider_d": 0.3, "val_loss": 2.0})
    True
    >>> progress.add({"val_cider_d": 0.2, "val_loss": 1.9})
    False
    >>> progress.best_epoch
    1

    Attributes:
      history: Figures of each finished epoch: `epoch`; `loss` (nats per token), or `reward`
        (CIDEr-D of sampled captions) in the second stage; `val_loss`; `val_cider_d` of generated
        captions; `learning_rate`; `seconds`; `captions_per_second`.
      best_epoch: Epoch with the highest validation CIDEr-D, of equal ones that with the lowest
        loss, from 1; 0 before the first.
      first_stage_epochs: Epochs of teacher forcing, once those are over.
      matmul_dtype: Type of the operands of matrix products, which "auto" chose or the settings
        name.
    """

    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_epoch: int = 0
    first_stage_epochs: int | None = None
    matmul_dtype: str = "float32"

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    @property
    def best(self) -> dict[str, float]:
        """History of the best epoch.

        Raises:
          ValueError: No epoch is finished.
        """
        if not self.best_epoch:
            raise ValueError("No epoch is finished.")
        return self.history[self.best_epoch - 1]

    def add(self, entry: dict[str, float]) -> bool:
        """Adds a finished epoch.

        Args:
          entry: Figures of the epoch, as in `history`.

        Returns:
          Whether it is the best so far.
        """
        is_best = not self.best_epoch or _rank(entry) > _rank(self.best)
        self.history.append(entry)
        if is_best:
            self.best_epoch = self.epoch
        return is_best


def _rank(entry: dict[str, float]) -> tuple[float, float]:
    return entry["val_cider_d"], -entry["val_loss"]


class Meter:
    """Running mean over an epoch, logged now and then.

    >>> meter = Meter(epoch=0, epochs=10, steps=0, captions=8)
    >>> meter.add(tf.constant(6.0), tf.constant(2.0))
    >>> meter.mean()
    3.0

    Args:
      epoch: Number of the epoch, from 0.
      epochs: Most epochs of the training.
      steps: Steps of the epoch; 0 logs nothing in between.
      captions: Captions of the epoch.
      label: Name of the averaged figure.
    """

    def __init__(self, epoch: int, epochs: int, steps: int, captions: int, label: str = "loss"):
        self._label = label
        self._epoch, self._epochs, self._steps, self._captions = epoch, epochs, steps, captions
        self._total = tf.constant(0.0)
        self._count = tf.constant(0.0)
        self._step = 0
        self._begin = time.monotonic()
        self._throttle = Throttle(_SECONDS_BETWEEN_LINES)

    def add(self, total: tf.Tensor, count: tf.Tensor) -> None:
        """Adds a step.

        Args:
          total: Sum over the step, scalar.
          count: Number of summands, scalar.
        """
        self._total += total
        self._count += count
        self._step += 1
        if self._step % _STEPS_BETWEEN_LOOKS == 0:
            self._look()

    def seconds(self) -> float:
        """Seconds since the epoch began."""
        return time.monotonic() - self._begin

    def mean(self) -> float:
        """Mean of all that was added.

        Raises:
          NonFiniteLossError: It is NaN or infinite.
        """
        mean = float(self._total / self._count)
        if not math.isfinite(mean):
            raise NonFiniteLossError(
                f"The {self._label} is {mean} at step {self._step} of epoch {self._epoch + 1}. "
                "Try a lower `trainer.learning_rate` (`trainer.self_critical.learning_rate` in the "
                "second stage) or `trainer.gradient_clip_norm`. The checkpoint of the last good "
                "epoch, if any, is kept."
            )
        return mean

    def _look(self) -> None:
        mean = self.mean()
        if self._steps and self._throttle.is_due():
            share = self._step / self._steps
            logger.info(
                "epoch %d/%d: step %d/%d, %s %.3f, %.0f captions/s, %.0f s left in this epoch",
                self._epoch + 1,
                self._epochs,
                self._step,
                self._steps,
                self._label,
                mean,
                share * self._captions / self.seconds(),
                self.seconds() * (1 / share - 1),
            )
