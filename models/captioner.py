"""The captioning model: encoder and decoder together, and its training loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfx_captioner.models.config import ModelConfig
from tfx_captioner.models.data_config import END_ID, PAD_ID, UNKNOWN_ID
from tfx_captioner.models.decoders.recurrent import Memory, RecurrentDecoder
from tfx_captioner.models.encoders import Encoder


@keras.saving.register_keras_serializable("captioner")
class Captioner(keras.Model):
    """Captions images.

    Args:
      decoder: The caption decoder.
      encoder: Images, float32 [N, S, S, 3] in 0..255, or what the frozen part of an encoder made
        of them, to features [N, positions, channels]; None when the model is trained on features
        that a frozen encoder made beforehand.
    """

    def __init__(
        self, decoder: RecurrentDecoder, encoder: keras.Model | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.decoder = decoder
        self.encoder = encoder
        # Of scheduled sampling. Part of the model's variables, so that checkpoints have its state.
        self.seed_generator = keras.random.SeedGenerator()

    def remember(self, inputs: Any, source: Any = None, training: bool = False) -> Memory:
        """Prepares images, or their features, for decoding.

        Args:
          inputs: What the encoder takes, else features [N, positions, channels]; any numeric type.
          source: As for `RecurrentDecoder.remember`.
          training: Whether dropout and batch statistics are on.
        """
        inputs = ops.cast(inputs, "float32")
        features = inputs if self.encoder is None else self.encoder(inputs, training=training)
        return self.decoder.remember(features, source, training=training)

    def call(self, batch: dict[str, Any], training: bool = False) -> Any:
        """Hidden states by teacher forcing.

        Args:
          batch: `inputs` and, if there is one, `source` as for `remember`; `token_ids` int [R, T]
            and `image_index` int [R].
          training: Whether dropout and batch statistics are on.

        Returns:
          float [R, T - 1, hidden width]: the state that predicts each token after the first.
        """
        memory = self.remember(batch["inputs"], batch.get("source"), training=training)
        return self._teach(memory, batch, training)

    def _teach(
        self, memory: Memory, batch: dict[str, Any], training: bool, given: Any = None
    ) -> Any:
        token_ids = batch["token_ids"]
        given = token_ids if given is None else given
        # What nothing follows predicts nothing: the end of a caption is padding to the decoder.
        token_ids = tf.where(token_ids[:, 1:] != PAD_ID, given[:, :-1], PAD_ID)
        of_image = memory._replace(concepts=())
        rows = tf.nest.map_structure(lambda part: tf.gather(part, batch["image_index"]), of_image)
        hidden, _ = self.decoder(token_ids, rows, training=training)
        return hidden

    def cross_entropy(
        self,
        batch: dict[str, Any],
        label_smoothing: float = 0.0,
        training: bool = False,
        weights: Any = None,
        never: Sequence[int] = (),
        own_words: Any = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Cross-entropy of the captions of a batch, summed over tokens.

        Padding is taken out before the vocabulary-wide output layer, which is the most expensive
        part of the decoder, and not masked behind it.

        Args:
          batch: As for `call`.
          label_smoothing: Share of the target probability spread over the vocabulary.
          training: Whether dropout and batch statistics are on.
          weights: float [R], by which the captions count; all the same if None.
          never: Token ids that have no probability.
          own_words: Share of the words given to the decoder that it draws itself, float scalar;
            None for those of the captions alone. They are drawn where each stands, all at once,
            by a first pass over the captions (Mihaylova and Martins, 2019,
            https://arxiv.org/abs/1906.07651).

        Returns:
          Pair of float32 scalars: the sum in nats, and the number of tokens.
        """
        memory = self.remember(batch["inputs"], batch.get("source"), training=training)
        given = None if own_words is None else self._own_words(memory, batch, own_words)
        logits, images = self._logits(memory, batch, training, given)
        is_token = batch["token_ids"][:, 1:] != PAD_ID
        targets = tf.boolean_mask(batch["token_ids"][:, 1:], is_token)
        if never:
            ids = tf.range(tf.shape(logits)[-1])
            logits = tf.where(tf.reduce_any(ids[:, None] == list(never), 1), -1e9, logits)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
        if label_smoothing:
            # To the smoothed target, without a dense target distribution.
            target_logits = tf.gather(logits, targets, batch_dims=1)
            loss += label_smoothing * (target_logits - tf.reduce_mean(logits, axis=-1))
        if weights is not None:
            loss *= tf.repeat(weights, tf.math.count_nonzero(is_token, axis=1))
        loss_sum = tf.reduce_sum(loss)
        if training and weights is None:
            for logits in memory.concepts:
                loss_sum += self.decoder.concepts * _concept_loss(logits, images, targets)
        return loss_sum, tf.cast(tf.size(targets), tf.float32)

    def _logits(
        self, memory: Memory, batch: dict[str, Any], training: bool, given: Any = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Of all tokens of a batch but the first of each caption.

        Args:
          memory: Of the batch's images.
          batch: As for `call`.
          training: Whether dropout is on.
          given: int [R, T], what is given to the decoder in place of the captions.

        Returns:
          Logits, float32 [P, vocabulary size], and the image of each token, int32 [P].
        """
        is_token = batch["token_ids"][:, 1:] != PAD_ID
        images = tf.repeat(batch["image_index"], tf.math.count_nonzero(is_token, axis=1))
        hidden = tf.boolean_mask(self._teach(memory, batch, training, given), is_token)
        concepts = tuple(tf.gather(part, images) for part in memory.concepts)
        source = tuple(tf.gather(part, images) for part in memory.source)
        logits = self.decoder.logits(hidden, concepts, source, training=training)
        return tf.cast(logits, tf.float32), images

    def _own_words(self, memory: Memory, batch: dict[str, Any], share: Any) -> tf.Tensor:
        """Captions with a share of their words replaced by what the model draws there."""
        token_ids = batch["token_ids"]
        targets = token_ids[:, 1:]
        logits, _ = self._logits(memory, batch, training=True)
        drawn = keras.random.categorical(
            tf.stop_gradient(logits), 1, dtype="int32", seed=self.seed_generator
        )
        places = tf.where(targets != PAD_ID)
        drawn = tf.tensor_scatter_nd_update(targets, places, drawn[:, 0])
        chance = keras.random.uniform(tf.shape(targets), seed=self.seed_generator)
        # The end is no word to go on from, and neither are the other special tokens.
        are_words = (targets > END_ID) & (drawn > UNKNOWN_ID)
        words = tf.where(are_words & (chance < share), drawn, targets)
        return tf.concat([token_ids[:, :1], words], axis=1)


def _concept_loss(logits: tf.Tensor, images: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of which words are said of each image, summed over images and words.

    Args:
      logits: float [N, vocabulary size].
      images: int [P], the image of each word.
      words: int [P].
    """
    counts = tf.scatter_nd(tf.stack([images, words], axis=1), tf.ones_like(words), tf.shape(logits))
    is_said = tf.cast(counts > 0, logits.dtype)
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(is_said, logits))


def build_captioner(config: ModelConfig, encoder: Encoder, vocabulary_size: int) -> Captioner:
    """A captioner with initial weights.

    Args:
      config: Encoder and decoder.
      encoder: The encoder of `config`.
      vocabulary_size: Number of token ids.

    Returns:
      A built model; of the encoder it holds what is trained with it.
    """
    decoder = RecurrentDecoder.from_settings(config.decoder, vocabulary_size)
    decoder.build((None, None), (None, encoder.grid[0] * encoder.grid[1], encoder.channels))
    captioner = Captioner(decoder, encoder.trained)
    captioner.built = True
    return captioner
