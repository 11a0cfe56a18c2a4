"""Captions as words, and words as captions again, in any script.

Only strings live here: what turns words into ids is in `models.preprocessing` and
`models.vocabulary`. The rule is that of `metrics.scripts`, so that captions are scored by the words
they are made of.
"""

from __future__ import annotations

import tensorflow as tf

from tfx_captioner.metrics import scripts

# A character of a script without spaces, with its marks.
_UNSPACED_TOKEN = rf"[{scripts.UNSPACED}]\p{{M}}*"
# Joiners keep Persian and Indic words whole. No word begins with one, or with a mark: those in
# front are what is left of an emoji.
_LETTERS = rf"[\p{{L}}\p{{N}}][\p{{L}}\p{{M}}\p{{N}}{scripts.JOINERS}]*"
_WORD = rf"{_LETTERS}(?:['-]{_LETTERS})*"


def tokenize(captions: tf.Tensor) -> tf.RaggedTensor:
    """Splits captions into lower-case words.

    Text is NFKC-normalised; punctuation and symbols go; words keep inner apostrophes and hyphens;
    a character of a script without spaces (Chinese, Japanese, Thai, ...) is a word of its own. The
    same as `metrics.scripts.split_words`, whatever the language.

    Args:
      captions: Captions, string [N], UTF-8.

    Returns:
      Words of each caption, string [N, (words)].
    """
    # Needed while training only: a serving graph must not hold ops of TensorFlow Text.
    import tensorflow_text as tf_text

    text = tf_text.normalize_utf8(captions, "NFKC")
    text = tf.strings.lower(text, encoding="utf-8")
    text = tf.strings.regex_replace(text, f"[{scripts.APOSTROPHES}]", "'")
    text = tf.strings.regex_replace(text, f"[{scripts.HYPHENS}]", "-")
    for parts, whole in scripts.TAKEN_APART.items():
        text = tf.strings.regex_replace(text, parts, whole)
    text = tf.strings.regex_replace(text, _UNSPACED_TOKEN, r" \0 ")
    pieces = tf_text.regex_split(text, _WORD, keep_delim_regex_pattern=_WORD)
    is_word = tf.strings.regex_full_match(pieces.flat_values, _WORD)
    return tf.ragged.boolean_mask(pieces, pieces.with_flat_values(is_word))


def detokenize(words: tf.Tensor) -> tf.Tensor:
    """Joins words to captions, without spaces in scripts that have none. Core ops only.

    Args:
      words: Words, string [..., T]; empty strings stand for nothing.

    Returns:
      Captions, string [...].
    """
    text = tf.strings.reduce_join(words, axis=-1, separator=" ")
    text = tf.strings.strip(tf.strings.regex_replace(text, " +", " "))
    # Matches do not overlap, so every second gap is left by the first pass.
    for _ in range(2):
        text = tf.strings.regex_replace(
            text, rf"({_UNSPACED_TOKEN}) ([{scripts.UNSPACED}])", r"\1\2"
        )
    return text
