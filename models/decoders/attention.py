"""Attention of a decoder over the grid of image features.

Both kinds share one interface: `project` prepares the grid once per image, `project_query` the
queries, and `call` takes any number of them at a time. All words of a caption are attended in one
call while training; while decoding, all hypotheses of an image are.

`dtype` is the type of the factors of matrix products, see `models.decoders.products`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfx_captioner.models.decoders.products import dense, matmul


class GridAttention(keras.layers.Layer):
    """Keys, values and queries, which all kinds of attention over a grid have in common.

    Example:

    ```python
    attention = DotProductAttention(units=512, num_heads=4)
    attention.build((None, None, 512), (None, None, 512))
    keys, values = attention.project(grid)  # [N, positions, 512]
    context, weights = attention(attention.project_query(outputs), keys, values)
    ```

    Args:
      units: Width of keys, values, queries and context.
    """

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units
        self.key_projection = keras.layers.Dense(units, name="key")
        self.value_projection = keras.layers.Dense(units, name="value")
        self.query_projection = keras.layers.Dense(units, name="query")

    def build(self, query_shape: tuple, grid_shape: tuple) -> None:
        self.key_projection.build(grid_shape)
        self.value_projection.build(grid_shape)
        self.query_projection.build(query_shape)

    def project(self, grid: Any, dtype: str = "float32") -> tuple[Any, Any]:
        """Keys and values of a grid [N, positions, channels], as `call` takes them."""
        keys = dense(self.key_projection, grid, dtype)
        return keys, dense(self.value_projection, grid, dtype)

    def project_query(self, query: Any, dtype: str = "float32") -> Any:
        """Queries, float [..., units], as `call` takes them."""
        return dense(self.query_projection, query, dtype)

    def call(
        self, projected: Any, keys: Any, values: Any, dtype: str = "float32"
    ) -> tuple[Any, Any]:
        """Attends the grid.

        Args:
          projected: Queries from `project_query`, [N, T, units].
          keys: Keys from `project`.
          values: Values from `project`.
          dtype: Type of the factors of matrix products.

        Returns:
          Context, [N, T, units], and weights over the grid, [N, T, positions], averaged over heads.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("captioner")
class AdditiveAttention(GridAttention):
    """Attention by a small network on query and grid position.

    Reference: Bahdanau et al. (2015), https://arxiv.org/abs/1409.0473; over an image in
    Xu et al. (2015), https://arxiv.org/abs/1502.03044.

    >>> attention = AdditiveAttention(units=512)

    Args:
      units: Width of the network and of the context.
    """

    def build(self, query_shape: tuple, grid_shape: tuple) -> None:
        super().build(query_shape, grid_shape)
        self.score = self.add_weight(
            shape=(self.units,), initializer="glorot_uniform", name="score"
        )

    def call(
        self, projected: Any, keys: Any, values: Any, dtype: str = "float32"
    ) -> tuple[Any, Any]:
        joint = ops.tanh(ops.expand_dims(projected, 2) + ops.expand_dims(keys, 1))
        # Not a Dense of one unit: the matrix product of one column that TensorFlow 2.16 with oneDNN
        # makes of it in greedy search writes outside its memory.
        weights = ops.softmax(ops.sum(joint * self.score, axis=-1), axis=-1)
        return matmul(weights, values, dtype), weights


@keras.saving.register_keras_serializable("captioner")
class DotProductAttention(GridAttention):
    """Multi-head scaled dot-product attention.

    Reference: Vaswani et al. (2017), https://arxiv.org/abs/1706.03762.

    >>> attention = DotProductAttention(units=512, num_heads=4)

    Args:
      units: Width of the context, over all heads.
      num_heads: Number of heads; must divide `units`.
    """

    def __init__(self, units: int, num_heads: int = 1, **kwargs: Any):
        if units % num_heads:
            raise ValueError(
                f"`num_heads` must divide `units`. Received: num_heads={num_heads}, units={units}."
            )
        super().__init__(units, **kwargs)
        self.num_heads = num_heads

    def project(self, grid: Any, dtype: str = "float32") -> tuple[Any, Any]:
        keys, values = super().project(grid, dtype)
        return self._split(keys), self._split(values)

    def call(
        self, projected: Any, keys: Any, values: Any, dtype: str = "float32"
    ) -> tuple[Any, Any]:
        queries = self._split(projected)
        scale = (self.units // self.num_heads) ** -0.5
        scores = matmul(queries, keys, dtype, transpose_b=True) * scale
        weights = ops.softmax(scores, axis=-1)
        context = ops.swapaxes(matmul(weights, values, dtype), 1, 2)
        context = ops.reshape(context, (*ops.shape(projected)[:2], self.units))
        return context, ops.mean(weights, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_heads": self.num_heads}

    def _split(self, x: Any) -> Any:
        """[N, T, units] to [N, heads, T, units / heads]."""
        heads = (*ops.shape(x)[:2], self.num_heads, self.units // self.num_heads)
        return ops.swapaxes(ops.reshape(x, heads), 1, 2)
