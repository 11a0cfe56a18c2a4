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


class EncodedImages(NamedTuple):
    """N images as the decoder reads them; made once per image, whatever the number of captions.

    Example:

    ```python
    encoded = captioner.encode(inputs)
    hypotheses = beam_search(DecoderSteps(captioner.decoder), encoded, decoding, vocabulary)
    ```

    Attributes:
      state: Initial recurrent state, a tuple of [N, units].
      keys_values: Keys and values of the attention over the feature grid; empty without attention.
      concepts: Logits of each word being in a caption of the image, one [N, vocabulary_size]; empty
        without concepts.
      source: Data set of each image while training, one int [N], as for
        `RecurrentDecoder.encode_features`; empty if all are of the target.
    """

    state: tuple[Any, ...]
    keys_values: tuple[Any, ...]
    concepts: tuple[Any, ...] = ()
    source: tuple[Any, ...] = ()


# What an auxiliary source has an embedding for.
_IMAGE, _WORD, _OUTPUT = range(3)


@keras.saving.register_keras_serializable("captioner")
class RecurrentDecoder(keras.layers.Layer):
    """LSTM or GRU over words, conditioned on a grid of image features.

    The recurrent state starts from the mean of the features. With attention, the output of the
    recurrent layer at each word is the query, and context and output together give the next word
    (Luong et al., 2015, https://arxiv.org/abs/1508.04025). As no context is fed back into the
    recurrence, a whole caption runs through the recurrent layer first and is attended in one
    matrix product while training.

    Example:

    ```python
    decoder = RecurrentDecoder(vocabulary_size=5000, cell="lstm", attention="additive")
    decoder.build((None, None), (None, 49, 2048))
    encoded = decoder.encode_features(features)  # [N, 49, 2048]

    # Training: one caption per image, int [N, T].
    hidden, attention = decoder(token_ids, encoded)
    logits = decoder.logits(hidden)

    # Decoding: the next word of K hypotheses per image, int [N, K].
    state = tuple(tf.repeat(part[:, None], K, axis=1) for part in encoded.state)
    logits, state = decoder.step(last, state, encoded, decoder.output_weights())
    ```

    Args:
      vocabulary_size: Number of token ids.
      cell: "lstm" or "gru".
      units: Width of the recurrent state and of the attention.
      embedding_dim: Width of the word embeddings.
      attention: "none", "additive" or "dot_product".
      attention_heads: Heads of the dot-product attention.
      gate: Whether a gate scales the context of each word channel by channel; words such as "of"
        need nothing of the image (Xu et al., 2015, section 4.2.1,
        https://arxiv.org/abs/1502.03044). Attention weights still sum to one.
      layer_norm: Whether recurrent output and context are normalised before the output layers.
      concepts: Weight of the concept loss. Where it is positive, a linear layer predicts from the
        mean features which words the captions of the image hold, in any order (as in Fang et al.,
        2015, https://arxiv.org/abs/1411.4952), and its logits, scaled by a learned factor, are
        added to those of each word: the short way from image to word.
      auxiliary_sources: Number of auxiliary data sets, see `models.config.SourceMix`. Each has
        embeddings of its own that are added to the image, to every word and to every output while
        training; where no source is given, nothing is added.
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
        auxiliary_sources: int = 0,
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
        self.auxiliary_sources = auxiliary_sources
        self.tie_embeddings = tie_embeddings
        self.dropout = dropout
        # Type of the factors of matrix products while training; `CaptionerTraining` sets it.
        self.training_dtype = "float32"

        # Scale and offset would be absorbed by the projection, and their gradients cost a third.
        self.feature_norm = keras.layers.LayerNormalization(
            center=False, scale=False, name="feature_norm"
        )
        self.feature_projection = keras.layers.Dense(units, activation="relu", name="features")
        # Unit variance once scaled as input, and unit norm as output weights (Vaswani et al.,
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
            # The captions of an image hold next to none of the words.
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
    def from_settings(
        cls, config: DecoderConfig, vocabulary_size: int, auxiliary_sources: int = 0
    ) -> RecurrentDecoder:
        """Makes a decoder as configured.

        Args:
          config: The settings.
          vocabulary_size: Number of token ids.
          auxiliary_sources: Number of auxiliary data sets.
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
            auxiliary_sources=auxiliary_sources,
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
        if self.auxiliary_sources:
            self.source_embeddings = [
                self.add_weight(
                    shape=(self.auxiliary_sources, width),
                    initializer="zeros",
                    name=f"source_{name}",
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
          vectors: Word vector, float [d], by token id; d is at most `embedding_dim`.
        """
        table = self.embedding.embeddings.numpy()
        ids = sorted(vectors)
        known = np.stack([vectors[token] for token in ids]).astype(np.float32)
        known -= known.mean(axis=0)
        width = known.shape[1]
        known *= self.embedding_dim**-0.5 / known.std()
        table[ids, :width] = known
        self.embedding.embeddings.assign(table)

    def encode_features(
        self, features: Any, source: Any = None, training: bool = False
    ) -> EncodedImages:
        """Projects the features of images to what the decoder reads.

        Args:
          features: Features of the encoder, float [N, positions, channels].
          source: Data set of each image, int [N]: 0 for the target, from 1 for an auxiliary one;
            None if all are of the target.
          training: Whether dropout is on.
        """
        if self.grid_attention is None:
            # Single positions are not attended, so one vector of the image is enough.
            features = ops.mean(features, axis=1, keepdims=True)
        dtype = self._dtype_of_products(training)
        grid = dense(self.feature_projection, self.feature_norm(features), dtype)
        grid = self.feature_dropout(grid, training=training)
        sources = () if source is None or not self.auxiliary_sources else (source,)
        mean = self._add_source(ops.mean(grid, axis=1), _IMAGE, sources)
        state = tuple(layer(mean) for layer in self.initial_state)
        keys_values: tuple[Any, ...] = ()
        if self.grid_attention is not None:
            keys_values = tuple(self.grid_attention.project(grid, dtype))
        concepts: tuple[Any, ...] = ()
        if self.concept_layer is not None:
            concepts = (dense(self.concept_layer, mean, dtype),)
        return EncodedImages(state, keys_values, concepts, sources)

    def call(
        self, token_ids: Any, encoded: EncodedImages, training: bool = False
    ) -> tuple[Any, Any]:
        """Teacher forcing: all words of all captions at once.

        Args:
          token_ids: Captions, int [R, T], start first. What follows the end of a caption has no
            influence on what comes before it, so padding needs no mask.
          encoded: The image of each caption, leading dimension R.
          training: Whether dropout is on.

        Returns:
          Pair of hidden states, float [R, T, hidden width], from which `logits` predicts the word
          after each position, and attention weights, float [R, T, positions], or None. Both mean
          nothing on padding.
        """
        dtype = self._dtype_of_products(training)
        # The source of each word is that of its caption.
        source = tuple(
            ops.broadcast_to(part[:, None], ops.shape(token_ids)) for part in encoded.source
        )
        if training and tf.config.list_logical_devices("GPU"):
            # cuDNN's kernel is faster than anything step by step, padding or not. It is kept out
            # of graphs that are exported: they have to run without a GPU too.
            words = self._add_source(self._embed(token_ids), _WORD, source)
            words = self.embedding_dropout(words, training=True)
            outputs = self.recurrent(words, initial_state=list(encoded.state), training=True)
            return self._attend(outputs, self._query(outputs, dtype), encoded.keys_values, dtype)
        is_token = ops.cast(ops.not_equal(token_ids, PAD_ID), "int32")
        packing = make_packing(ops.sum(is_token, axis=1), ops.shape(token_ids)[1])
        words = self._embed(packing.pack(token_ids))
        words = self._add_source(words, _WORD, tuple(packing.pack(part) for part in source))
        words = self.embedding_dropout(words, training=training)
        packed = run_packed(self.recurrent.cell, words, encoded.state, packing, dtype, training)
        query = self._query(packed, dtype)
        query = None if query is None else packing.unpack(query)
        return self._attend(packing.unpack(packed), query, encoded.keys_values, dtype)

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
        encoded: EncodedImages,
        output_weights: Any,
    ) -> tuple[Any, tuple[Any, ...]]:
        """Scores the next word of every hypothesis of every image.

        Args:
          token_ids: Last word of each hypothesis, int [N, K].
          state: Recurrent state, a tuple of [N, K, units].
          encoded: The N images; its state is that before the first word.
          output_weights: Weights from the method of that name.

        Returns:
          Pair of logits, float [N, K, vocabulary_size], and the new state.
        """
        batch, beams = ops.shape(token_ids)
        words = ops.reshape(self._embed(token_ids), (-1, self.embedding_dim))
        flat = [ops.reshape(part, (-1, self.units)) for part in state]
        output, new_state = self.recurrent.cell(words, flat)
        shape = (batch, beams, self.units)
        output = ops.reshape(output, shape)
        hidden, _ = self._attend(output, self._query(output), encoded.keys_values)
        concepts = tuple(part[:, None] for part in encoded.concepts)
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
          hidden: Hidden states of `call`, float [..., hidden width].
          concepts: `EncodedImages.concepts` of the image of each hidden state, [...,
            vocabulary_size].
          source: `EncodedImages.source` of the image of each hidden state, [...].
          training: Whether dropout is on.
          output_weights: Weights from the method of that name; None makes them here.
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
            # Number 0, the target, has no row.
            is_source = ops.one_hot(number - 1, self.auxiliary_sources, dtype=x.dtype)
            x += ops.matmul(is_source, self.source_embeddings[place])
        return x

    def _embed(self, token_ids: Any) -> Any:
        return self.embedding(token_ids) * self.embedding_dim**0.5

    def _dtype_of_products(self, training: bool) -> str:
        return self.training_dtype if training else "float32"

    def _query(self, outputs: Any, dtype: str = "float32") -> Any:
        if self.grid_attention is None:
            return None
        return self.grid_attention.project_query(outputs, dtype)

    def _attend(
        self, outputs: Any, query: Any, grid: tuple[Any, ...], dtype: str = "float32"
    ) -> tuple[Any, Any]:
        """Recurrent outputs, each with its context beside it, and attention weights."""
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
            "auxiliary_sources": self.auxiliary_sources,
            "tie_embeddings": self.tie_embeddings,
            "dropout": self.dropout,
        }
