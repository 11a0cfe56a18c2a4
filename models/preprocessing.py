"""`preprocessing_fn` of TFX Transform: captions become token ids.

Images pass through as the encoded bytes they are; decoded pixels are never materialised.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_transform as tft

from tfx_captioner.models import text
from tfx_captioner.models.data_config import (
    END_ID,
    PAD_ID,
    SPECIAL_TOKENS,
    START_ID,
    UNKNOWN_ID,
    TextConfig,
    parse,
)
from tfx_captioner.models.vocabulary import VOCABULARY_NAME

PASSED_THROUGH = ("image/id", "image/encoded", "image/height", "image/width", "image/source")


def preprocessing_fn(inputs: dict[str, Any], custom_config: dict[str, Any]) -> dict[str, Any]:
    """Adds token ids and lengths to raw examples ("Transformed example" of the design).

    `caption/token_ids` is stored row by row, as a tf.Example has flat lists only: its length is
    captions x `max_caption_length`. Truncated captions keep their end token.

    Args:
      inputs: Features of a batch of raw examples by name.
      custom_config: `text`: a `TextConfig` as plain data.

    Returns:
      The raw features, `caption/token_ids` (int64) and `caption/length` (int64 per caption: tokens
      with start and end, without padding).
    """
    config = parse(TextConfig, custom_config["text"])
    captions = tf.RaggedTensor.from_sparse(inputs["caption/text"])
    words = text.tokenize(captions.values)
    ids = _with_specials(_vocabulary_ids(words, config), config.max_caption_length)

    padded = ids.to_tensor(PAD_ID, shape=[None, config.max_caption_length])
    per_image = captions.with_values(padded)
    token_ids = tf.RaggedTensor.from_row_splits(
        tf.reshape(padded, [-1]), per_image.row_splits * config.max_caption_length
    )
    lengths = captions.with_values(ids.row_lengths())
    return {
        **{name: inputs[name] for name in PASSED_THROUGH},
        "caption/text": inputs["caption/text"],
        "caption/token_ids": token_ids.to_sparse(),
        "caption/length": lengths.to_sparse(),
    }


def _vocabulary_ids(words: tf.RaggedTensor, config: TextConfig) -> tf.RaggedTensor:
    """Ids by falling frequency in the train split, behind the special tokens."""
    index = tft.compute_and_apply_vocabulary(
        words.flat_values,
        default_value=-1,
        top_k=config.max_vocabulary_size,
        frequency_threshold=config.min_word_count,
        vocab_filename=VOCABULARY_NAME,
    )
    ids = tf.where(index < 0, tf.constant(UNKNOWN_ID, tf.int64), index + len(SPECIAL_TOKENS))
    return words.with_flat_values(ids)


def _with_specials(ids: tf.RaggedTensor, max_length: int) -> tf.RaggedTensor:
    """start, words cut to fit, end."""
    edge = tf.ones([ids.nrows(), 1], tf.int64)
    return tf.concat([edge * START_ID, ids[:, : max_length - 2], edge * END_ID], axis=1)
