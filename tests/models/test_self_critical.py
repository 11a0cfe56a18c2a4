"""The self-critical stage."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tfx_captioner.models.captioner import Captioner
from tfx_captioner.models.config import SelfCriticalConfig, TrainerConfig
from tfx_captioner.models.data import CaptionData
from tfx_captioner.models.data_config import UNKNOWN_ID
from tfx_captioner.models.decoders.recurrent import RecurrentDecoder
from tfx_captioner.models.rewards import CiderReward
from tfx_captioner.models.self_critical import SelfCriticalSteps
from tfx_captioner.models.training import make_optimizer, make_train_step

IMAGES, WORDS, VOCABULARY = 12, 5, 24


def _data() -> CaptionData:
    """Images with one caption each; every other word is unknown in a third of them."""
    rng = np.random.default_rng(0)
    words = rng.integers(4, VOCABULARY, (IMAGES, WORDS))
    words[::3, 1::2] = UNKNOWN_ID
    ends = np.full([IMAGES, 1], 2)
    token_ids = np.concatenate([np.full([IMAGES, 1], 1), words, ends], axis=1).astype(np.int32)
    features = rng.normal(size=(IMAGES, 4, 6)).astype(np.float16)
    return CaptionData(features, token_ids, np.arange(IMAGES + 1))


def test_rewards_rise_and_the_unknown_word_does_not() -> None:
    keras.utils.set_random_seed(0)
    data = _data()
    decoder = RecurrentDecoder(
        VOCABULARY, units=32, embedding_dim=16, attention_heads=2, dropout=0.0
    )
    decoder.build((None, None), (None, 4, 6))
    captioner = Captioner(decoder)
    [batch] = data.epoch(IMAGES)
    config = TrainerConfig(learning_rate=0.01, warmup_epochs=0, ema_momentum=0.0)
    optimizer = make_optimizer(config, steps_per_epoch=100)
    optimizer.build(captioner.trainable_variables)
    teach = make_train_step(captioner, optimizer, 0.1, data.batch_spec)
    for _ in range(25):
        teach(batch)

    def unknown() -> float:
        logits = captioner.decoder.logits(captioner(batch))
        return float(tf.reduce_mean(tf.nn.softmax(logits)[..., UNKNOWN_ID]))

    before = unknown()
    second = keras.optimizers.Adam(0.002)
    second.build(captioner.trainable_variables)
    steps = SelfCriticalSteps(
        captioner, second, SelfCriticalConfig(epochs=1), 8, data, CiderReward(data)
    )
    rewards = []
    for step in range(60):
        _, total, count = steps([batch], (1, step * 1000))
        rewards.append(float(total / count))
    assert np.mean(rewards[-5:]) > np.mean(rewards[:5]) + 1.0
    # It is never drawn, so nothing speaks for it or against it.
    assert unknown() < before + 0.1
