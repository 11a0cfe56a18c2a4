"""The training loop: teacher forcing, early stopping, checkpoints, progress."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from models.captioner import Captioner
from models.checkpoints import TrainingCheckpoint
from models.config import TrainerConfig
from models.data import CaptionData

logger = logging.getLogger("captioner.models")

_SECONDS_BETWEEN_LINES = 15.0
# Losses are looked at this often, as each look waits for the device.
_STEPS_BETWEEN_LOOKS = 20


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite; what was saved before is kept."""


@dataclasses.dataclass
class Progress:
    """Where a training is; all of it is saved with the weights.

    Attributes:
      history: Per finished epoch: `epoch`, `loss`, `val_loss` (nats per token), `learning_rate`,
        `seconds`, `captions_per_second`.
      best_epoch: Epoch with the lowest validation loss, from 1; 0 before the first.
    """

    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_epoch: int = 0

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return len(self.history)

    @property
    def best_loss(self) -> float:
        """Lowest validation loss so far."""
        return self.history[self.best_epoch - 1]["val_loss"] if self.best_epoch else math.inf


def make_optimizer(config: TrainerConfig, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """AdamW with warm-up, cosine schedule and gradient clipping.

    Args:
      config: Settings.
      steps_per_epoch: Steps of an epoch, by which the schedule is laid out.
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else config.learning_rate,
        decay_steps=max(1, config.epochs * steps_per_epoch - warmup),
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    return keras.optimizers.AdamW(
        schedule, weight_decay=config.weight_decay, global_clipnorm=config.gradient_clip_norm
    )


def make_train_step(
    captioner: Captioner,
    optimizer: keras.optimizers.Optimizer,
    label_smoothing: float,
    batch_spec: dict[str, tf.TensorSpec],
) -> Callable[[dict[str, tf.Tensor]], tuple[tf.Tensor, tf.Tensor]]:
    """The compiled training step.

    Args:
      captioner: The model.
      optimizer: Built for the model's trainable variables.
      label_smoothing: Share of the target probability spread over the vocabulary.
      batch_spec: Of the batches; sizes that vary are None in it, so the step is traced once.

    Returns:
      A function from a batch to the sum of its loss and its number of tokens.
    """

    def step(batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss_sum, tokens = captioner.cross_entropy(batch, label_smoothing, training=True)
            loss = loss_sum / tokens
        variables = captioner.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss_sum, tokens

    # Nothing here needs AutoGraph, and without it tracing is faster.
    return tf.function(step, input_signature=[batch_spec], autograph=False)


class CaptionerTraining:
    """Trains a captioner, from its beginning or from where it was interrupted.

    Args:
      captioner: The model; ends with the weights of its best epoch.
      config: Settings.
      train: Captions to learn.
      val: Captions that decide when to stop and which epoch is best.
      checkpoint_dir: Folder of this training's checkpoint.
      log_dir: Folder for TensorBoard's event files and `history.json`.
    """

    def __init__(
        self,
        captioner: Captioner,
        config: TrainerConfig,
        train: CaptionData,
        val: CaptionData,
        *,
        checkpoint_dir: str,
        log_dir: str,
    ):
        self._captioner = captioner
        self._config = config
        self._train = train
        self._val = val
        self._log_dir = log_dir
        self._optimizer = make_optimizer(config, train.batches_per_epoch(config.batch_size))
        self._optimizer.build(captioner.trainable_variables)
        # Model variables include the states of dropout's random number generators.
        self._weights = [variable.value for variable in captioner.variables]
        self._best = [tf.Variable(weight, trainable=False) for weight in self._weights]
        slots = [variable.value for variable in self._optimizer.variables]
        self.checkpoint = TrainingCheckpoint(checkpoint_dir, self._weights + self._best + slots)
        self._writer = tf.summary.create_file_writer(log_dir)

        self._train_step = make_train_step(
            captioner, self._optimizer, config.label_smoothing, train.batch_spec
        )
        self._val_step = tf.function(
            captioner.cross_entropy, input_signature=[val.batch_spec], autograph=False
        )

    def run(self) -> Progress:
        """Trains until the epochs are over or validation loss stays up.

        Raises:
          NonFiniteLossError: The loss became NaN or infinite.
        """
        progress = self._resume()
        while not self._is_over(progress):
            entry = self._epoch(progress.epoch)
            progress.history.append(entry)
            if entry["val_loss"] < min(
                (past["val_loss"] for past in progress.history[:-1]), default=math.inf
            ):
                progress.best_epoch = progress.epoch
                _assign(self._best, self._weights)
            self.checkpoint.save(dataclasses.asdict(progress))
            self._log(entry)
            self._report(progress)
        _assign(self._weights, self._best)
        self._write_history(progress)
        return progress

    def _resume(self) -> Progress:
        saved = self.checkpoint.restore()
        if saved is None:
            return Progress()
        progress = Progress(**saved)
        logger.info("continuing an interrupted training after epoch %d", progress.epoch)
        for entry in progress.history:
            self._log(entry)
        return progress

    def _is_over(self, progress: Progress) -> bool:
        stale = progress.epoch - progress.best_epoch
        return (
            progress.epoch >= self._config.epochs or stale >= self._config.early_stopping_patience
        )

    def _epoch(self, epoch: int) -> dict[str, float]:
        """Trains epoch number `epoch` (from 0) and validates."""
        config = self._config
        steps = self._train.batches_per_epoch(config.batch_size)
        meter = _Meter(epoch, config.epochs, steps, self._train.num_captions)
        data = self._train.epoch(config.batch_size, shuffle=(config.seed, epoch))
        for batch in data:
            meter.add(*self._train_step(batch))
        loss = meter.loss()
        seconds = meter.seconds()
        return {
            "epoch": epoch + 1,
            "loss": loss,
            "val_loss": self._validate(epoch),
            "learning_rate": float(self._optimizer.learning_rate),
            "seconds": round(seconds, 3),
            "captions_per_second": round(self._train.num_captions / seconds, 1),
        }

    def _validate(self, epoch: int) -> float:
        meter = _Meter(epoch, self._config.epochs, 0, self._val.num_captions)
        for batch in self._val.epoch(self._config.batch_size):
            meter.add(*self._val_step(batch))
        return meter.loss()

    def _report(self, progress: Progress) -> None:
        entry = progress.history[-1]
        seconds = sum(past["seconds"] for past in progress.history) / progress.epoch
        logger.info(
            "epoch %d/%d: loss %.3f, validation %.3f%s, %.0f captions/s, at most %.0f s left",
            progress.epoch,
            self._config.epochs,
            entry["loss"],
            entry["val_loss"],
            " (best)" if progress.best_epoch == progress.epoch else "",
            entry["captions_per_second"],
            seconds * (self._config.epochs - progress.epoch),
        )

    def _log(self, entry: dict[str, float]) -> None:
        with self._writer.as_default(step=int(entry["epoch"])):
            for name, value in entry.items():
                if name != "epoch":
                    tf.summary.scalar(f"training/{name}", value)
        self._writer.flush()

    def _write_history(self, progress: Progress) -> None:
        tf.io.gfile.makedirs(self._log_dir)
        with tf.io.gfile.GFile(f"{self._log_dir}/history.json", "w") as file:
            file.write(json.dumps(dataclasses.asdict(progress), indent=2))


class _Meter:
    """Sums of an epoch so far, looked at now and then."""

    def __init__(self, epoch: int, epochs: int, steps: int, captions: int):
        self._epoch, self._epochs, self._steps, self._captions = epoch, epochs, steps, captions
        self._loss_sum = tf.constant(0.0)
        self._tokens = tf.constant(0.0)
        self._step = 0
        self._begin = self._last_line = time.monotonic()

    def add(self, loss_sum: tf.Tensor, tokens: tf.Tensor) -> None:
        self._loss_sum += loss_sum
        self._tokens += tokens
        self._step += 1
        if self._step % _STEPS_BETWEEN_LOOKS == 0:
            self._look()

    def seconds(self) -> float:
        return time.monotonic() - self._begin

    def loss(self) -> float:
        """Nats per token.

        Raises:
          NonFiniteLossError: It is NaN or infinite.
        """
        loss = float(self._loss_sum / self._tokens)
        if not math.isfinite(loss):
            raise NonFiniteLossError(
                f"The loss is {loss} at step {self._step} of epoch {self._epoch + 1}. Try a lower "
                "`trainer.learning_rate` or `trainer.gradient_clip_norm`. The checkpoint of the "
                "last good epoch, if any, is kept."
            )
        return loss

    def _look(self) -> None:
        loss = self.loss()
        now = time.monotonic()
        if self._steps and now - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = now
            share = self._step / self._steps
            logger.info(
                "epoch %d/%d: step %d/%d, loss %.3f, %.0f captions/s, %.0f s left in this epoch",
                self._epoch + 1,
                self._epochs,
                self._step,
                self._steps,
                loss,
                share * self._captions / self.seconds(),
                self.seconds() * (1 / share - 1),
            )


def _assign(targets: list[Any], sources: list[Any]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.assign(source)
