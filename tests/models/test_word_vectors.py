"""Word vectors to start from."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from tfx_captioner.models.decoders.recurrent import RecurrentDecoder
from tfx_captioner.models.word_vectors import read_word_vectors

GLOVE = "the 1 2 3\ndog -1 0.5 2e-1\n, 9 9 9\ncafé 4 5 6\n"


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.txt.gz"])
def test_the_words_wanted_are_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = GLOVE.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    vectors = read_word_vectors(str(path), ["dog", "café", "unheard-of"], max_width=4)
    assert sorted(vectors) == ["café", "dog"]
    np.testing.assert_allclose(vectors["dog"], [-1, 0.5, 0.2], rtol=1e-6)


def test_the_head_of_word2vec_is_no_vector(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("3 2\n3 0.5 1\na 1 2\n")
    vectors = read_word_vectors(str(path), ["3", "a"], max_width=2)
    np.testing.assert_allclose(vectors["3"], [0.5, 1.0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a 1 2\nb 1 two\n", "line 2 is no word vector"),
        ("a 1 2\nb 1 2 3\n", "3 numbers in line 2, 2 before"),
        ("a 1 2 3 4 5\n", "at most the 4 of `decoder.embedding_dim`. Received: 5 numbers"),
        ("c 1 2\n", "none of the 2 words"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_word_vectors(str(path), ["a", "b"], max_width=4)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must name a file. Received: '.*nowhere.txt'"):
        read_word_vectors(str(tmp_path / "nowhere.txt"), ["a"], max_width=4)


def test_embeddings_start_from_vectors_at_the_scale_of_embeddings() -> None:
    decoder = RecurrentDecoder(vocabulary_size=40, units=8, embedding_dim=16, attention="none")
    decoder.build((None, None), (None, 4, 6))
    before = decoder.embedding.embeddings.numpy()
    rng = np.random.default_rng(0)
    vectors = {token: rng.normal(3.0, 7.0, 10) for token in range(4, 30)}
    decoder.start_from(vectors)
    after = decoder.embedding.embeddings.numpy()

    known = list(vectors)
    np.testing.assert_array_equal(np.delete(after, known, axis=0), np.delete(before, known, axis=0))
    np.testing.assert_array_equal(after[known, 10:], before[known, 10:])
    np.testing.assert_allclose(after[known, :10].std(), 16**-0.5, rtol=1e-5)
    # What is alike stays alike: all vectors are moved and scaled together.
    given = np.stack(list(vectors.values()))
    centred = (given - given.mean(axis=0)) / given.std(axis=None)
    correlation = np.corrcoef(centred.ravel(), after[known, :10].ravel())[0, 1]
    assert correlation > 0.999
