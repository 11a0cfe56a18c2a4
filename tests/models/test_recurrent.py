"""The recurrent decoder."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfx_captioner.models.decoders.recurrent import RecurrentDecoder

N, T, POSITIONS, CHANNELS = 2, 5, 4, 6
SIZES = {"vocabulary_size": 11, "units": 8, "embedding_dim": 6, "attention_heads": 2}
TOKEN_IDS = tf.constant([[1, 4, 7, 5, 9], [1, 10, 4, 6, 8]])
FEATURES = tf.constant(np.random.default_rng(0).normal(size=(N, POSITIONS, CHANNELS)), tf.float32)
BUILD_SHAPES = ((None, None), (None, POSITIONS, CHANNELS))


def _decoder(**kwargs: object) -> RecurrentDecoder:
    keras.utils.set_random_seed(0)
    decoder = RecurrentDecoder(**{**SIZES, **kwargs})
    decoder.build(*BUILD_SHAPES)
    return decoder


@pytest.mark.parametrize(
    ("cell", "attention", "further", "weights"),
    [
        ("lstm", "none", {}, 13),
        ("lstm", "none", {"gate": True}, 13),
        ("lstm", "additive", {}, 20),
        ("lstm", "additive", {"layer_norm": True}, 22),
        ("gru", "dot_product", {}, 17),
        ("gru", "dot_product", {"gate": True, "layer_norm": True}, 21),
        ("gru", "dot_product", {"concepts": 0.5}, 20),
        ("gru", "dot_product", {"auxiliary_sources": 2}, 20),
        ("gru", "none", {"tie_embeddings": False}, 12),
    ],
)
def test_layer(
    run_layer_test: Callable[..., None],
    cell: str,
    attention: str,
    further: dict[str, float],
    weights: int,
) -> None:
    def call(decoder: RecurrentDecoder) -> list[tf.Tensor]:
        encoded = decoder.encode_features(FEATURES, tf.constant([0, 2]))
        hidden, weights = decoder(TOKEN_IDS, encoded)
        concepts = tuple(part[:, None] for part in encoded.concepts)
        of_words = tuple(tf.repeat(part[:, None], T, axis=1) for part in encoded.source)
        outputs = [decoder.logits(hidden, concepts, of_words)]
        return outputs if weights is None else [*outputs, weights]

    shapes = [(N, T, 11)] + ([] if attention == "none" else [(N, T, POSITIONS)])
    run_layer_test(
        RecurrentDecoder,
        {**SIZES, "cell": cell, "attention": attention, **further},
        call=call,
        build_shapes=BUILD_SHAPES,
        expected_shapes=shapes,
        expected_weights=weights,
    )


@pytest.mark.parametrize(
    ("cell", "attention"),
    list(itertools.product(["lstm", "gru"], ["none", "additive", "dot_product"])),
)
@pytest.mark.parametrize(
    "further",
    [{}, {"gate": True, "layer_norm": True, "concepts": 0.5}, {"tie_embeddings": False}],
)
def test_word_by_word_is_what_was_trained_as_a_whole(
    cell: str, attention: str, further: dict[str, float]
) -> None:
    decoder = _decoder(cell=cell, attention=attention, **further)
    encoded = decoder.encode_features(FEATURES)
    concepts = tuple(part[:, None] for part in encoded.concepts)
    whole = decoder.logits(decoder(TOKEN_IDS, encoded)[0], concepts)
    # Two beams that say the same.
    state = tuple(tf.repeat(part[:, None], 2, axis=1) for part in encoded.state)
    for position in range(T):
        last = tf.repeat(TOKEN_IDS[:, position, None], 2, axis=1)
        logits, state = decoder.step(last, state, encoded, decoder.output_weights())
        for beam in range(2):
            np.testing.assert_allclose(logits[:, beam], whole[:, position], rtol=1e-4, atol=1e-5)


def test_later_words_do_not_change_earlier_predictions() -> None:
    decoder = _decoder()
    encoded = decoder.encode_features(FEATURES)
    changed = TOKEN_IDS.numpy()
    changed[:, 3:] = 0
    hidden, _ = decoder(TOKEN_IDS, encoded)
    other, _ = decoder(tf.constant(changed), encoded)
    np.testing.assert_allclose(hidden[:, :3], other[:, :3], rtol=1e-6)
    assert not np.allclose(hidden[:, 3:], other[:, 3:])


def test_dropout_is_on_while_training_only() -> None:
    decoder = _decoder(dropout=0.5)

    def logits(training: bool) -> np.ndarray:
        encoded = decoder.encode_features(FEATURES, training=training)
        hidden, _ = decoder(TOKEN_IDS, encoded, training=training)
        return decoder.logits(hidden, training=training).numpy()

    np.testing.assert_array_equal(logits(False), logits(False))
    assert not np.allclose(logits(True), logits(True))


def test_a_closed_gate_hides_the_image() -> None:
    decoder = _decoder(gate=True)
    start = decoder.encode_features(FEATURES)
    state = tuple(tf.zeros_like(part) for part in start.state)

    def hidden(features: tf.Tensor) -> tf.Tensor:
        encoded = decoder.encode_features(features)._replace(state=state)
        return decoder(TOKEN_IDS, encoded)[0]

    assert np.abs(hidden(FEATURES) - hidden(-FEATURES)).max() > 1e-3
    decoder.context_gate.bias.assign(tf.fill([8], -100.0))
    np.testing.assert_allclose(hidden(FEATURES), hidden(-FEATURES), atol=1e-6)


@pytest.mark.parametrize("place", ["source_image", "source_word", "source_output"])
def test_an_auxiliary_source_changes_the_logits_of_its_images_alone(place: str) -> None:
    decoder = _decoder(auxiliary_sources=2, concepts=0.5)
    [vectors] = [weight for weight in decoder.weights if weight.name == place]
    vectors.assign([[0.0] * vectors.shape[1], [1.0] * vectors.shape[1]])

    def logits(source: list[int] | None) -> np.ndarray:
        encoded = decoder.encode_features(FEATURES, None if source is None else tf.constant(source))
        concepts = tuple(part[:, None] for part in encoded.concepts)
        of_words = tuple(tf.repeat(part[:, None], T, axis=1) for part in encoded.source)
        hidden, _ = decoder(TOKEN_IDS, encoded)
        return decoder.logits(hidden, concepts, of_words).numpy()

    target = logits(None)
    np.testing.assert_array_equal(logits([0, 1]), target)
    other = logits([0, 2])
    np.testing.assert_allclose(other[0], target[0], rtol=1e-6)
    assert np.abs(other[1] - target[1]).max() > 1e-3
