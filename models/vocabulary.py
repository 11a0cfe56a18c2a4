"""The vocabulary: token ids and their words."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable

import tensorflow as tf

from tfx_captioner.models.data_config import SPECIAL_TOKENS

# Name of the vocabulary asset in the transform graph.
VOCABULARY_NAME = "caption_vocabulary"


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Special tokens, then words by falling frequency in the train split.

    >>> vocabulary = Vocabulary((*SPECIAL_TOKENS, "a", "dog"))
    >>> vocabulary.size
    6
    >>> vocabulary.ids(["dog", "cat"])
    (5,)

    Attributes:
      tokens: Token of each id.
    """

    tokens: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self.tokens)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tokens in the order of their ids, in hexadecimal."""
        return hashlib.sha256("\n".join(self.tokens).encode()).hexdigest()

    def words(self, ids: tf.Tensor) -> tf.Tensor:
        """Looks up the words of ids, in the graph; special tokens become empty strings.

        Args:
          ids: Integer tensor of any shape.

        Returns:
          Words, string tensor of the same shape.
        """
        words = ("",) * len(SPECIAL_TOKENS) + self.tokens[len(SPECIAL_TOKENS) :]
        return tf.gather(tf.constant(words), ids)

    def ids(self, words: Iterable[str]) -> tuple[int, ...]:
        """Looks up the ids of those words that are in the vocabulary.

        Args:
          words: Words as they are in prepared captions.
        """
        ids = {word: index for index, word in enumerate(self.tokens)}
        return tuple(ids[word] for word in words if word in ids)


def load_vocabulary(transform_graph_path: str) -> Vocabulary:
    """Reads the vocabulary that `models.preprocessing` made.

    Args:
      transform_graph_path: Folder of a TFX `TransformGraph`.

    Raises:
      ValueError: No word of the train split is frequent enough.
    """
    import tensorflow_transform as tft

    output = tft.TFTransformOutput(transform_graph_path)
    words = [word.decode("utf-8") for word in output.vocabulary_by_name(VOCABULARY_NAME)]
    # tf.Transform writes one generated placeholder where there is nothing to write.
    if not words or (len(words) == 1 and _is_placeholder(words[0])):
        raise ValueError(
            "The train split gives an empty vocabulary: no word is seen `text.min_word_count` "
            f"times. Read from: {transform_graph_path}."
        )
    return Vocabulary(SPECIAL_TOKENS + tuple(words))


def _is_placeholder(word: str) -> bool:
    return len(word) == 36 and word.count("-") == 4
