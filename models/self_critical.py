"""Self-critical sequence training: captions are drawn, and rewarded by their CIDEr-D.

Reference: Rennie et al. (2017), https://arxiv.org/abs/1612.00563, with the mean reward of an
image's other samples as the baseline, which needs no greedy decoding and varies less (Luo, 2020,
https://arxiv.org/abs/2003.09971).
"""

from __future__ import annotations

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from models.captioner import Captioner
from models.config import SelfCriticalConfig
from models.data import CaptionData
from models.data_config import START_ID
from models.decoding import NEVER, DecoderSteps, sample
from models.rewards import CiderReward


class SelfCriticalSteps:
    """Training steps by reward.

    Args:
      captioner: The model.
      optimizer: Built for the model's trainable variables.
      config: Settings of the stage.
      max_length: Words of a drawn caption at the most.
      train: The data whose batches are given.
      reward: Scores captions.
    """

    def __init__(
        self,
        captioner: Captioner,
        optimizer: keras.optimizers.Optimizer,
        config: SelfCriticalConfig,
        max_length: int,
        train: CaptionData,
        reward: CiderReward,
    ):
        self._config = config
        self._train = train
        self._reward = reward
        inputs_spec = train.batch_spec["inputs"]

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
            references: dict[str, tf.Tensor], token_ids: tf.Tensor, advantages: tf.Tensor
        ) -> None:
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
                loss = (1.0 - share) * loss_sum / tokens
                if share:
                    loss_sum, tokens = captioner.cross_entropy(references, training=True)
                    loss += share * loss_sum / tokens
            variables = captioner.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)

        seed_spec = tf.TensorSpec([2], tf.int32)
        ids_spec, rows_spec = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None])
        self._draw = tf.function(draw, input_signature=[inputs_spec, seed_spec], autograph=False)
        self._update = tf.function(
            update, input_signature=[train.batch_spec, ids_spec, rows_spec], autograph=False
        )

    def __call__(
        self, batch: Mapping[str, tf.Tensor], seed: tuple[int, int]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One step.

        Args:
          batch: Of `CaptionData.epoch`; its captions are the references.
          seed: What the captions are drawn by.

        Returns:
          Pair of float32 scalars: the sum of the rewards, and their number.
        """
        samples = self._config.samples
        drawn = self._draw(batch["inputs"], tf.constant(seed, tf.int32)).numpy()
        drawn = drawn.reshape(-1, drawn.shape[-1])
        references = [self._train.references(image) for image in batch["images"].numpy()]
        rewards = self._reward(drawn, [rows for rows in references for _ in range(samples)])
        by_image = rewards.reshape(-1, samples)
        others = (by_image.sum(axis=1, keepdims=True) - by_image) / (samples - 1)
        token_ids = np.pad(drawn, [[0, 0], [1, 0]], constant_values=START_ID)
        advantages = (by_image - others).reshape(-1).astype(np.float32)
        self._update(batch, token_ids, advantages)
        return tf.constant(rewards.sum(), tf.float32), tf.constant(len(rewards), tf.float32)
