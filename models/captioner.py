"""The captioning model: encoder and decoder together, and its training loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from tfx_captioner.models.config import ModelConfig
from tfx_captioner.models.data_config import END_ID, PAD_ID, UNKNOWN_ID
from tfx_captioner.models.decoders.recurrent import EncodedImages, RecurrentDecoder
from tfx_captioner.models.encoders import Encoder


@keras.saving.register_keras_serializable("captioner")
class Captioner(keras.Model):
    """Captions images.

    Example:

    ```python
    encoder = build_encoder(EncoderConfig("resnet50", "imagenet"))
    config = ModelConfig(encoder=EncoderConfig("resnet50"), decoder=DecoderConfig(cell="gru"))
    captioner = build_captioner(config, encoder, vocabulary.size)

    encoded = captioner.encode(encoder.model(pixels))
    hypotheses = beam_search(
        DecoderSteps(captioner.decoder), encoded, DecodingConfig(beam_size=3), vocabulary
    )
    captions = text.detokenize(vocabulary.words(hypotheses.token_ids[:, 0]))
    ```

    Args:
      decoder: The caption decoder.
      encoder: Model from images, float32 [N, S, S, 3] in 0..255, or from what the frozen part of an
        encoder made of them, to features [N, positions, channels]; None when the captioner is
        trained on features that a frozen encoder made beforehand.
    """

    def __init__(
        self, decoder: RecurrentDecoder, encoder: keras.Model | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.decoder = decoder
        self.encoder = encoder
        # For scheduled sampling. Part of the model's variables, so that checkpoints have its state.
        self.seed_generator = keras.random.SeedGenerator()

    def encode(self, inputs: Any, source: Any = None, training: bool = False) -> EncodedImages:
        """Encodes images, or their features, for the decoder.

        Args:
          inputs: Images as the encoder takes them, else features [N, positions, channels]; any
            numeric type.
          source: Data set of each image, as for `RecurrentDecoder.encode_features`.
          training: Whether dropout and batch statistics are on.
        """
        inputs = ops.cast(inputs, "float32")
        features = inputs if self.encoder is None else self.encoder(inputs, training=training)
        return self.decoder.encode_features(features, source, training=training)

    def call(self, batch: dict[str, Any], training: bool = False) -> Any:
        """Hidden states by teacher forcing.

        Args:
          batch: Images with their captions: `inputs` and, if there is one, `source` as for
            `encode`; `token_ids` int [R, T] and `image_index` int [R].
          training: Whether dropout and batch statistics are on.

        Returns:
          float [R, T - 1, hidden width]: the state that predicts each token after the first.
        """
        encoded = self.encode(batch["inputs"], batch.get("source"), training=training)
        return self._teacher_forcing(encoded, batch, training)

    def _teacher_forcing(
        self,
        encoded: EncodedImages,
        batch: dict[str, Any],
        training: bool,
        decoder_inputs: Any = None,
    ) -> Any:
        targets = batch["token_ids"][:, 1:]
        inputs = batch["token_ids"] if decoder_inputs is None else decoder_inputs
        # What nothing follows predicts nothing: the end of a caption is padding to the decoder.
        token_ids = tf.where(targets != PAD_ID, inputs[:, :-1], PAD_ID)
        per_image = encoded._replace(concepts=())
        per_caption = tf.nest.map_structure(
            lambda part: tf.gather(part, batch["image_index"]), per_image
        )
        hidden, _ = self.decoder(token_ids, per_caption, training=training)
        return hidden

    def cross_entropy(
        self,
        batch: dict[str, Any],
        label_smoothing: float = 0.0,
        training: bool = False,
        weights: Any = None,
        suppressed_ids: Sequence[int] = (),
        sampling_probability: Any = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Cross-entropy of the captions of a batch, summed over tokens.

        Padding is taken out before the vocabulary-wide output layer, which is the most expensive
        part of the decoder, and not masked behind it.

        Args:
          batch: Images with their captions, as for `call`.
          label_smoothing: Share of the target probability spread over the vocabulary.
          training: Whether dropout and batch statistics are on.
          weights: Weight of each caption in the sum, float [R]; all the same if None.
          suppressed_ids: Token ids that have no probability.
          sampling_probability: Probability of scheduled sampling, float scalar: that a word given
            to the decoder is one it samples itself and not the caption's. None gives it those of
            the captions alone. Words are sampled at each position, all at once, by a first pass
            over the captions (Mihaylova and Martins, 2019, https://arxiv.org/abs/1906.07651).

        Returns:
          Pair of float32 scalars: the sum in nats, and the number of tokens.
        """
        encoded = self.encode(batch["inputs"], batch.get("source"), training=training)
        decoder_inputs = None
        if sampling_probability is not None:
            decoder_inputs = self._scheduled_sampling(encoded, batch, sampling_probability)
        logits, images = self._logits(encoded, batch, training, decoder_inputs)
        is_token = batch["token_ids"][:, 1:] != PAD_ID
        targets = tf.boolean_mask(batch["token_ids"][:, 1:], is_token)
        if suppressed_ids:
            ids = tf.range(tf.shape(logits)[-1])
            is_suppressed = tf.reduce_any(ids[:, None] == list(suppressed_ids), 1)
            logits = tf.where(is_suppressed, -1e9, logits)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
        if label_smoothing:
            # To the smoothed target, without a dense target distribution.
            target_logits = tf.gather(logits, targets, batch_dims=1)
            loss += label_smoothing * (target_logits - tf.reduce_mean(logits, axis=-1))
        if weights is not None:
            loss *= tf.repeat(weights, tf.math.count_nonzero(is_token, axis=1))
        loss_sum = tf.reduce_sum(loss)
        if training and weights is None:
            for logits in encoded.concepts:
                loss_sum += self.decoder.concepts * _concept_loss(logits, images, targets)
        return loss_sum, tf.cast(tf.size(targets), tf.float32)

    def _logits(
        self,
        encoded: EncodedImages,
        batch: dict[str, Any],
        training: bool,
        decoder_inputs: Any = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits of all tokens of a batch but the first of each caption.

        Args:
          encoded: The batch's images.
          batch: Images with their captions, as for `call`.
          training: Whether dropout is on.
          decoder_inputs: Token ids given to the decoder in place of the captions, int [R, T].

        Returns:
          Logits, float32 [P, vocabulary size], and the image of each token, int32 [P].
        """
        is_token = batch["token_ids"][:, 1:] != PAD_ID
        images = tf.repeat(batch["image_index"], tf.math.count_nonzero(is_token, axis=1))
        hidden = self._teacher_forcing(encoded, batch, training, decoder_inputs)
        hidden = tf.boolean_mask(hidden, is_token)
        concepts = tuple(tf.gather(part, images) for part in encoded.concepts)
        source = tuple(tf.gather(part, images) for part in encoded.source)
        logits = self.decoder.logits(hidden, concepts, source, training=training)
        return tf.cast(logits, tf.float32), images

    def _scheduled_sampling(
        self, encoded: EncodedImages, batch: dict[str, Any], probability: Any
    ) -> tf.Tensor:
        """Captions in which words are replaced by what the model samples at their positions."""
        token_ids = batch["token_ids"]
        targets = token_ids[:, 1:]
        logits, _ = self._logits(encoded, batch, training=True)
        sampled = keras.random.categorical(
            tf.stop_gradient(logits), 1, dtype="int32", seed=self.seed_generator
        )
        positions = tf.where(targets != PAD_ID)
        sampled = tf.tensor_scatter_nd_update(targets, positions, sampled[:, 0])
        uniform = keras.random.uniform(tf.shape(targets), seed=self.seed_generator)
        # The end is no word to go on from, and neither are the other special tokens.
        are_words = (targets > END_ID) & (sampled > UNKNOWN_ID)
        words = tf.where(are_words & (uniform < probability), sampled, targets)
        return tf.concat([token_ids[:, :1], words], axis=1)


def _concept_loss(logits: tf.Tensor, images: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropy of which words the captions of an image hold, summed over both.

    Args:
      logits: Logits of the words of each image, float [N, vocabulary size].
      images: Image of each word of the captions, int [P].
      words: Words of the captions, int [P].
    """
    counts = tf.scatter_nd(tf.stack([images, words], axis=1), tf.ones_like(words), tf.shape(logits))
    labels = tf.cast(counts > 0, logits.dtype)
    return tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))


def build_captioner(
    config: ModelConfig, encoder: Encoder, vocabulary_size: int, auxiliary_sources: int = 0
) -> Captioner:
    """Builds a captioner with initial weights.

    Args:
      config: Encoder and decoder.
      encoder: The encoder of `config`.
      vocabulary_size: Number of token ids.
      auxiliary_sources: Number of auxiliary data sets that the captioner is trained on, see
        `models.config.SourceMix`.

    Returns:
      A built model; of the encoder it holds what is trained with it.
    """
    decoder = RecurrentDecoder.from_settings(config.decoder, vocabulary_size, auxiliary_sources)
    decoder.build((None, None), (None, encoder.grid[0] * encoder.grid[1], encoder.channels))
    captioner = Captioner(decoder, encoder.trained)
    captioner.built = True
    return captioner
