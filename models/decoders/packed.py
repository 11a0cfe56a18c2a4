"""A recurrent layer over captions of unequal length, without the work that padding would be."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf


def run_packed(
    cell: keras.layers.Layer,
    inputs: tf.Tensor,
    state: Sequence[tf.Tensor],
    lengths: tf.Tensor,
) -> tf.Tensor:
    """Runs a recurrent cell over each row as far as the row goes.

    Captions of one batch differ in length by a factor of three, so stepping all of them to the end
    of the longest is mostly work on padding. Rows are sorted by falling length; each step then runs
    on those that are not over yet, as on PyTorch's packed sequences.

    Args:
      cell: A built Keras cell, such as `keras.layers.LSTMCell`.
      inputs: float [R, T, width].
      state: Initial state, each [R, units].
      lengths: int [R], at least 1 somewhere.

    Returns:
      float [R, T, units]; zero behind a row's length.
    """
    order = tf.argsort(lengths, direction="DESCENDING", stable=True)
    lengths = tf.gather(lengths, order)
    rows, steps = tf.shape(inputs)[0], tf.shape(inputs)[1]
    by_step = tf.transpose(tf.gather(inputs, order), [1, 0, 2])
    # Rows that are longer than each step.
    active = tf.reduce_sum(
        tf.cast(lengths[None] > tf.range(steps, dtype=lengths.dtype)[:, None], tf.int32), axis=1
    )
    outputs = tf.TensorArray(
        inputs.dtype, steps, element_shape=[None, state[0].shape[-1]], infer_shape=False
    )

    def advance(step: tf.Tensor, outputs: tf.TensorArray, state: tuple) -> tuple:
        count = active[step]
        output, state = cell(by_step[step, :count], [part[:count] for part in state])
        padded = tf.pad(output, [[0, rows - count], [0, 0]])
        return step + 1, outputs.write(step, padded), tuple(state)

    start = (tf.constant(0), outputs, tuple(tf.gather(part, order) for part in state))
    unknown_rows = tuple(tf.TensorShape([None, part.shape[-1]]) for part in state)
    _, outputs, _ = tf.while_loop(
        lambda step, *_: step < steps,
        advance,
        start,
        shape_invariants=(tf.TensorShape([]), tf.TensorShape(None), unknown_rows),
    )
    by_row = tf.transpose(outputs.stack(), [1, 0, 2])
    by_row.set_shape([None, None, state[0].shape[-1]])
    return tf.gather(by_row, tf.argsort(order))
