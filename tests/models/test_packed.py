"""The packed recurrence against Keras's own layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfx_captioner.models.decoders.packed import make_packing, run_packed

LENGTHS = tf.constant([2, 6, 1, 4])
STEPS = 7


def test_packing_and_unpacking() -> None:
    packing = make_packing(LENGTHS, tf.constant(STEPS))
    padded = tf.random.normal([4, STEPS, 3])
    packed = packing.pack(padded)
    assert packed.shape == (13, 3)
    np.testing.assert_array_equal(packing.counts, [4, 3, 2, 2, 1, 1, 0])
    # Step after step, the longest row first.
    np.testing.assert_array_equal(packed[:4], tf.gather(padded[:, 0], [1, 3, 0, 2]))
    is_real = tf.range(STEPS) < LENGTHS[:, None]
    np.testing.assert_array_equal(packing.unpack(packed), tf.where(is_real[..., None], padded, 0.0))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_values_and_gradients_are_those_of_the_keras_layer(cell: str, training: bool) -> None:
    keras.utils.set_random_seed(0)
    layer_class = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell]
    layer = layer_class(8, return_sequences=True, bias_initializer="random_normal")
    layer.build((None, None, 3))
    inputs = tf.random.normal([4, STEPS, 3])
    state = [tf.random.normal([4, 8]) for _ in range(2 if cell == "lstm" else 1)]
    weights = [weight.value for weight in layer.trainable_variables]
    # Different at every output, so that no mistake cancels out.
    target = tf.random.normal([4, STEPS, 8])
    is_real = tf.cast(tf.range(STEPS) < LENGTHS[:, None], tf.float32)[..., None]

    def packed() -> tf.Tensor:
        packing = make_packing(LENGTHS, tf.constant(STEPS))
        outputs = run_packed(layer.cell, packing.pack(inputs), state, packing, training=training)
        return packing.unpack(outputs)

    def padded() -> tf.Tensor:
        return layer(inputs, initial_state=state) * is_real

    results = []
    for run in (packed, padded):

        def with_gradients(run=run) -> tuple[tf.Tensor, list[tf.Tensor]]:
            sources = [inputs, *state, *weights]
            with tf.GradientTape() as tape:
                tape.watch(sources)
                outputs = run()
                loss = tf.reduce_sum(outputs * target)
            gradients = tape.gradient(loss, sources)
            return outputs, [tf.convert_to_tensor(gradient) for gradient in gradients]

        results.append(tf.function(with_gradients)())
    (outputs, gradients), (expected, expected_gradients) = results
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lengths", [[], [0, 0], [3, 0]])
def test_rows_without_words(lengths: list[int]) -> None:
    cell = keras.layers.GRUCell(8)
    cell.build((None, 3))
    rows = len(lengths)
    packing = make_packing(tf.constant(lengths, tf.int32), tf.constant(STEPS))
    inputs = packing.pack(tf.ones([rows, STEPS, 3]))
    outputs = packing.unpack(run_packed(cell, inputs, [tf.ones([rows, 8])], packing))
    assert outputs.shape == (rows, STEPS, 8)
    np.testing.assert_array_equal(np.any(outputs, axis=(1, 2)), [n > 0 for n in lengths])
