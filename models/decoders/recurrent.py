"""The recurrent caption decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfx_captioner.models.config import DecoderConfig
from tfx_captioner.models.data_config import PAD_ID
from tfx_captioner.models.decoders.attention import AdditiveAttention, DotProductAttention
from tfx_captioner.models.decoders.packed import make_packing, run_packed
from tfx_captioner.models.decoders.products import dense, matmul


class Memory(NamedTuple):
    """What a decoder keeps of an image; made once per image.

    Attributes:
      state: Initial recurrent state, a tuple of [N, units].
      grid: Keys and values of the attention over the grid; empty without attention.
      concepts: Logits of each word being said of the image, one [N, vocabulary_size]; empty without
        concepts.
      source: Number of the foreign source of each image while training, one int [N]; empty if all
        are home.
    """

    state: tuple[Any, ...]
    grid: tuple[Any, ...]
    concepts: tuple[Any, ...] = ()
    source: tuple[Any, ...] = ()


# Where a foreign source has a vector.
_IMAGE, _WORD, _OUTPUT = range(3)


@keras.saving.register_keras_serializable("captioner")
class RecurrentDecoder(keras.layers.Layer):
    """LSTM or GRU over words, conditioned on a grid of image features.

    The recurrent state starts from the mean of the features. With attention, the output of the
    recurrent layer at each word is the query, and context and output together give the next word
    (Luong et al., 2015, https://arxiv.org/abs/1508.04025). As no context is fed back into the
    recurrence, a whole caption runs through the recurrent layer first and is attended in one
    matrix product while training.

    Args:
      vocabulary_size: Number of token ids.
      cell: "lstm" or "gru".
      units: Width of the recurrent state and of the attention.
      embedding_dim: Width of the word embeddings.
      attention: "none", "additive" or "dot_product".
      attention_heads: Heads of the dot-product attention.
      gate: Whether each word decides, channel by channel, how much of what it sees in the image
        counts; words such as "of" need nothing of it (Xu et al., 2015, section 4.2.1,
        https://arxiv.org/abs/1502.03044). Attention weights still sum to one.
      layer_norm: Whether recurrent output and context are normalised before the output layers.
      concepts: Weight of the concept loss. Where it is positive, a linear layer tells from the mean
        features which words are said of the image at all, in any order (as in Fang et al., 2015,
        https://arxiv.org/abs/1411.4952), and its logits, scaled by a learned factor, are added to
        those of each word: the short road from what is seen to what is said.
      foreign_sources: Number of data sets whose captions are written in another manner than those
        that are wanted. Each has vectors of its own that are added to the image, to every word and
        to every output while training; where no source is told, nothing is added.
      tie_embeddings: Whether the output weights are the word embeddings.
      dropout: Share of features, word embeddings and outputs dropped while training.
    """

    def __init__(
        self,
        vocabulary_size: int,
        cell: str = "gru",
        units: int = 512,
        embedding_dim: int = 256,
        attention: str = "dot_product",
        attention_heads: int = 4,
        gate: bool = False,
        layer_norm: bool = False,
        concepts: float = 0.0,
        foreign_sources: int = 0,
        tie_embeddings: bool = True,
        dropout: float = 0.5,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.vocabulary_size = vocabulary_size
        self.cell = cell
        self.units = units
        self.embedding_dim = embedding_dim
        self.attention = attention
        self.attention_heads = attention_heads
        self.gate = gate
        self.layer_norm = layer_norm
        self.concepts = concepts
        self.foreign_sources = foreign_sources
        self.tie_embeddings = tie_embeddings
        self.dropout = dropout
        # Of the factors of matrix products while training; `CaptionerTraining` sets it.
        self.training_dtype = "float32"

        # Scale and offset would be absorbed by the projection, and their gradients cost a third.
        self.feature_norm = keras.layers.LayerNormalization(
            center=False, scale=False, name="feature_norm"
        )
        self.feature_projection = keras.layers.Dense(units, activation="relu", name="features")
        # Of unit variance once scaled as input, and of unit norm as output weights (Vaswani et al.,
        # 2017, section 3.4). With the far smaller default the first epochs learn next to nothing.
        self.embedding = keras.layers.Embedding(
            vocabulary_size,
            embedding_dim,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=embedding_dim**-0.5),
            name="embedding",
        )
        recurrent = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell]
        self.recurrent = recurrent(units, return_sequences=True, name=cell)
        self.initial_state = [
            keras.layers.Dense(units, activation="tanh", name=f"state_{index}")
            for index in range(2 if cell == "lstm" else 1)
        ]
        self.grid_attention = {
            "none": lambda: None,
            "additive": lambda: AdditiveAttention(units, name="attention"),
            "dot_product": lambda: DotProductAttention(units, attention_heads, name="attention"),
        }[attention]()
        self.context_gate = (
            keras.layers.Dense(units, activation="sigmoid", name="gate")
            if gate and attention != "none"
            else None
        )
        self.output_norm = (
            keras.layers.LayerNormalization(name="output_norm") if layer_norm else None
        )
        self.output_projection = keras.layers.Dense(
            embedding_dim, activation="tanh", name="output_projection"
        )
        self.concept_layer = (
            # Nearly all words are not said of an image.
            keras.layers.Dense(
                vocabulary_size,
                bias_initializer=keras.initializers.Constant(-5.0),
                name="concepts",
            )
            if concepts
            else None
        )
        self.output_layer = (
            None if tie_embeddings else keras.layers.Dense(vocabulary_size, name="output")
        )
        self.feature_dropout = keras.layers.Dropout(dropout, name="feature_dropout")
        self.embedding_dropout = keras.layers.Dropout(dropout, name="embedding_dropout")
        self.output_dropout = keras.layers.Dropout(dropout, name="output_dropout")

    @classmethod
    def from_settings(cls, config: DecoderConfig, vocabulary_size: int) -> RecurrentDecoder:
        """A decoder as configured.

        Args:
          config: The settings.
          vocabulary_size: Number of token ids.
        """
        return cls(
            vocabulary_size=vocabulary_size,
            cell=config.cell,
            units=config.units,
            embedding_dim=config.embedding_dim,
            attention=config.attention,
            attention_heads=config.attention_heads,
            gate=config.gate,
            layer_norm=config.layer_norm,
            concepts=config.concepts,
            foreign_sources=len(config.foreign_sources),
            tie_embeddings=config.tie_embeddings,
            dropout=config.dropout,
            name="decoder",
        )

    def build(self, token_ids_shape: tuple, features_shape: tuple) -> None:
        words = (None, None, self.embedding_dim)
        states = (None, None, self.units)
        self.feature_norm.build(features_shape)
        self.feature_projection.build(features_shape)
        self.embedding.build(token_ids_shape)
        self.recurrent.build(words)
        for layer in self.initial_state:
            layer.build((None, self.units))
        combined = self.units
        if self.grid_attention is not None:
            self.grid_attention.build(states, states)
            combined *= 2
        if self.context_gate is not None:
            self.context_gate.build(states)
        if self.output_norm is not None:
            self.output_norm.build((None, None, combined))
        if self.concept_layer is not None:
            self.concept_layer.build((None, self.units))
            self.concept_scale = self.add_weight(
                shape=(), initializer=keras.initializers.Constant(0.5), name="concept_scale"
            )
        self.output_projection.build((None, None, combined))
        if self.output_layer is not None:
            self.output_layer.build((None, self.embedding_dim))
        else:
            self.output_bias = self.add_weight(
                shape=(self.vocabulary_size,), initializer="zeros", name="output_bias"
            )
        if self.foreign_sources:
            self.of_source = [
                self.add_weight(
                    shape=(self.foreign_sources, width), initializer="zeros", name=f"source_{name}"
                )
                for name, width in (
                    ("image", self.units),
                    ("word", self.embedding_dim),
                    ("output", self.embedding_dim),
                )
            ]
        self.built = True

    def start_from(self, vectors: Mapping[int, np.ndarray]) -> None:
        """Sets word embeddings to known word vectors.

        A vector fills the first dimensions of its word's embedding, scaled to the length that
        embeddings start with; further dimensions and other words keep what they have.

        Args:
          vectors: float [d] by token id, with d at most `embedding_dim`.
        """
        table = self.embedding.embeddings.numpy()
        ids = sorted(vectors)
        known = np.stack([vectors[token] for token in ids]).astype(np.float32)
        known -= known.mean(axis=0)
        width = known.shape[1]
        known *= self.embedding_dim**-0.5 / known.std()
        table[ids, :width] = known
        self.embedding.embeddings.assign(table)

    def remember(self, features: Any, source: Any = None, training: bool = False) -> Memory:
        """Prepares images for decoding.

        Args:
          features: float [N, positions, channels].
          source: int [N], from 1 for the foreign source of each image, 0 for home; None if all are
            home.
          training: Whether dropout is on.
        """
        if self.grid_attention is None:
            # Nothing looks at single positions, so one vector of the image is enough.
            features = ops.mean(features, axis=1, keepdims=True)
        dtype = self._dtype_of_products(training)
        grid = dense(self.feature_projection, self.feature_norm(features), dtype)
        grid = self.feature_dropout(grid, training=training)
        foreign = () if source is None or not self.foreign_sources else (source,)
        mean = self._add_source(ops.mean(grid, axis=1), _IMAGE, foreign)
        state = tuple(layer(mean) for layer in self.initial_state)
        keys_and_values: tuple[Any, ...] = ()
        if self.grid_attention is not None:
            keys_and_values = tuple(self.grid_attention.project(grid, dtype))
        concepts: tuple[Any, ...] = ()
        if self.concept_layer is not None:
            concepts = (dense(self.concept_layer, mean, dtype),)
        return Memory(state, keys_and_values, concepts, foreign)

    def call(self, token_ids: Any, memory: Memory, training: bool = False) -> tuple[Any, Any]:
        """Teacher forcing: all words of all captions at once.

        Args:
          token_ids: int [R, T], start first. What follows the end of a caption has no influence on
            what comes before it, so padding needs no mask.
          memory: Of the image of each row, leading dimension R.
          training: Whether dropout is on.

        Returns:
          Pair of hidden states, float [R, T, hidden width], from which `logits` predicts the word
          after each position, and attention weights, float [R, T, positions], or None. Both mean
          nothing on padding.
        """
        dtype = self._dtype_of_products(training)
        # To every word the source of its row.
        source = tuple(
            ops.broadcast_to(part[:, None], ops.shape(token_ids)) for part in memory.source
        )
        if training and tf.config.list_logical_devices("GPU"):
            # cuDNN's kernel is faster than anything step by step, padding or not. It is kept out
            # of graphs that are exported: they have to run without a GPU too.
            words = self._add_source(self._embed(token_ids), _WORD, source)
            words = self.embedding_dropout(words, training=True)
            outputs = self.recurrent(words, initial_state=list(memory.state), training=True)
            return self._look(outputs, self._query(outputs, dtype), memory.grid, dtype)
        is_token = ops.cast(ops.not_equal(token_ids, PAD_ID), "int32")
        packing = make_packing(ops.sum(is_token, axis=1), ops.shape(token_ids)[1])
        words = self._embed(packing.pack(token_ids))
        words = self._add_source(words, _WORD, tuple(packing.pack(part) for part in source))
        words = self.embedding_dropout(words, training=training)
        packed = run_packed(self.recurrent.cell, words, memory.state, packing, dtype, training)
        query = self._query(packed, dtype)
        query = None if query is None else packing.unpack(query)
        return self._look(packing.unpack(packed), query, memory.grid, dtype)

    def output_weights(self) -> Any:
        """Weights of the output layer, float [embedding_dim, vocabulary_size], for `step`.

        Those of tied embeddings are a transposed copy, to be made once for all words of a caption:
        with few hypotheses a product that transposes them at each word takes four times as long.
        """
        if self.output_layer is not None:
            return self.output_layer.kernel
        return ops.transpose(self.embedding.embeddings)

    def step(
        self,
        token_ids: Any,
        state: tuple[Any, ...],
        memory: Memory,
        output_weights: Any,
    ) -> tuple[Any, tuple[Any, ...]]:
        """One word of every hypothesis of every image.

        Args:
          token_ids: int [N, K], the last words.
          state: Recurrent state, a tuple of [N, K, units].
          memory: Of the N images; its state is that before the first word.
          output_weights: What the method of that name gives.

        Returns:
          Pair of logits, float [N, K, vocabulary_size], and the new state.
        """
        batch, beams = ops.shape(token_ids)
        words = ops.reshape(self._embed(token_ids), (-1, self.embedding_dim))
        flat = [ops.reshape(part, (-1, self.units)) for part in state]
        output, new_state = self.recurrent.cell(words, flat)
        shape = (batch, beams, self.units)
        output = ops.reshape(output, shape)
        hidden, _ = self._look(output, self._query(output), memory.grid)
        concepts = tuple(part[:, None] for part in memory.concepts)
        logits = self.logits(hidden, concepts, output_weights=output_weights)
        return logits, tuple(ops.reshape(part, shape) for part in new_state)

    def logits(
        self,
        hidden: Any,
        concepts: tuple[Any, ...] = (),
        source: tuple[Any, ...] = (),
        training: bool = False,
        output_weights: Any = None,
    ) -> Any:
        """Scores of the next word, float [..., vocabulary_size].

        Args:
          hidden: float [..., hidden width].
          concepts: `Memory.concepts` of the image of each hidden state, [..., vocabulary_size].
          source: `Memory.source` of the image of each hidden state, [...].
          training: Whether dropout is on.
          output_weights: What the method of that name gives; None makes it here.
        """
        dtype = self._dtype_of_products(training)
        if self.output_norm is not None:
            hidden = self.output_norm(hidden)
        hidden = dense(self.output_projection, hidden, dtype)
        hidden = self._add_source(hidden, _OUTPUT, source)
        hidden = self.output_dropout(hidden, training=training)
        if output_weights is None:
            output_weights = self.output_weights()
        bias = self.output_bias if self.output_layer is None else self.output_layer.bias
        shape = ops.shape(hidden)
        flat = ops.reshape(hidden, (-1, self.embedding_dim))
        scores = matmul(flat, output_weights, dtype) + bias
        scores = ops.reshape(scores, (*shape[:-1], self.vocabulary_size))
        for logits in concepts:
            scores += self.concept_scale * logits
        return scores

    def _add_source(self, x: Any, place: int, source: tuple[Any, ...]) -> Any:
        for number in source:
            # Of number 0, home, there is no row.
            is_of = ops.one_hot(number - 1, self.foreign_sources, dtype=x.dtype)
            x += ops.matmul(is_of, self.of_source[place])
        return x

    def _embed(self, token_ids: Any) -> Any:
        return self.embedding(token_ids) * self.embedding_dim**0.5

    def _dtype_of_products(self, training: bool) -> str:
        return self.training_dtype if training else "float32"

    def _query(self, outputs: Any, dtype: str = "float32") -> Any:
        if self.grid_attention is None:
            return None
        return self.grid_attention.project_query(outputs, dtype)

    def _look(
        self, outputs: Any, query: Any, grid: tuple[Any, ...], dtype: str = "float32"
    ) -> tuple[Any, Any]:
        """Recurrent outputs, with what each sees in the image beside it."""
        if self.grid_attention is None:
            return outputs, None
        context, weights = self.grid_attention(query, *grid, dtype=dtype)
        if self.context_gate is not None:
            context *= dense(self.context_gate, outputs, dtype)
        return ops.concatenate([outputs, context], axis=-1), weights

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "cell": self.cell,
            "units": self.units,
            "embedding_dim": self.embedding_dim,
            "attention": self.attention,
            "attention_heads": self.attention_heads,
            "gate": self.gate,
            "layer_norm": self.layer_norm,
            "concepts": self.concepts,
            "foreign_sources": self.foreign_sources,
            "tie_embeddings": self.tie_embeddings,
            "dropout": self.dropout,
        }
