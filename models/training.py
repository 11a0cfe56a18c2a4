"""The training loop: teacher forcing, early stopping, self-critical stage, checkpoints."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.captioner import Captioner
from models.checkpoints import TrainingCheckpoint
from models.config import DecodingConfig, TrainerConfig
from models.data import CaptionData
from models.decoding import DecoderSteps, beam_search
from models.progress import Meter, Progress
from models.rewards import CiderReward
from models.self_critical import SelfCriticalSteps

logger = logging.getLogger("captioner.models")


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
    return _adamw(config, schedule)


def _adamw(config: TrainerConfig, learning_rate: Any) -> keras.optimizers.Optimizer:
    return keras.optimizers.AdamW(
        learning_rate,
        weight_decay=config.weight_decay,
        global_clipnorm=config.gradient_clip_norm,
        use_ema=config.ema_momentum > 0.0,
        ema_momentum=config.ema_momentum,
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
      decoding: How captions are generated for validation.
      train: Captions to learn.
      val: Captions that decide when to stop and which epoch is best.
      checkpoint_dir: Folder of this training's checkpoint.
      log_dir: Folder for TensorBoard's event files and `history.json`.
    """

    def __init__(
        self,
        captioner: Captioner,
        config: TrainerConfig,
        decoding: DecodingConfig,
        train: CaptionData,
        val: CaptionData,
        *,
        checkpoint_dir: str,
        log_dir: str,
    ):
        captioner.decoder.training_dtype = config.matmul_dtype
        self._captioner = captioner
        self._config = config
        self._train = train
        self._val = val
        self._log_dir = log_dir
        self._optimizer = make_optimizer(config, train.batches_per_epoch(config.batch_size))
        self._optimizer.build(captioner.trainable_variables)
        self._second_optimizer = _adamw(config, config.self_critical.learning_rate)
        # Model variables include the states of dropout's random number generators.
        self._weights = [variable.value for variable in captioner.variables]
        self._best = [tf.Variable(weight, trainable=False) for weight in self._weights]
        slots = [variable.value for variable in self._optimizer.variables]
        if config.self_critical.epochs:
            self._second_optimizer.build(captioner.trainable_variables)
            slots += [variable.value for variable in self._second_optimizer.variables]
        self.checkpoint = TrainingCheckpoint(checkpoint_dir, self._weights + self._best + slots)
        self._writer = tf.summary.create_file_writer(log_dir)

        self._reward = CiderReward(train)
        self._train_step = make_train_step(
            captioner, self._optimizer, config.label_smoothing, train.batch_spec
        )
        self._self_critical_step = SelfCriticalSteps(
            captioner,
            self._second_optimizer,
            config.self_critical,
            decoding.max_length,
            train,
            self._reward,
        )
        self._val_step = tf.function(
            captioner.cross_entropy, input_signature=[val.batch_spec], autograph=False
        )

        def generate(inputs: tf.Tensor) -> tf.Tensor:
            memory = captioner.remember(inputs)
            return beam_search(DecoderSteps(captioner.decoder), memory, decoding).token_ids[:, 0]

        self._generate = tf.function(
            generate,
            input_signature=[val.batch_spec["inputs"]],
            autograph=False,
        )

    @property
    def _epochs(self) -> int:
        """At the most."""
        return self._config.epochs + self._config.self_critical.epochs

    def run(self) -> Progress:
        """Trains until the epochs are over; teacher forcing ends when CIDEr-D stays down.

        Raises:
          NonFiniteLossError: The loss became NaN or infinite.
        """
        progress = self._resume()
        while self._goes_on(progress):
            if progress.first_stage_epochs is None:
                entry = self._epoch_by_teacher(progress.epoch)
                optimizer = self._optimizer
            else:
                entry = self._epoch_by_reward(progress.epoch)
                optimizer = self._second_optimizer
            learned = [tf.identity(weight) for weight in self._weights]
            self._take_average(optimizer)
            entry |= self._validate(progress.epoch)
            if progress.add(entry):
                _assign(self._best, self._weights)
            _assign(self._weights, learned)
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

    def _goes_on(self, progress: Progress) -> bool:
        """Whether another epoch follows; begins the second stage when the first is over."""
        config = self._config
        if progress.first_stage_epochs is None:
            stale = progress.epoch - progress.best_epoch
            if progress.epoch < config.epochs and stale < config.early_stopping_patience:
                return True
            progress.first_stage_epochs = progress.epoch
            if config.self_critical.epochs:
                logger.info("rewards from epoch %d on, which was the best", progress.best_epoch)
                _assign(self._weights, self._best)
        return progress.epoch - progress.first_stage_epochs < config.self_critical.epochs

    def _take_average(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Sets the trainable weights to their moving average, where one is kept."""
        optimizer.finalize_variable_values(self._captioner.trainable_variables)

    def _epoch_by_teacher(self, epoch: int) -> dict[str, float]:
        """Trains epoch number `epoch` (from 0) by teacher forcing."""
        config = self._config
        steps = self._train.batches_per_epoch(config.batch_size)
        meter = Meter(epoch, self._epochs, steps, self._train.num_captions)
        for batch in self._train.epoch(config.batch_size, shuffle=(config.seed, epoch)):
            meter.add(*self._train_step(batch))
        rate = float(self._optimizer.learning_rate)
        return {"epoch": epoch + 1, "loss": meter.mean()} | self._pace(
            meter, rate, self._train.num_captions
        )

    def _epoch_by_reward(self, epoch: int) -> dict[str, float]:
        """Trains epoch number `epoch` (from 0) by the rewards of drawn captions."""
        config = self._config
        captions = self._train.num_images * config.self_critical.samples
        steps = self._train.batches_per_epoch(config.batch_size)
        meter = Meter(epoch, self._epochs, steps, captions, label="reward")
        data = self._train.epoch(config.batch_size, shuffle=(config.seed, epoch))
        for step, batch in enumerate(data):
            seed = (config.seed, (epoch * steps + step) * 1000)
            meter.add(*self._self_critical_step(batch, seed))
        rate = config.self_critical.learning_rate
        return {"epoch": epoch + 1, "reward": meter.mean()} | self._pace(meter, rate, captions)

    def _pace(self, meter: Meter, learning_rate: float, captions: int) -> dict[str, float]:
        seconds = meter.seconds()
        return {
            "learning_rate": learning_rate,
            "seconds": round(seconds, 3),
            "captions_per_second": round(captions / seconds, 1),
        }

    def _validate(self, epoch: int) -> dict[str, float]:
        """Loss and CIDEr-D on the validation split."""
        meter = Meter(epoch, self._epochs, 0, self._val.num_captions)
        generated: list[np.ndarray] = []
        references: list[np.ndarray] = []
        for batch in self._val.epoch(self._config.batch_size):
            meter.add(*self._val_step(batch))
            generated.extend(self._generate(batch["inputs"]).numpy())
            references.extend(self._val.references(image) for image in batch["images"].numpy())
        cider_d = float(np.mean(self._reward(np.stack(generated), references)))
        return {"val_loss": meter.mean(), "val_cider_d": cider_d}

    def _report(self, progress: Progress) -> None:
        entry = progress.history[-1]
        seconds = sum(past["seconds"] for past in progress.history) / progress.epoch
        label = "reward" if "reward" in entry else "loss"
        logger.info(
            "epoch %d/%d: %s %.3f, validation loss %.3f, CIDEr-D %.1f%s, %.0f captions/s, "
            "at most %.0f s left",
            progress.epoch,
            self._epochs,
            label,
            entry[label],
            entry["val_loss"],
            100 * entry["val_cider_d"],
            " (best)" if progress.best_epoch == progress.epoch else "",
            entry["captions_per_second"],
            seconds * (self._epochs - progress.epoch),
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


def _assign(targets: list[Any], sources: list[Any]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.assign(source)
