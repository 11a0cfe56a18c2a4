"""Products of two matrices, which is where a decoder's time goes.

With `dtype="bfloat16"` the operands are rounded for the product alone, and everything between the
products stays float32, as do the weights: processors with instructions for it (AVX512_BF16, AMX)
and tensor cores multiply such operands up to several times as fast.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import keras
import tensorflow as tf
from keras import ops

# Rows, width and columns of the measured product: the output layer of a batch of captions.
_MEASURED_SHAPE = (1024, 256, 4096)
_ROUNDS = 9
# Less is not worth the rounding.
_WORTHWHILE_SPEEDUP = 1.2


def fastest_dtype() -> tuple[str, float]:
    """Measures which operands this machine multiplies faster, in a fraction of a second.

    Both types are timed in turns, so that other work on the machine slows both down.

    Returns:
      "bfloat16" or "float32", and how many times as fast bfloat16 is, casts included.
    """
    rows, width, columns = _MEASURED_SHAPE
    operands = (
        tf.random.stateless_normal((rows, width), (0, 0)),
        tf.random.stateless_normal((width, columns), (0, 1)),
    )
    products = {
        dtype: tf.function(lambda one, other, d=dtype: matmul(one, other, d), autograph=False)
        for dtype in ("float32", "bfloat16")
    }
    seconds: dict[str, list[float]] = {dtype: [] for dtype in products}
    for number in range(_ROUNDS + 1):
        for dtype, product in products.items():
            began = time.perf_counter()
            product(*operands).numpy()
            if number:  # the first call traces
                seconds[dtype].append(time.perf_counter() - began)
    speedup = statistics.median(
        wide / narrow for wide, narrow in zip(*seconds.values(), strict=True)
    )
    return ("bfloat16" if speedup >= _WORTHWHILE_SPEEDUP else "float32"), speedup


def matmul(one: Any, other: Any, dtype: str = "float32", **transposed: bool) -> Any:
    """Multiplies matrices; the product is float32.

    Args:
      one: First operand, float32 [..., M, K].
      other: Second operand, float32 [..., K, N].
      dtype: Type of the operands while they are multiplied.
      **transposed: Options `transpose_a` and `transpose_b` of `tf.matmul`.
    """
    product = tf.matmul(tf.cast(one, dtype), tf.cast(other, dtype), **transposed)
    return tf.cast(product, tf.float32)


def dense(layer: keras.layers.Dense, inputs: Any, dtype: str = "float32") -> Any:
    """Applies a Dense layer over [..., width] as one product of two matrices.

    Where one operand is a batch of matrices, TensorFlow makes the gradient of the weights once for
    each of them before it adds them up, which took half of a training step.

    Args:
      layer: A built layer.
      inputs: Inputs, float32 [..., width].
      dtype: Type of the operands while they are multiplied.
    """
    shape = ops.shape(inputs)
    outputs = matmul(ops.reshape(inputs, (-1, inputs.shape[-1])), layer.kernel, dtype)
    if layer.use_bias:
        outputs += layer.bias
    return ops.reshape(layer.activation(outputs), (*shape[:-1], layer.units))
