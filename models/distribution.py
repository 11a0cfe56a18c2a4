"""Replicas of a model that are trained together, on the devices of one machine or of several.

A batch is cut into parts of whole images, one for each replica: an image's features are still made
once for all of its captions, and every replica packs its own captions. Losses, tokens and gradients
are added up over all replicas before anything is divided or clipped, so that a step is the same
whatever the number of replicas.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfx_captioner.models.data_config import PAD_ID

Batch = dict[str, tf.Tensor]


def choose_strategy() -> tf.distribute.Strategy:
    """Chooses the strategy that uses all devices there are.

    Several workers where `TF_CONFIG` names them, as training operators of clusters do; all GPUs of
    the machine where there are several; else the one device.

    Raises:
      RuntimeError: There are several workers, but TensorFlow is in use in this process already.
    """
    cluster = json.loads(os.environ.get("TF_CONFIG") or "{}").get("cluster", {})
    if sum(len(cluster.get(job, ())) for job in ("chief", "worker")) > 1:
        try:
            return tf.distribute.MultiWorkerMirroredStrategy()
        except RuntimeError as error:
            raise RuntimeError(
                "`TF_CONFIG` names several workers. TensorFlow connects them only before it is "
                "used for anything else in a process, so the Trainer needs a process of its own, "
                f"as it has on Kubeflow. Received: TF_CONFIG={os.environ['TF_CONFIG']}."
            ) from error
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


class Replicas:
    """Replicas of a model.

    Example:

    ```python
    replicas = Replicas(choose_strategy())
    with replicas.scope():
        captioner = build_captioner(config, encoder, vocabulary.size)
    step = make_train_step(captioner, optimizer, 0.1, train.batch_spec, replicas)
    for parts in replicas.parts(train.epoch(batch_size=128)):
        loss_sum, tokens = step(*parts)
    ```

    Args:
      strategy: Strategy under whose scope the model is made; None is one replica.

    Attributes:
      count: Number of replicas, over all processes.
      local: Numbers of the replicas of this process.
      is_chief: Whether this process writes what is written once.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None):
        self._strategy = strategy or tf.distribute.get_strategy()
        self.count: int = self._strategy.num_replicas_in_sync
        numbers = self._strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(context.replica_id_in_sync_group)
        )
        self.local = [int(number) for number in self._strategy.experimental_local_results(numbers)]
        self.is_chief = self.local[0] == 0

        self._total = tf.function(
            lambda *values: self.run(add_up, values)[0],
            input_signature=[tf.TensorSpec([None], tf.float64)] * len(self.local),
            autograph=False,
        )

    def scope(self) -> Any:
        """Makes the context in which variables that all replicas share are created."""
        return self._strategy.scope()

    def run(self, function: Callable[..., Any], *arguments: Sequence[Any]) -> tuple[Any, ...]:
        """Runs a function once in each replica of this process. To be used in a graph.

        Args:
          function: Function of one replica's arguments, which returns tensors.
          *arguments: Values of each argument, one per replica of this process.

        Returns:
          Results of the function, one per replica of this process.
        """

        def in_replica() -> Any:
            number = tf.distribute.get_replica_context().replica_id_in_sync_group
            index = self.local.index(int(tf.get_static_value(number)))
            return function(*(values[index] for values in arguments))

        return self._strategy.experimental_local_results(self._strategy.run(in_replica))

    def total(self, values: Sequence[float]) -> np.ndarray:
        """Sums over all processes.

        Args:
          values: Summands of this process.

        Returns:
          Sums, float64, as many as `values`.
        """
        zeros = [[0.0] * len(values)] * (len(self.local) - 1)
        return self._total(values, *zeros).numpy()

    def wait(self) -> None:
        """Waits until all processes have come here."""
        self.total([0.0])

    def parts(self, data: tf.data.Dataset) -> Iterator[tuple[Batch, ...]]:
        """Cuts each batch into the parts that the replicas of this process take.

        Args:
          data: Batches from `CaptionData.epoch`.

        Returns:
          Per batch, one part for each replica of this process, each a batch by itself. Where a
          batch has too few images for all replicas, the rest get a stand-in for one: the part's
          `images` are none, its `inputs` are those of another image, and its caption is padding.
        """
        if self.count == 1:
            return ((batch,) for batch in data)

        def cut(batch: Batch) -> tuple[Batch, ...]:
            return tuple(_part(batch, replica, self.count) for replica in self.local)

        return iter(data.map(cut).prefetch(2))

    def diversify(self, seeds: Sequence[tuple[tf.Variable, int]]) -> None:
        """Lets random number generators differ between replicas, which all begin alike.

        Args:
          seeds: States of Keras's generators, int64 [2], each with the seed of the first replica.
        """

        def reseed(replica: int) -> None:
            for state, seed in seeds:
                state.assign(tf.stack([tf.constant(seed + replica, state.dtype), state[1]]))

        if self.count > 1 and seeds:
            tf.function(lambda: self.run(reseed, self.local), autograph=False)()


