"""Captions and pictures for TensorBoard."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfx_captioner.models.captioner import Captioner
from tfx_captioner.models.decoders.recurrent import EncodedImages, RecurrentDecoder
from tfx_captioner.models.summaries import attention_pictures

TOKEN_IDS = np.array([[5, 6, 7, 2], [4, 2, 0, 0]], np.int32)
FEATURES = np.random.default_rng(0).normal(size=(2, 6, 5)).astype(np.float32)


def _captioner(attention: str) -> Captioner:
    keras.utils.set_random_seed(0)
    decoder = RecurrentDecoder(9, units=8, embedding_dim=8, attention=attention, attention_heads=2)
    decoder.build((None, None), (None, 6, 5))
    return Captioner(decoder)


@pytest.mark.parametrize("attention", ["additive", "dot_product"])
def test_each_word_has_a_picture_of_its_own_attention(attention: str) -> None:
    captioner = _captioner(attention)
    pictures = attention_pictures(captioner, (2, 3), FEATURES, tf.constant(TOKEN_IDS))
    assert pictures.shape == (2, 2 * 8, 4 * (3 * 8 + 4), 1)

    encoded = captioner.encode(FEATURES)
    before = np.array([[1, 5, 6, 7], [1, 4, 2, 0]])
    _, weights = captioner.decoder(before, EncodedImages(encoded.state, encoded.keys_values))
    words = np.reshape(pictures, [2, 16, 4, 28])
    for image, length in ((0, 4), (1, 2)):
        for word in range(4):
            cells = words[image, ::8, word, 0:24:8]
            expected = weights[image, word] / tf.reduce_max(weights[image, word])
            expected = np.reshape(expected, [2, 3]) * (word < length)
            np.testing.assert_allclose(cells, expected, rtol=1e-6)
            np.testing.assert_array_equal(words[image, :, word, 24:], 0.0)


def test_without_attention_there_is_no_picture() -> None:
    captioner = _captioner("none")
    assert attention_pictures(captioner, (2, 3), FEATURES, tf.constant(TOKEN_IDS)) is None
