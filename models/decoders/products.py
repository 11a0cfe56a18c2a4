"""Products of two matrices, which is where a decoder's time goes.

With `dtype="bfloat16"` the factors are rounded for the product alone, and everything between the
products stays float32, as do the weights: processors with matrix units (AMX, tensor cores) multiply
such factors several times as fast.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras import ops


def matmul(one: Any, other: Any, dtype: str = "float32", **transposed: bool) -> Any:
    """Multiplies matrices; the product is float32.

    Args:
      one: First factor, float32 [..., M, K].
      other: Second factor, float32 [..., K, N].
      dtype: Type of the factors while they are multiplied.
      **transposed: Options `transpose_a` and `transpose_b` of `tf.matmul`.
    """
    product = tf.matmul(tf.cast(one, dtype), tf.cast(other, dtype), **transposed)
    return tf.cast(product, tf.float32)


def dense(layer: keras.layers.Dense, inputs: Any, dtype: str = "float32") -> Any:
    """Applies a Dense layer over [..., width] as one product of two matrices.

    Where one factor is a batch of matrices, TensorFlow makes the gradient of the weights once for
    each of them before it adds them up, which took half of a training step.

    Args:
      layer: A built layer.
      inputs: Inputs, float32 [..., width].
      dtype: Type of the factors while they are multiplied.
    """
    shape = ops.shape(inputs)
    outputs = matmul(ops.reshape(inputs, (-1, inputs.shape[-1])), layer.kernel, dtype)
    if layer.use_bias:
        outputs += layer.bias
    return ops.reshape(layer.activation(outputs), (*shape[:-1], layer.units))
