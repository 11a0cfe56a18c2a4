"""`preprocessing_fn` through tf.Transform, from raw examples to the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from tfx_captioner.models.data_config import UNKNOWN_ID
from tfx_captioner.models.preprocessing import preprocessing_fn
from tfx_captioner.models.vocabulary import load_vocabulary

RAW_SPEC = {
    "image/id": tf.io.FixedLenFeature([1], tf.string),
    "image/encoded": tf.io.FixedLenFeature([1], tf.string),
    "image/height": tf.io.FixedLenFeature([1], tf.int64),
    "image/width": tf.io.FixedLenFeature([1], tf.int64),
    "image/source": tf.io.FixedLenFeature([1], tf.string),
    "caption/text": tf.io.VarLenFeature(tf.string),
}


def _raw(name: str, captions: list[str]) -> dict[str, Any]:
    return {
        "image/id": [name.encode()],
        "image/encoded": [b"\xff\xd8 not text \x00"],
        "image/height": [4],
        "image/width": [6],
        "image/source": [b"test"],
        "caption/text": [caption.encode() for caption in captions],
    }


TRAIN = [
    _raw("1", ["A dog runs .", "a DOG sits on a dog"]),
    _raw("2", ["the cat sits"]),
    _raw("3", ["A cat and the dog"]),
]


def _transform(
    train: list[dict], other: list[dict], out: Path, **text: int
) -> tuple[list[dict], list[dict]]:
    """Analyses `train` alone, applies to both; returns transformed rows as plain lists."""
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(RAW_SPEC))
    with tft_beam.Context(temp_dir=str(out / "tmp")):
        (rows, _), transform_fn = (train, metadata) | tft_beam.AnalyzeAndTransformDataset(
            lambda inputs: preprocessing_fn(inputs, {"text": text})
        )
        other_rows, _ = ((other, metadata), transform_fn) | tft_beam.TransformDataset()
        transform_fn | tft_beam.WriteTransformFn(str(out / "graph"))
    return rows, other_rows


@pytest.fixture(scope="module")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list, list, Path]:
    out = tmp_path_factory.mktemp("transform")
    other = [_raw("9", ["a bird sits", "one two three four five a"])]
    rows, other_rows = _transform(
        TRAIN, other, out, max_caption_length=6, min_word_count=2, max_vocabulary_size=100
    )
    return rows, other_rows, out / "graph"


def test_vocabulary_is_by_frequency_from_train_alone(transformed: tuple) -> None:
    vocabulary = load_vocabulary(str(transformed[2]))
    # a: 4, dog: 4, then two each; "bird", "one" ... are not in the train split at all.
    assert vocabulary.tokens[:4] == ("<pad>", "<start>", "<end>", "<unk>")
    assert set(vocabulary.tokens[4:6]) == {"a", "dog"}
    assert set(vocabulary.tokens[6:]) == {"the", "cat", "sits"}
    assert vocabulary.size == 9


def test_token_ids_follow_the_contract(transformed: tuple) -> None:
    rows, _, graph = transformed
    vocabulary = load_vocabulary(str(graph))
    ids = {word: index for index, word in enumerate(vocabulary.tokens)}
    first = next(row for row in rows if list(row["image/id"]) == [b"1"])
    u = UNKNOWN_ID
    assert list(first["caption/token_ids"]) == [
        *(1, ids["a"], ids["dog"], u, 2, 0),
        *(1, ids["a"], ids["dog"], ids["sits"], u, 2),  # cut, with its end token
    ]
    assert list(first["caption/length"]) == [5, 6]


def test_unseen_words_are_unknown(transformed: tuple) -> None:
    _, (row,), graph = transformed
    ids = {word: i for i, word in enumerate(load_vocabulary(str(graph)).tokens)}
    u = UNKNOWN_ID
    assert list(row["caption/token_ids"]) == [
        *(1, ids["a"], u, ids["sits"], 2, 0),
        *(1, u, u, u, u, 2),
    ]
    assert list(row["caption/length"]) == [5, 6]


def test_raw_features_pass_through(transformed: tuple) -> None:
    rows, _, _ = transformed
    row = next(row for row in rows if list(row["image/id"]) == [b"2"])
    assert list(row["image/encoded"]) == [b"\xff\xd8 not text \x00"]
    assert list(row["image/height"]) == [4]
    assert list(row["image/width"]) == [6]
    assert list(row["image/source"]) == [b"test"]
    assert list(row["caption/text"]) == [b"the cat sits"]


def test_written_rows_are_flat_int64_lists(transformed: tuple) -> None:
    spec = tft.TFTransformOutput(str(transformed[2])).transformed_feature_spec()
    assert spec["caption/token_ids"] == tf.io.VarLenFeature(tf.int64)
    assert spec["caption/length"] == tf.io.VarLenFeature(tf.int64)


def test_vocabulary_cap(tmp_path: Path) -> None:
    _transform(
        TRAIN, TRAIN, tmp_path, max_caption_length=6, min_word_count=1, max_vocabulary_size=2
    )
    assert set(load_vocabulary(str(tmp_path / "graph")).tokens[4:]) == {"a", "dog"}


def test_empty_vocabulary_is_an_error(tmp_path: Path) -> None:
    _transform(TRAIN, TRAIN, tmp_path, min_word_count=50)
    with pytest.raises(ValueError, match=r"text\.min_word_count"):
        load_vocabulary(str(tmp_path / "graph"))
