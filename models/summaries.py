"""Captions and attention maps of a training, for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tfx_captioner.models import text
from tfx_captioner.models.captioner import Captioner
from tfx_captioner.models.data_config import PAD_ID, START_ID
from tfx_captioner.models.decoders.recurrent import EncodedImages
from tfx_captioner.models.vocabulary import Vocabulary

# Pixels of a cell of the attention grid, and between the grids of two words.
_CELL, _GAP = 8, 4


def write_samples(
    captioner: Captioner,
    vocabulary: Vocabulary,
    grid: tuple[int, int],
    inputs: Any,
    token_ids: tf.Tensor,
    references: Sequence[Any],
) -> None:
    """Writes captions, and pictures of the attention of each of their words, to the default writer.

    Args:
      captioner: The model.
      vocabulary: Words of the token ids.
      grid: Height and width of the encoder's features.
      inputs: Inputs of the captioner for N images.
      token_ids: Generated caption of each image, int32 [N, T]: words, end token, padding.
      references: Token ids of the captions of each image, int [n, T].
    """
    captions = text.detokenize(vocabulary.words(token_ids)).numpy()
    rows = ["| generated | references |", "|---|---|"]
    for caption, ids in zip(captions, references, strict=True):
        known = text.detokenize(vocabulary.words(ids)).numpy()
        rows.append(f"| {caption.decode()} | {'<br>'.join(one.decode() for one in known)} |")
    tf.summary.text("samples/captions", "\n".join(rows))
    pictures = attention_pictures(captioner, grid, inputs, token_ids)
    if pictures is not None:
        tf.summary.image("samples/attention", pictures, max_outputs=len(captions))


def attention_pictures(
    captioner: Captioner, grid: tuple[int, int], inputs: Any, token_ids: tf.Tensor
) -> tf.Tensor | None:
    """Draws the attention over the grid at each word, side by side from the first to the end token.

    Args:
      captioner: The model.
      grid: Height and width of the encoder's features.
      inputs: Inputs of the captioner for N images.
      token_ids: Caption of each image, int32 [N, T]: words, end token, padding.

    Returns:
      float32 [N, height, width of T grids, 1]: the brightest cell of each word is 1; None of a
      decoder without attention.
    """
    encoded = captioner.encode(inputs)
    before = tf.pad(token_ids[:, :-1], [[0, 0], [1, 0]], constant_values=START_ID)
    _, weights = captioner.decoder(before, EncodedImages(encoded.state, encoded.keys_values))
    if weights is None:
        return None
    maps = tf.reshape(weights, [*token_ids.shape, *grid])
    maps /= tf.reduce_max(maps, axis=(2, 3), keepdims=True)
    maps = tf.where((token_ids != PAD_ID)[:, :, None, None], maps, 0.0)
    maps = tf.repeat(tf.repeat(maps, _CELL, axis=2), _CELL, axis=3)
    maps = tf.pad(maps, [[0, 0], [0, 0], [0, 0], [0, _GAP]])
    height = grid[0] * _CELL
    return tf.reshape(tf.transpose(maps, [0, 2, 1, 3]), [len(token_ids), height, -1, 1])
