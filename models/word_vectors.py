"""Word vectors learned from large corpora, for a decoder to start from."""

from __future__ import annotations

import gzip
from collections.abc import Collection

import numpy as np
import tensorflow as tf


def read_word_vectors(path: str, words: Collection[str], max_width: int) -> dict[str, np.ndarray]:
    """Reads the vectors of some words from a file in GloVe's text form.

    The form is a line for each word: the word and its numbers, separated by single spaces. The
    first line of word2vec's text form, two numbers, is passed over.

    Args:
      path: File of word vectors, any path of tf.io.gfile; one that ends in `.gz` is unpacked.
      words: Words to read; others are skipped without being parsed.
      max_width: Largest number of dimensions of a vector.

    Returns:
      float32 [d] by word, for those of the words that the file has.

    Raises:
      ValueError: There is no such file, a line that is wanted cannot be read, vectors differ in
        width or are wider than `max_width`, or none of the words is there.
    """
    if not tf.io.gfile.exists(path):
        raise ValueError(f"`decoder.word_vectors` must name a file. Received: {path!r}.")
    wanted, vectors, width = frozenset(words), {}, 0
    with tf.io.gfile.GFile(path, "rb") as file:
        lines = gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file
        for number, line in enumerate(lines, start=1):
            word, _, numbers = line.decode("utf-8").rstrip().partition(" ")
            if word not in wanted or (number == 1 and " " not in numbers):
                continue
            try:
                vector = np.array(numbers.split(" "), np.float32)
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is no word vector: {error}.") from error
            width = width or len(vector)
            if len(vector) != width or width > max_width:
                raise ValueError(
                    f"Vectors of {path} must all have the same width, at most the "
                    f"{max_width} of `decoder.embedding_dim`. Received: {len(vector)} numbers in "
                    f"line {number}" + (f", {width} before." if len(vector) != width else ".")
                )
            vectors[word] = vector
    if not vectors:
        raise ValueError(f"{path} has a vector for none of the {len(wanted)} words.")
    return vectors
