"""Helpers of the model tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture(scope="session")
def run_layer_test() -> Callable[..., None]:
    """One check for every layer of ours, in the manner of KerasHub's `TestCase.run_layer_test`."""
    return _run_layer_test


def _run_layer_test(
    layer_class: type[keras.layers.Layer],
    init_kwargs: dict[str, Any],
    call: Callable[[keras.layers.Layer], Any],
    build_shapes: tuple[tuple, ...],
    expected_shapes: list[tuple[int, ...]],
    expected_weights: int,
) -> None:
    """Checks a layer's configuration, weights, eager and graph results, and gradients.

    Args:
      layer_class: The layer.
      init_kwargs: Arguments of its constructor.
      call: Uses the layer on fixed inputs; returns a nest of tensors.
      build_shapes: Arguments of `build`.
      expected_shapes: Shapes of what `call` returns, flat.
      expected_weights: Number of trainable weight tensors.
    """
    layer = layer_class(**init_kwargs)
    for name, value in init_kwargs.items():
        assert layer.get_config()[name] == value, f"{name} is not in the configuration"
    layer.build(*build_shapes)
    assert len(layer.trainable_weights) == expected_weights

    eager = tf.nest.flatten(call(layer))
    assert [tuple(output.shape) for output in eager] == expected_shapes
    graph = tf.nest.flatten(tf.function(lambda: call(layer))())
    for one, other in zip(eager, graph, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is layer_class
    assert copy.built
    copy.set_weights(layer.get_weights())
    for one, other in zip(eager, tf.nest.flatten(call(copy)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_sum(output**2) for output in tf.nest.flatten(call(layer)))
    gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
    missing = [
        weight.path
        for weight, gradient in zip(layer.trainable_weights, gradients, strict=True)
        if gradient is None
    ]
    assert not missing, f"no gradient reaches {missing}"