def add_up(values: Any) -> Any:
    """Sums over all replicas. To be used inside `Replicas.run`.

    Args:
      values: Nest of tensors of this replica.
    """
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    # A bare argument of a function is on no replica's device.
    values = tf.nest.map_structure(tf.identity, values)
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values)


class SummingAdamW(keras.optimizers.AdamW):
    """AdamW whose gradients are added up over all replicas before they are clipped.

    Keras clips those of each replica by themselves and adds them up afterwards, so that the same
    batch would take another step on two replicas than on one.

    Example:

    ```python
    optimizer = SummingAdamW(1e-3, global_clipnorm=5.0)
    optimizer.build(captioner.trainable_variables)
    optimizer.scale_steps(captioner.encoder.trainable_variables, 0.1)
    ```
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._factors: dict[str, float] = {}

    def scale_steps(self, variables: Sequence[keras.Variable], factor: float) -> None:
        """Gives some variables another learning rate; weight decay is as for the others.

        Args:
          variables: Variables whose learning rate is scaled.
          factor: Their learning rate over that of the others.
        """
        self._factors |= {self._var_key(variable): factor for variable in variables}

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        factor = self._factors.get(self._var_key(variable), 1.0)
        super().update_step(gradient, variable, learning_rate * factor)

    def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
        if tf.distribute.get_replica_context().num_replicas_in_sync > 1:
            # Sparse gradients would be gathered, row by row of every replica.
            grads = add_up([tf.convert_to_tensor(gradient) for gradient in grads])
        super().apply(grads, trainable_variables)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        """Keras's own sum, made in `apply` already."""
        return grads_and_vars


def _part(batch: Batch, replica: int, replicas: int) -> Batch:
    """The part of a batch that a replica takes: whole images, and their captions."""
    count = tf.size(batch["images"])
    begin, end = count * replica // replicas, count * (replica + 1) // replicas
    rows = (batch["image_index"] >= begin) & (batch["image_index"] < end)
    token_ids = tf.boolean_mask(batch["token_ids"], rows)
    image_index = tf.boolean_mask(batch["image_index"], rows) - begin
    longest = tf.reduce_max(tf.math.count_nonzero(token_ids != PAD_ID, axis=1, dtype=tf.int32))
    stand_in = tf.cast(begin == end, tf.int32)
    first = tf.minimum(begin, count - 1)
    return {
        "inputs": batch["inputs"][first : tf.maximum(end, first + 1)],
        "token_ids": tf.pad(token_ids[:, : tf.maximum(longest, 2)], [[0, stand_in], [0, 0]]),
        "image_index": tf.pad(image_index, [[0, stand_in]]),
        "images": batch["images"][begin:end],
        "source": batch["source"][first : tf.maximum(end, first + 1)],
    }
