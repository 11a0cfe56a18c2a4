"""Raw examples, as nodes read them: files of a split, captions, encoded images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

import tensorflow as tf
from tfx.types import Artifact, artifact_utils
from tfx.utils import io_utils

TRAIN_SPLIT = "train"

_RAW_FEATURES = {
    "image/id": tf.io.FixedLenFeature([], tf.string),
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/source": tf.io.FixedLenFeature([], tf.string, default_value=""),
    "caption/text": tf.io.RaggedFeature(tf.string),
}


def fingerprint_of(captions: Mapping[str, Sequence[str]]) -> str:
    """Short hash of image ids and their captions, whatever the order of the images."""
    content = json.dumps(sorted(captions.items()), ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def split_files(examples: Sequence[Artifact], split: str) -> list[str]:
    """Record files of a split.

    Raises:
      ValueError: There is no such split, or it has no files.
    """
    splits = artifact_utils.decode_split_names(examples[0].split_names)
    if split not in splits:
        raise ValueError(f"`split` must be one of {', '.join(splits)}. Received: {split!r}.")
    files = [
        path
        for uri in artifact_utils.get_split_uris(list(examples), split)
        for path in sorted(tf.io.gfile.glob(io_utils.all_files_pattern(uri)))
    ]
    if not files:
        raise ValueError(f"Split {split!r} has no files under {examples[0].uri}.")
    return files


def raw_records(files: Sequence[str]) -> tf.data.Dataset:
    """Parsed raw examples, one dict per image, in the order of the files."""
    return tf.data.TFRecordDataset(list(files), compression_type="GZIP").map(
        lambda record: tf.io.parse_single_example(record, _RAW_FEATURES),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )


def read_captions(files: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Image id to captions, of a split whose pixels are not looked at."""
    wanted = {key: _RAW_FEATURES[key] for key in ("image/id", "caption/text")}
    records = tf.data.TFRecordDataset(list(files), compression_type="GZIP").map(
        lambda record: tf.io.parse_single_example(record, wanted)
    )
    return {
        record["image/id"].decode(): decode_texts(record["caption/text"])
        for record in records.as_numpy_iterator()
    }


def encoded_images(files: Sequence[str], wanted: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Ids and encoded bytes of some images, in the order of the files."""
    missing = set(wanted)
    for record in raw_records(files).as_numpy_iterator():
        image_id = record["image/id"].decode()
        if image_id in missing:
            missing.remove(image_id)
            yield image_id, record["image/encoded"]
        if not missing:
            return


def decode_texts(texts: Iterable[bytes]) -> tuple[str, ...]:
    """UTF-8 texts; bytes that are none become the replacement character."""
    return tuple(text.decode("utf-8", errors="replace") for text in texts)
