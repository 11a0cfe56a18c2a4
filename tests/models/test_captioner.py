"""The captioner's loss."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfx_captioner.models.captioner import Captioner
from tfx_captioner.models.config import DecodingConfig
from tfx_captioner.models.data_config import SPECIAL_TOKENS
from tfx_captioner.models.decoders.recurrent import RecurrentDecoder
from tfx_captioner.models.decoding import DecoderSteps, beam_search
from tfx_captioner.models.vocabulary import Vocabulary

WORDS = Vocabulary((*SPECIAL_TOKENS, "a", "b", "c", "d", "e"))
VOCABULARY = WORDS.size


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    keras.utils.set_random_seed(0)
    decoder = RecurrentDecoder(VOCABULARY, units=8, embedding_dim=6, attention_heads=1)
    decoder.build((None, None), (None, 4, 3))
    return Captioner(decoder)


def _batch() -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(1)
    return {
        "inputs": tf.constant(rng.normal(size=(2, 4, 3)), tf.float16),
        "token_ids": tf.constant([[1, 5, 6, 2], [1, 7, 2, 0], [1, 8, 4, 2]]),
        "image_index": tf.constant([0, 0, 1]),
    }


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_that_of_keras_over_real_tokens(
    captioner: Captioner, smoothing: float
) -> None:
    batch = _batch()
    total, tokens = captioner.cross_entropy(batch, label_smoothing=smoothing)
    logits = captioner.decoder.logits(captioner(batch))
    targets = batch["token_ids"][:, 1:].numpy()
    per_token = keras.losses.categorical_crossentropy(
        keras.utils.to_categorical(targets, VOCABULARY),
        logits,
        from_logits=True,
        label_smoothing=smoothing,
    ).numpy()
    assert tokens == 8
    np.testing.assert_allclose(total, per_token[targets != 0].sum(), rtol=1e-5)


def test_padding_does_not_change_the_loss(captioner: Captioner) -> None:
    batch = _batch()
    wider = {**batch, "token_ids": tf.pad(batch["token_ids"], [[0, 0], [0, 3]])}
    np.testing.assert_allclose(
        captioner.cross_entropy(batch), captioner.cross_entropy(wider), rtol=1e-6
    )


def test_captions_are_read_beside_their_own_image(captioner: Captioner) -> None:
    batch = _batch()
    hidden = captioner(batch)
    for row, image in enumerate([0, 0, 1]):
        alone = captioner(
            {
                "inputs": batch["inputs"][image : image + 1],
                "token_ids": batch["token_ids"][row : row + 1],
                "image_index": tf.constant([0]),
            }
        )
        np.testing.assert_allclose(alone[0], hidden[row], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("attention", ["none", "additive", "dot_product"])
def test_greedy_search_of_a_batch_is_that_of_each_image(attention: str) -> None:
    """Also a guard: one column of a matrix product in the loop once crashed TensorFlow here."""
    keras.utils.set_random_seed(0)
    decoder = RecurrentDecoder(
        VOCABULARY, units=32, embedding_dim=16, attention=attention, attention_heads=1
    )
    decoder.build((None, None), (None, 36, 12))
    captioner = Captioner(decoder)
    features = tf.constant(np.random.default_rng(1).normal(size=(12, 36, 12)), tf.float32)
    settings = DecodingConfig(beam_size=1, max_length=6)

    @tf.function(autograph=False)
    def search(inputs: tf.Tensor) -> tf.Tensor:
        encoded = captioner.encode(inputs)
        return beam_search(DecoderSteps(captioner.decoder), encoded, settings, WORDS).scores

    alone = tf.concat([search(features[row : row + 1]) for row in range(12)], 0)
    np.testing.assert_allclose(search(features), alone, rtol=1e-5)


def test_weighted_loss_of_captions_that_never_hold_some_tokens(captioner: Captioner) -> None:
    batch = _batch()
    total, tokens = captioner.cross_entropy(
        batch, weights=tf.constant([1.0, -2.0, 0.5]), suppressed_ids=(0, 1, 3)
    )
    logits = captioner.decoder.logits(captioner(batch)).numpy()
    logits[..., [0, 1, 3]] = -np.inf
    log_probs = tf.nn.log_softmax(logits).numpy()
    expected = 0.0
    for row, weight in enumerate([1.0, -2.0, 0.5]):
        for position, target in enumerate(batch["token_ids"][row, 1:].numpy()):
            expected -= weight * log_probs[row, position, target] if target else 0.0
    assert tokens == 8
    np.testing.assert_allclose(total, expected, rtol=1e-5)


def test_captions_are_in_the_style_of_the_target() -> None:
    # Each source captions the same images otherwise, and the auxiliary one does so more often.
    keras.utils.set_random_seed(0)
    decoder = RecurrentDecoder(
        VOCABULARY, units=16, embedding_dim=8, attention_heads=1, dropout=0.0, auxiliary_sources=1
    )
    decoder.build((None, None), (None, 4, 3))
    captioner = Captioner(decoder)
    images = tf.repeat(_batch()["inputs"], [3, 3], axis=0)
    batch = {
        "inputs": images,
        "token_ids": tf.constant([[1, 5, 6, 2], [1, 7, 8, 2], [1, 7, 8, 2]] * 2),
        "image_index": tf.range(6),
        "source": tf.constant([0, 1, 1] * 2),
    }
    optimizer = keras.optimizers.Adam(0.02)

    @tf.function(autograph=False)
    def step() -> None:
        with tf.GradientTape() as tape:
            loss, _ = captioner.cross_entropy(batch, training=True)
        variables = captioner.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    optimizer.build(captioner.trainable_variables)
    for _ in range(40):
        step()
    settings = DecodingConfig(beam_size=1, max_length=3)
    hypotheses = beam_search(DecoderSteps(decoder), captioner.encode(images), settings, WORDS)
    assert hypotheses.token_ids[:, 0].numpy().tolist() == [[5, 6, 2, 0]] * 6


def test_scheduled_sampling_gives_the_decoder_its_own_words() -> None:
    keras.utils.set_random_seed(0)
    decoder = RecurrentDecoder(VOCABULARY, units=8, embedding_dim=6, attention_heads=1, dropout=0.0)
    decoder.build((None, None), (None, 4, 3))
    captioner = Captioner(decoder)
    batch = _batch()

    def loss(**kwargs: float) -> float:
        return float(captioner.cross_entropy(batch, **kwargs)[0])

    assert loss(sampling_probability=0.0) == loss()
    assert loss(sampling_probability=1.0) != pytest.approx(loss(), rel=1e-4)
    # It is sure of one word, so that this is what it draws everywhere.
    decoder.output_bias.assign(100.0 * (np.arange(VOCABULARY) == 7))
    hidden = captioner(
        batch | {"token_ids": tf.constant([[1, 7, 7, 2], [1, 7, 2, 0], [1, 7, 7, 2]])}
    )
    logits = decoder.logits(hidden)
    expected = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["token_ids"][:, 1:], logits)
    expected = tf.reduce_sum(tf.where(batch["token_ids"][:, 1:] != 0, expected, 0.0))
    assert loss(sampling_probability=1.0) == pytest.approx(float(expected), rel=1e-5)
    # What it would end with, or does not know, is left as the caption has it.
    decoder.output_bias.assign(100.0 * (np.arange(VOCABULARY) == 2))
    assert loss(sampling_probability=1.0) == loss()
