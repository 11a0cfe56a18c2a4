"""Self-critical sequence training: captions are drawn, and rewarded by their CIDEr-D.

Reference: Rennie et al. (2017), https://arxiv.org/abs/1612.00563, with the mean reward of an
image's other samples as the baseline, which needs no greedy decoding and varies less (Luo, 2020,
https://arxiv.org/abs/2003.09971).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfx_captioner.models.captioner import Captioner
from tfx_captioner.models.config import SelfCriticalConfig
from tfx_captioner.models.data import CaptionData
from tfx_captioner.models.data_config import PAD_ID, START_ID
from tfx_captioner.models.decoding import NEVER, DecoderSteps, sample
from tfx_captioner.models.distribution import Batch, Replicas, add_up
from tfx_captioner.models.rewards import CiderReward


class SelfCriticalSteps:
    """Training steps by reward.

    Args:
      captioner: The model.
      optimizer: Built for the model's trainable variables.
      config: Settings of the stage.
      max_length: Words of a drawn caption at the most.
      train: The data whose batches are given.
      reward: Scores captions.
      replicas: Of the model; one if None.
    """

    def __init__(
        self,
        captioner: Captioner,
        optimizer: keras.optimizers.Optimizer,
        config: SelfCriticalConfig,
        max_length: int,
        train: CaptionData,
        reward: CiderReward,
        replicas: Replicas | None = None,
    ):
        self._config = config
        self._train = train
        self._reward = reward
        self._replicas = replicas = replicas or Replicas()

        def draw(inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            return sample(
                DecoderSteps(captioner.decoder),
                captioner.remember(inputs),
                samples=config.samples,
                max_length=max_length,
                seed=seed,
            )

        share = config.cross_entropy_share

        def update(
            references: Batch, token_ids: tf.Tensor, advantages: tf.Tensor, rewards: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            drawn = {
                "inputs": references["inputs"],
                "token_ids": token_ids,
                "image_index": tf.range(tf.shape(token_ids)[0]) // config.samples,
            }
            with tf.GradientTape() as tape:
                # Without the tokens that are never drawn: unlikely captions being long ones, their
                # low rewards would otherwise give all probability to the unknown word.
                loss_sum, tokens = captioner.cross_entropy(
                    drawn, training=True, weights=advantages, never=NEVER
                )
                loss = (1.0 - share) * loss_sum / add_up(tokens)
                if share:
                    loss_sum, tokens = captioner.cross_entropy(references, training=True)
                    loss += share * loss_sum / add_up(tokens)
            variables = captioner.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
            return add_up((loss, rewards))

        def each(spec: Any) -> tuple[Any, ...]:
            return (spec,) * len(replicas.local)

        self._draw = tf.function(
            lambda *parts: replicas.run(draw, *parts),
            input_signature=[
                each(train.batch_spec["inputs"]),
                each(tf.TensorSpec([2], tf.int32)),
            ],
            autograph=False,
        )
        self._update = tf.function(
            lambda *parts: replicas.run(update, *parts)[0],
            input_signature=[
                each(train.batch_spec),
                each(tf.TensorSpec([None, None], tf.int32)),
                each(tf.TensorSpec([None])),
                each(tf.TensorSpec([2])),
            ],
            autograph=False,
        )

    def __call__(
        self, parts: Sequence[Batch], seed: tuple[int, int]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """One step.

        Args:
          parts: Of a batch, from `Replicas.parts`; their captions are the references.
          seed: What the captions are drawn by.

        Returns:
          float32 scalars: the loss, the sum of the rewards, and their number.
        """
        seeds = tuple(tf.constant([seed[0] + of, seed[1]]) for of in self._replicas.local)
        drawn = self._draw(tuple(part["inputs"] for part in parts), seeds)
        rewarded = [
            self._rewarded(part["images"].numpy(), token_ids.numpy())
            for part, token_ids in zip(parts, drawn, strict=True)
        ]
        loss, sums = self._update(tuple(parts), *zip(*rewarded, strict=True))
        return loss, sums[0], sums[1]

    def _rewarded(
        self, images: np.ndarray, drawn: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What drawn captions are worth.

        Args:
          images: int32 [N], numbers of the images.
          drawn: int32 [N, samples, T]; one more where there are no images, of a stand-in.

        Returns:
          Captions as the update takes them, int32 [N * samples, T + 1]; by how much each counts,
          float32 [N * samples]; sum and number of the rewards, float32 [2].
        """
        samples = self._config.samples
        drawn[len(images) :] = PAD_ID
        drawn = drawn.reshape(-1, drawn.shape[-1])
        references = [self._train.references(image) for image in images for _ in range(samples)]
        rewards = self._reward(drawn[: len(references)], references)
        by_image = rewards.reshape(-1, samples)
        others = (by_image.sum(axis=1, keepdims=True) - by_image) / (samples - 1)
        token_ids = np.pad(drawn, [[0, 0], [1, 0]], constant_values=START_ID)
        advantages = np.zeros(len(drawn), np.float32)
        advantages[: len(rewards)] = (by_image - others).reshape(-1)
        return token_ids, advantages, np.array([rewards.sum(), len(rewards)], np.float32)
