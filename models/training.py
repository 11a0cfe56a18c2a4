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

from tfx_captioner.models.captioner import Captioner
from tfx_captioner.models.checkpoints import TrainingCheckpoint
from tfx_captioner.models.config import TrainerConfig
from tfx_captioner.models.data import CaptionData
from tfx_captioner.models.decoders.products import fastest_dtype
from tfx_captioner.models.decoding import DecoderSteps, beam_search
from tfx_captioner.models.distribution import Batch, Replicas, SummingAdamW, add_up
from tfx_captioner.models.progress import Meter, Progress
from tfx_captioner.models.rewards import CiderReward
from tfx_captioner.models.self_critical import SelfCriticalSteps
from tfx_captioner.models.summaries import write_samples
from tfx_captioner.models.vocabulary import Vocabulary

logger = logging.getLogger("captioner.models")

# Images of the validation split whose captions TensorBoard shows.
_SAMPLES = 4


def make_optimizer(config: TrainerConfig, steps_per_epoch: int) -> SummingAdamW:
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


def _adamw(config: TrainerConfig, learning_rate: Any) -> SummingAdamW:
    return SummingAdamW(
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
    replicas: Replicas | None = None,
    *,
    scheduled_sampling: float = 0.0,
    steps: int = 1,
) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Compiles the training step.

    Args:
      captioner: The model.
      optimizer: Optimizer, built for the model's trainable variables.
      label_smoothing: Share of the target probability spread over the vocabulary.
      batch_spec: Shapes and types of the batches; sizes that vary are None in it, so the step is
        traced once.
      replicas: Replicas of the model; one if None.
      scheduled_sampling: Probability of scheduled sampling at the end, as in `TrainerConfig`.
      steps: Steps of the whole training, over which the probability rises.

    Returns:
      A function from the parts of a batch, one argument per replica of this process, to the sum of
      its loss and its number of tokens.
    """
    replicas = replicas or Replicas()

    def replica_step(part: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        probability = None
        if scheduled_sampling:
            passed = tf.cast(optimizer.iterations.value, tf.float32) / steps
            probability = scheduled_sampling * tf.minimum(passed, 1.0)
        with tf.GradientTape() as tape:
            loss_sum, tokens = captioner.cross_entropy(
                part, label_smoothing, training=True, sampling_probability=probability
            )
            tokens = add_up(tokens)
            loss = loss_sum / tokens
        variables = captioner.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)
        return add_up(loss_sum), tokens

    def step(*parts: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        return replicas.run(replica_step, parts)[0]

    # Nothing here needs AutoGraph, and without it tracing is faster.
    return tf.function(step, input_signature=[batch_spec] * len(replicas.local), autograph=False)


class CaptionerTraining:
    """Trains a captioner, from its beginning or from where it was interrupted.

    Example:

    ```python
    training = CaptionerTraining(
        captioner,
        TrainerConfig(epochs=10),
        train,
        val,
        vocabulary=vocabulary,
        grid=encoder.grid,
        checkpoint_dir="checkpoints/0123",
        log_dir="logs",
    )
    progress = training.run()
    print(progress.best_epoch, progress.best["val_cider_d"])
    ```

    Args:
      captioner: The model; ends with the weights of its best epoch.
      config: Settings.
      train: Captions to learn.
      val: Captions that decide when to stop and which epoch is best.
      vocabulary: Words of the token ids.
      grid: Height and width of the encoder's features.
      checkpoint_dir: Folder of this training's checkpoint.
      log_dir: Folder for TensorBoard's event files and `history.json`.
      replicas: Replicas of the model; one if None.
    """

    def __init__(
        self,
        captioner: Captioner,
        config: TrainerConfig,
        train: CaptionData,
        val: CaptionData,
        *,
        vocabulary: Vocabulary,
        grid: tuple[int, int],
        checkpoint_dir: str,
        log_dir: str,
        replicas: Replicas | None = None,
    ):
        self._captioner = captioner
        self._config = config
        self._train = train
        self._val = val
        self._vocabulary = vocabulary
        self._grid = grid
        self._log_dir = log_dir
        self._replicas = replicas or Replicas()
        # Model variables include the states of dropout's random number generators.
        self._weights = [variable.value for variable in captioner.variables]
        self._best = [tf.Variable(weight, trainable=False) for weight in self._weights]
        self._make_optimizers()
        self.checkpoint = TrainingCheckpoint(
            checkpoint_dir, self._weights + self._best + self._slots
        )
        self._writer = (
            tf.summary.create_file_writer(log_dir)
            if self._replicas.is_chief
            else tf.summary.create_noop_writer()
        )
        self._cider_d = CiderReward(train)
        self._compile()

    def _make_optimizers(self) -> None:
        """Makes the optimizers of both stages, and the list of their variables."""
        config, variables = self._config, self._captioner.trainable_variables
        with self._replicas.scope():
            steps = self._train.batches_per_epoch(config.batch_size)
            self._optimizer = make_optimizer(config, steps)
            self._optimizer.build(variables)
            self._slots = [variable.value for variable in self._optimizer.variables]
            self._second_optimizer = _adamw(config, config.self_critical.learning_rate)
            if config.self_critical.epochs:
                self._second_optimizer.build(variables)
                self._slots += [variable.value for variable in self._second_optimizer.variables]
        if self._captioner.encoder is not None:
            encoder = self._captioner.encoder.trainable_variables
            for optimizer in (self._optimizer, self._second_optimizer):
                optimizer.scale_steps(encoder, config.encoder_learning_rate_factor)

    def _compile(self) -> None:
        """Makes the steps of training and validation."""
        captioner, config, replicas = self._captioner, self._config, self._replicas
        vocabulary, decoding = self._vocabulary, config.validation_decoding
        self._train_step = make_train_step(
            captioner,
            self._optimizer,
            config.label_smoothing,
            self._train.batch_spec,
            replicas,
            scheduled_sampling=config.scheduled_sampling,
            steps=config.epochs * self._train.batches_per_epoch(config.batch_size),
        )
        self._self_critical_step: SelfCriticalSteps | None = None
        if config.self_critical.epochs:
            self._self_critical_step = SelfCriticalSteps(
                captioner,
                self._second_optimizer,
                config.self_critical,
                decoding.max_length,
                self._train,
                CiderReward(self._train, with_end=True),
                replicas,
            )

        def loss(part: Batch) -> tuple[tf.Tensor, tf.Tensor]:
            return add_up(captioner.cross_entropy(part))

        def generate(inputs: tf.Tensor) -> tf.Tensor:
            encoded = captioner.encode(inputs)
            steps = DecoderSteps(captioner.decoder)
            return beam_search(steps, encoded, decoding, vocabulary).token_ids[:, 0]

        spec, count = self._val.batch_spec, len(replicas.local)
        self._val_step = tf.function(
            lambda *parts: replicas.run(loss, parts)[0],
            input_signature=[spec] * count,
            autograph=False,
        )
        self._generate = tf.function(
            lambda *inputs: replicas.run(generate, inputs),
            input_signature=[spec["inputs"]] * count,
            autograph=False,
        )

    @property
    def _epochs(self) -> int:
        """Most epochs of both stages."""
        return self._config.epochs + self._config.self_critical.epochs

    def run(self) -> Progress:
        """Trains until the epochs are over; teacher forcing ends when CIDEr-D stays down.

        Raises:
          NonFiniteLossError: The loss became NaN or infinite.
        """
        progress = self._resume()
        # Nothing is traced yet, so the steps of both stages take it from here.
        self._captioner.decoder.training_dtype = progress.matmul_dtype
        seeds = [(state, int(state[0])) for state in self._generator_states()]
        while self._goes_on(progress):
            self._replicas.diversify(seeds)
            if progress.first_stage_epochs is None:
                entry = self._teacher_forcing_epoch(progress.epoch)
                optimizer = self._optimizer
            else:
                entry = self._self_critical_epoch(progress.epoch)
                optimizer = self._second_optimizer
            learned = [tf.identity(weight) for weight in self._weights]
            self._take_average(optimizer)
            entry |= self._validate(progress.epoch)
            if progress.add(entry):
                _assign(self._best, self._weights)
            _assign(self._weights, learned)
            if self._replicas.is_chief:
                self.checkpoint.save(dataclasses.asdict(progress))
            self._log(entry)
            self._report(progress)
        _assign(self._weights, self._best)
        if self._replicas.is_chief:
            self._write_history(progress)
        return progress

    def _generator_states(self) -> list[tf.Variable]:
        """States of the random number generators of the model's layers."""
        return [
            variable.value
            for variable in self._captioner.variables
            if variable.name == "seed_generator_state"
        ]

    def _resume(self) -> Progress:
        saved = self.checkpoint.restore()
        if saved is None:
            return Progress(matmul_dtype=self._matmul_dtype())
        progress = Progress(**saved)
        logger.info("continuing an interrupted training after epoch %d", progress.epoch)
        for entry in progress.history:
            self._log(entry)
        return progress

    def _matmul_dtype(self) -> str:
        if self._config.matmul_dtype != "auto":
            return self._config.matmul_dtype
        dtype, speedup = fastest_dtype()
        logger.info(
            "matrix products in %s: bfloat16 is %.1f times as fast as float32 here", dtype, speedup
        )
        return dtype

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

    def _teacher_forcing_epoch(self, epoch: int) -> dict[str, float]:
        """Trains epoch number `epoch` (from 0) by teacher forcing."""
        config = self._config
        steps = self._train.batches_per_epoch(config.batch_size)
        meter = Meter(epoch, self._epochs, steps, self._train.captions_per_epoch)
        data = self._train.epoch(config.batch_size, shuffle=(config.seed, epoch))
        for parts in self._replicas.parts(data):
            meter.add(*self._train_step(*parts))
        rate = float(self._optimizer.learning_rate)
        return {"epoch": epoch + 1, "loss": meter.mean()} | self._pace(
            meter, rate, self._train.captions_per_epoch
        )

    def _self_critical_epoch(self, epoch: int) -> dict[str, float]:
        """Trains epoch number `epoch` (from 0) by the rewards of sampled captions."""
        config, take_step = self._config, self._self_critical_step
        assert take_step is not None, "the second stage has no epochs"
        captions = self._train.num_images * config.self_critical.samples
        steps = self._train.batches_per_epoch(config.batch_size)
        rewards = Meter(epoch, self._epochs, steps, captions, label="reward")
        # Rewards stay finite when the loss does not: any words may be sampled, and have one.
        losses = Meter(epoch, self._epochs, 0, captions)
        data = self._train.epoch(config.batch_size, shuffle=(config.seed, epoch))
        for step, parts in enumerate(self._replicas.parts(data)):
            seed = (config.seed, (epoch * steps + step) * 1000)
            loss, total, count = take_step(parts, seed)
            losses.add(loss, tf.constant(1.0))
            rewards.add(total, count)
        losses.mean()
        rate = config.self_critical.learning_rate
        return {"epoch": epoch + 1, "reward": rewards.mean()} | self._pace(rewards, rate, captions)

    def _pace(self, meter: Meter, learning_rate: float, captions: int) -> dict[str, float]:
        seconds = meter.seconds()
        return {
            "learning_rate": learning_rate,
            "seconds": round(seconds, 3),
            "captions_per_second": round(captions / seconds, 1),
        }

    def _validate(self, epoch: int) -> dict[str, float]:
        """Loss and CIDEr-D on the validation split, of which some captions are shown."""
        meter = Meter(epoch, self._epochs, 0, self._val.num_captions)
        generated: list[np.ndarray] = []
        references: list[np.ndarray] = []
        for parts in self._replicas.parts(self._val.epoch(self._config.batch_size)):
            meter.add(*self._val_step(*parts))
            captions = self._generate(*(part["inputs"] for part in parts))
            for part, token_ids in zip(parts, captions, strict=True):
                images = part["images"].numpy()
                if not generated:
                    self._show(epoch, part, token_ids)
                generated.extend(token_ids.numpy()[: len(images)])
                references.extend(self._val.references(image) for image in images)
        scores = self._cider_d(generated, references)
        total, count = self._replicas.total([np.sum(scores), len(scores)])
        return {"val_loss": meter.mean(), "val_cider_d": float(total / count)}

    def _show(self, epoch: int, part: Batch, token_ids: tf.Tensor) -> None:
        """Shows captions generated for the first images of a part."""
        if not self._replicas.is_chief:
            return
        images = part["images"].numpy()[:_SAMPLES]
        with self._writer.as_default(step=epoch + 1):
            write_samples(
                self._captioner,
                self._vocabulary,
                self._grid,
                part["inputs"][: len(images)],
                token_ids[: len(images)],
                [self._val.references(image) for image in images],
            )

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
