"""A recurrent layer over captions of unequal length, without the work that padding would be.

Captions of one batch differ in length by a factor of three, so stepping all of them to the end of
the longest is mostly work on padding. Rows are sorted by falling length; each step then runs on
those that are not over yet, as on PyTorch's packed sequences.

All matrix products that do not depend on the step before are made in one piece: the inputs are
projected before the recurrence, and the gradient of the recurrent weights, as large as the weights
themselves, is made once after it instead of being added to at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from tfx_captioner.models.decoders.products import matmul

State = tuple[tf.Tensor, ...]
# Projected inputs, recurrent projection of the hidden state, and state, of some rows; to new state.
Gates = Callable[[tf.Tensor, tf.Tensor, State], State]


class Packing(NamedTuple):
    """Layout of padded rows from which the padding is taken out, step after step.

    >>> packing = make_packing(lengths=tf.constant([1, 3]), steps=tf.constant(3))
    >>> packing.pack(tf.constant([[10, 0, 0], [20, 21, 22]])).numpy()
    array([20, 10, 21, 22], dtype=int32)

    Attributes:
      order: Rows by falling length, int32 [R].
      counts: Number of rows longer than each step, int32 [T].
      starts: Number of positions before each step, int32 [T].
      indices: Row and step of each packed position, int32 [P, 2].
      shape: R and T, int32 [2].
    """

    order: tf.Tensor
    counts: tf.Tensor
    starts: tf.Tensor
    indices: tf.Tensor
    shape: tf.Tensor

    def pack(self, padded: tf.Tensor) -> tf.Tensor:
        """Takes the padding out.

        Args:
          padded: Padded rows, [R, T, ...].

        Returns:
          Positions in packed order, [P, ...].
        """
        return tf.gather_nd(padded, self.indices)

    def unpack(self, packed: tf.Tensor) -> tf.Tensor:
        """Puts padding in again.

        Args:
          packed: Positions in packed order, [P, width].

        Returns:
          Padded rows, [R, T, width], zero on padding.
        """
        shape = tf.concat([self.shape, tf.shape(packed)[1:]], 0)
        padded = tf.scatter_nd(self.indices, packed, shape)
        padded.set_shape([None, None, packed.shape[-1]])
        return padded


def make_packing(lengths: tf.Tensor, steps: tf.Tensor) -> Packing:
    """Makes the packing of rows of some lengths.

    Args:
      lengths: Length of each row, int32 [R].
      steps: Number of steps T, int32 scalar, at least the greatest length.
    """
    order = tf.argsort(lengths, direction="DESCENDING", stable=True)
    is_real = tf.range(steps)[:, None] < tf.gather(lengths, order)
    step_and_rank = tf.cast(tf.where(is_real), tf.int32)
    rows = tf.gather(order, step_and_rank[:, 1])
    counts = tf.reduce_sum(tf.cast(is_real, tf.int32), axis=1)
    return Packing(
        order=order,
        counts=counts,
        starts=tf.cumsum(counts, exclusive=True),
        indices=tf.stack([rows, step_and_rank[:, 0]], axis=1),
        shape=tf.stack([tf.size(lengths), steps]),
    )


def run_packed(
    cell: keras.layers.LSTMCell | keras.layers.GRUCell,
    inputs: tf.Tensor,
    state: Sequence[tf.Tensor],
    packing: Packing,
    dtype: str = "float32",
    training: bool = False,
) -> tf.Tensor:
    """Runs a recurrent cell over each row as far as the row goes.

    Args:
      cell: A built Keras cell with default activations; its weights are used.
      inputs: Packed inputs, float [P, width].
      state: Initial state, each [R, units].
      packing: Packing of the rows; the first step holds all of them or none of a row is read.
      dtype: Type of the factors of matrix products, see `models.decoders.products`.
      training: Whether the gradient is the one made here, which is fast, or TensorFlow's own:
        a graph that is exported shall hold no gradient that is written by hand.

    Returns:
      Packed outputs, float [P, units].
    """
    projected = matmul(inputs, tf.convert_to_tensor(cell.kernel), dtype)
    bias = tf.convert_to_tensor(cell.bias)
    if isinstance(cell, keras.layers.LSTMCell):
        gates = _lstm_gates
    else:
        gates = _gru_gates
        input_bias, bias = tf.unstack(bias)
        projected += input_bias
    started = tf.gather(packing.order, tf.range(packing.counts[0]))
    return _recur(
        gates,
        packing,
        projected,
        tf.convert_to_tensor(cell.recurrent_kernel),
        bias,
        tuple(tf.gather(part, started) for part in state),
        dtype,
        training,
    )


def _recur(
    gates: Gates,
    packing: Packing,
    projected: tf.Tensor,
    kernel: tf.Tensor,
    bias: tf.Tensor,
    state: State,
    dtype: str,
    training: bool,
) -> tf.Tensor:
    """The recurrence; in training with a gradient that keeps matrix products out of its loop."""
    counts, starts = packing.counts, packing.starts
    steps = tf.size(counts)
    unknown_rows = tuple(tf.TensorShape([None, part.shape[-1]]) for part in state)

    def at(packed: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        return packed[starts[step] : starts[step] + counts[step]]

    def series(width: int) -> tf.TensorArray:
        return tf.TensorArray(
            projected.dtype, steps, element_shape=[None, width], infer_shape=False
        )

    def recurrence(
        projected: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, *state: tf.Tensor
    ) -> tuple[tf.Tensor, Callable]:
        def forward(step: tf.Tensor, kept: tuple, state: State) -> tuple:
            state = tuple(part[: counts[step]] for part in state)
            recurrent = matmul(state[0], kernel, dtype) + bias
            new = gates(at(projected, step), recurrent, state)
            values = (recurrent, new[0], *state)
            kept = tuple(all_.write(step, one) for all_, one in zip(kept, values, strict=True))
            return step + 1, kept, new

        widths = [bias.shape[0], *(part.shape[-1] for part in (state[0], *state))]
        kept = tuple(series(width) for width in widths)
        _, kept, _ = tf.while_loop(
            lambda step, *_: step < steps,
            forward,
            (tf.constant(0), kept, state),
            shape_invariants=(
                tf.TensorShape([]),
                tuple(tf.TensorShape(None) for _ in kept),
                unknown_rows,
            ),
        )
        recurrent, outputs, *before = (part.concat() for part in kept)

        def gradient(d_outputs: tf.Tensor) -> tuple:
            def backward(step: tf.Tensor, kept: tuple, d_state: State) -> tuple:
                missing = counts[step] - tf.shape(d_state[0])[0]
                d_state = tuple(tf.pad(part, [[0, missing], [0, 0]]) for part in d_state)
                d_new = (d_state[0] + at(d_outputs, step), *d_state[1:])
                sources = [at(part, step) for part in (projected, recurrent, *before)]
                with tf.GradientTape() as tape:
                    tape.watch(sources)
                    new = gates(sources[0], sources[1], tuple(sources[2:]))
                d_projected, d_recurrent, *d_before = tape.gradient(
                    new, sources, d_new, unconnected_gradients=tf.UnconnectedGradients.ZERO
                )
                d_before[0] += matmul(d_recurrent, kernel, dtype, transpose_b=True)
                kept = (kept[0].write(step, d_projected), kept[1].write(step, d_recurrent))
                return step - 1, kept, tuple(d_before)

            nothing = tuple(tf.zeros_like(part[:0]) for part in state)
            width = bias.shape[0]
            _, kept, d_state = tf.while_loop(
                lambda step, *_: step >= 0,
                backward,
                (steps - 1, (series(width), series(width)), nothing),
                shape_invariants=(
                    tf.TensorShape([]),
                    (tf.TensorShape(None), tf.TensorShape(None)),
                    unknown_rows,
                ),
            )
            d_projected, d_recurrent = (part.concat() for part in kept)
            d_kernel = matmul(before[0], d_recurrent, dtype, transpose_a=True)
            return d_projected, d_kernel, tf.reduce_sum(d_recurrent, axis=0), *d_state

        return outputs, gradient

    if training:
        outputs = tf.custom_gradient(recurrence)(projected, kernel, bias, *state)
    else:
        outputs, _ = recurrence(projected, kernel, bias, *state)
    outputs.set_shape([None, state[0].shape[-1]])
    return outputs


def _lstm_gates(projected: tf.Tensor, recurrent: tf.Tensor, state: State) -> State:
    _, carry = state
    let_in, forget, candidate, let_out = tf.split(projected + recurrent, 4, axis=1)
    carry = tf.sigmoid(forget) * carry + tf.sigmoid(let_in) * tf.tanh(candidate)
    return tf.sigmoid(let_out) * tf.tanh(carry), carry


def _gru_gates(projected: tf.Tensor, recurrent: tf.Tensor, state: State) -> State:
    [hidden] = state
    update, reset, candidate = tf.split(projected, 3, axis=1)
    recurrent_update, recurrent_reset, recurrent_candidate = tf.split(recurrent, 3, axis=1)
    update = tf.sigmoid(update + recurrent_update)
    candidate = tf.tanh(candidate + tf.sigmoid(reset + recurrent_reset) * recurrent_candidate)
    return (update * hidden + (1.0 - update) * candidate,)
