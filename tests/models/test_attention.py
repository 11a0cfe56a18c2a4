"""Attention over the grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfx_captioner.models.decoders.attention import AdditiveAttention, DotProductAttention

N, T, POSITIONS, CHANNELS, UNITS = 2, 3, 5, 6, 8


def _inputs() -> tuple[tf.Tensor, tf.Tensor]:
    rng = np.random.default_rng(0)
    query = rng.normal(size=(N, T, UNITS)).astype("float32")
    return tf.constant(query), tf.constant(rng.normal(size=(N, POSITIONS, CHANNELS)), tf.float32)


@pytest.mark.parametrize(
    ("layer_class", "init_kwargs", "weights"),
    [
        (AdditiveAttention, {"units": UNITS}, 7),
        (DotProductAttention, {"units": UNITS, "num_heads": 1}, 6),
        (DotProductAttention, {"units": UNITS, "num_heads": 4}, 6),
    ],
)
def test_layer(
    run_layer_test: Callable[..., None],
    layer_class: type,
    init_kwargs: dict[str, Any],
    weights: int,
) -> None:
    query, grid = _inputs()
    run_layer_test(
        layer_class,
        init_kwargs,
        call=lambda layer: layer(layer.project_query(query), *layer.project(grid)),
        build_shapes=((None, None, UNITS), (None, POSITIONS, CHANNELS)),
        expected_shapes=[(N, T, UNITS), (N, T, POSITIONS)],
        expected_weights=weights,
    )


@pytest.mark.parametrize("attention", [AdditiveAttention(UNITS), DotProductAttention(UNITS, 2)])
def test_weights_are_a_distribution_over_the_grid(attention: keras.layers.Layer) -> None:
    query, grid = _inputs()
    attention.build(query.shape, grid.shape)
    _, weights = attention(attention.project_query(query), *attention.project(grid))
    np.testing.assert_allclose(tf.reduce_sum(weights, axis=-1), np.ones((N, T)), rtol=1e-5)
    assert (weights.numpy() >= 0).all()


def test_dot_product_of_one_head_by_hand() -> None:
    attention = DotProductAttention(units=2)
    attention.build((None, None, 2), (None, 2, 2))
    identity, zeros = np.eye(2), np.zeros(2)
    attention.set_weights([identity, zeros] * 3)
    grid = tf.constant([[[1.0, 0.0], [0.0, 3.0]]])
    query = attention.project_query(tf.constant([[[2.0, 0.0]]]))
    context, weights = attention(query, *attention.project(grid))
    first = np.exp(2 / np.sqrt(2)) / (np.exp(2 / np.sqrt(2)) + 1)
    np.testing.assert_allclose(weights, [[[first, 1 - first]]], rtol=1e-6)
    np.testing.assert_allclose(context, [[[first, 3 * (1 - first)]]], rtol=1e-6)


def test_heads_must_divide_units() -> None:
    with pytest.raises(ValueError, match=r"must divide `units`\. Received: num_heads=3, units=8"):
        DotProductAttention(units=8, num_heads=3)
