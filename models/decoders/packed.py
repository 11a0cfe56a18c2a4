"""A recurrent layer over captions of unequal length, without the work that padding would be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf


def run_packed(
    cell: keras.layers.LSTMCell | keras.layers.GRUCell,
    inputs: tf.Tensor,
    state: Sequence[tf.Tensor],
    lengths: tf.Tensor,
) -> tf.Tensor:
    """Runs a recurrent cell over each row as far as the row goes.

    Captions of one batch differ in length by a factor of three, so stepping all of them to the end
    of the longest is mostly work on padding. Rows are sorted by falling length; each step then runs
    on those that are not over yet, as on PyTorch's packed sequences.

    Inputs are projected in one matrix product before the recurrence. Inside it, every step would
    add to a gradient as large as the weights.

    Args:
      cell: A built Keras cell with default activations; its weights are used.
      inputs: float [R, T, width].
      state: Initial state, each [R, units].
      lengths: int [R], at least 1 somewhere.

    Returns:
      float [R, T, units]; zero behind a row's length.
    """
    order = tf.argsort(lengths, direction="DESCENDING", stable=True)
    lengths = tf.gather(lengths, order)
    rows, steps = tf.shape(inputs)[0], tf.shape(inputs)[1]
    step_cell, projected = _project_inputs(cell, tf.gather(inputs, order))
    by_step = tf.TensorArray(inputs.dtype, steps).unstack(tf.transpose(projected, [1, 0, 2]))
    # Rows that are longer than each step.
    active = tf.reduce_sum(
        tf.cast(lengths[None] > tf.range(steps, dtype=lengths.dtype)[:, None], tf.int32), axis=1
    )
    outputs = tf.TensorArray(
        inputs.dtype, steps, element_shape=[None, state[0].shape[-1]], infer_shape=False
    )

    def advance(step: tf.Tensor, outputs: tf.TensorArray, state: tuple) -> tuple:
        count = active[step]
        state = step_cell(by_step.read(step)[:count], tuple(part[:count] for part in state))
        padded = tf.pad(state[0], [[0, rows - count], [0, 0]])
        return step + 1, outputs.write(step, padded), state

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


def _project_inputs(
    cell: keras.layers.LSTMCell | keras.layers.GRUCell, inputs: tf.Tensor
) -> tuple[Callable[[tf.Tensor, tuple], tuple], tf.Tensor]:
    """The part of a cell that does not depend on its state, and the function that is the rest."""
    recurrent_kernel = tf.convert_to_tensor(cell.recurrent_kernel)

    def lstm(projected: tf.Tensor, state: tuple) -> tuple:
        hidden, carry = state
        gates = projected + tf.matmul(hidden, recurrent_kernel)
        let_in, forget, candidate, let_out = tf.split(gates, 4, axis=1)
        carry = tf.sigmoid(forget) * carry + tf.sigmoid(let_in) * tf.tanh(candidate)
        return tf.sigmoid(let_out) * tf.tanh(carry), carry

    def gru(projected: tf.Tensor, state: tuple) -> tuple:
        [hidden] = state
        recurrent = tf.matmul(hidden, recurrent_kernel) + cell.bias[1]
        update, reset, candidate = tf.split(projected, 3, axis=1)
        recurrent_update, recurrent_reset, recurrent_candidate = tf.split(recurrent, 3, axis=1)
        update = tf.sigmoid(update + recurrent_update)
        candidate = tf.tanh(candidate + tf.sigmoid(reset + recurrent_reset) * recurrent_candidate)
        return (update * hidden + (1.0 - update) * candidate,)

    is_lstm = isinstance(cell, keras.layers.LSTMCell)
    bias = cell.bias if is_lstm else cell.bias[0]
    projected = tf.matmul(inputs, tf.convert_to_tensor(cell.kernel)) + bias
    return (lstm if is_lstm else gru), projected
