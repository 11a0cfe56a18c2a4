"""Self-critical sequence training: captions are sampled, and rewarded by their CIDEr-D.

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
from tfx_captioner.models.decoding import SUPPRESSED_IDS, DecoderSteps, sample
from tfx_captioner.models.distribution import Batch, Replicas, add_up
from tfx_captioner.models.rewards import CiderReward


class SelfCriticalSteps:
    """Training steps by reward.

    Example:

    ```python
    step = SelfCriticalSteps(captioner, optimizer, config, 20, train, CiderReward(train))
    for number, batch in enumerate(train.epoch(128, shuffle=(seed, epoch))):
        loss, reward_sum, samples = step([batch], seed=(seed, 1000 * number))
    ```

    Args:
      captioner: The model.
      optimizer: Optimizer, built for the model's trainable variables.
      config: Settings of the stage.
      max_length: Most words of a sampled caption.
      train: Data whose batches are given.
      reward: Reward of a caption.
      replicas: Replicas of the model; one if None.
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

        def sample_captions(inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
            return sample(
                DecoderSteps(captioner.decoder),
                captioner.encode(inputs),
                samples=config.samples,
                max_length=max_length,
                seed=seed,
            )

        share = config.cross_entropy_share

        def update(
            references: Batch, token_ids: tf.Tensor, advantages: tf.Tensor, rewards: tf.Tensor
        ) -> tuple[tf.Tensor, tf.Tensor]:
            sampled = {
                "inputs": references["inputs"],
                "token_ids": token_ids,
                "image_index": tf.range(tf.shape(token_ids)[0]) // config.samples,
            }
            with tf.GradientTape() as tape:
                # Without the tokens that are never sampled: unlikely captions are long ones, and
                # their low rewards would otherwise give all probability to the unknown word.
                loss_sum, tokens = captioner.cross_entropy(
                    sampled, training=True, weights=advantages, suppressed_ids=SUPPRESSED_IDS
                )
                loss = (1.0 - share) * loss_sum / add_up(tokens)
                if share:
                    loss_sum, tokens = captioner.cross_entropy(references, training=True)
                    loss += share * loss_sum / add_up(tokens)
            variables = captioner.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
            return add_up((loss, rewards))

        def per_replica(spec: Any) -> tuple[Any, ...]:
            return (spec,) * len(replicas.local)

        self._sample = tf.function(
            lambda *parts: replicas.run(sample_captions, *parts),
            input_signature=[
                per_replica(train.batch_spec["inputs"]),
                per_replica(tf.TensorSpec([2], tf.int32)),
            ],
            autograph=False,
        )
        self._update = tf.function(
            lambda *parts: replicas.run(update, *parts)[0],
            input_signature=[
                per_replica(train.batch_spec),
                per_replica(tf.TensorSpec([None, None], tf.int32)),
                per_replica(tf.TensorSpec([None])),
                per_replica(tf.TensorSpec([2])),
            ],
            autograph=False,
        )

    def __call__(
        self, parts: Sequence[Batch], seed: tuple[int, int]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Samples captions of a batch and trains on them.

        Args:
          parts: Parts of a batch, from `Replicas.parts`; their captions are the references.
          seed: Seed of the samples.

        Returns:
          float32 scalars: the loss, the sum of the rewards, and their number.
        """
        seeds = tuple(tf.constant([seed[0] + number, seed[1]]) for number in self._replicas.local)
        sampled = self._sample(tuple(part["inputs"] for part in parts), seeds)
        rewarded = [
            self._rewarded(part["images"].numpy(), token_ids.numpy())
            for part, token_ids in zip(parts, sampled, strict=True)
        ]
        loss, sums = self._update(tuple(parts), *zip(*rewarded, strict=True))
        return loss, sums[0], sums[1]

    def _rewarded(
        self, images: np.ndarray, sampled: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rewards sampled captions.

        Args:
          images: Numbers of the images, int32 [N].
          sampled: Captions of each image, int32 [N, samples, T]; those of a stand-in where there
            are no images.

        Returns:
          Captions as the update takes them, int32 [N * samples, T + 1]; advantage of each, float32
          [N * samples]; sum and number of the rewards, float32 [2].
        """
        samples = self._config.samples
        sampled[len(images) :] = PAD_ID
        sampled = sampled.reshape(-1, sampled.shape[-1])
        references = [self._train.references(image) for image in images for _ in range(samples)]
        rewards = self._reward(sampled[: len(references)], references)
        by_image = rewards.reshape(-1, samples)
        others = (by_image.sum(axis=1, keepdims=True) - by_image) / (samples - 1)
        token_ids = np.pad(sampled, [[0, 0], [1, 0]], constant_values=START_ID)
        advantages = np.zeros(len(sampled), np.float32)
        advantages[: len(rewards)] = (by_image - others).reshape(-1)
        return token_ids, advantages, np.array([rewards.sum(), len(rewards)], np.float32)
