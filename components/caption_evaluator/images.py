"""The split that is evaluated: references and facts of every image."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import tensorflow as tf
from tfx.types import Artifact, artifact_utils
from tfx.utils import io_utils

LOG = logging.getLogger("captioner.caption_evaluator")

_RAW_FEATURES = {
    "image/id": tf.io.FixedLenFeature([], tf.string),
    "image/encoded": tf.io.FixedLenFeature([], tf.string),
    "image/source": tf.io.FixedLenFeature([], tf.string, default_value=""),
    "caption/text": tf.io.RaggedFeature(tf.string),
}
# Enough for a mean, and what libjpeg can decode to without a full inverse transform.
_BRIGHTNESS_SIZE = (32, 32)


@dataclass(frozen=True)
class TestImage:
    """One image of the evaluated split, without its pixels.

    Attributes:
      image_id: Id of the raw example.
      references: Reference captions, raw text, at least one.
      source: Data set the image is from.
      width: Pixels.
      height: Pixels.
      brightness: Mean luma, 0 to 255.
    """

    __test__ = False  # its name looks like a test class to pytest

    image_id: str
    references: tuple[str, ...]
    source: str
    width: int
    height: int
    brightness: float


@dataclass(frozen=True)
class EvaluatedSplit:
    """The images that are scored, and those that nobody could have captioned.

    Attributes:
      images: By id, in the order of the records.
      undecodable: Image id to why it was left out of captions and scores.
    """

    images: dict[str, TestImage]
    undecodable: dict[str, str]

    @property
    def references(self) -> dict[str, tuple[str, ...]]:
        """Image id to reference captions."""
        return {image_id: image.references for image_id, image in self.images.items()}

    @property
    def fingerprint(self) -> str:
        """Scores of two models compare only where it is equal: `fingerprint_of` the references."""
        return fingerprint_of(self.references)


def fingerprint_of(captions: Mapping[str, Sequence[str]]) -> str:
    """Short hash of image ids and their captions, in any order of the images."""
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
        record["image/id"].decode(): _decode(record["caption/text"])
        for record in records.as_numpy_iterator()
    }


def read_split(files: Sequence[str]) -> EvaluatedSplit:
    """Reads references and facts of every image.

    Args:
      files: GZIP TFRecords of raw examples.

    Raises:
      ValueError: An id occurs twice, an image has no references, or no image can be decoded.
    """
    images: dict[str, TestImage] = {}
    undecodable: dict[str, str] = {}
    for record in raw_records(files).as_numpy_iterator():
        image_id = record["image/id"].decode()
        if image_id in images or image_id in undecodable:
            raise ValueError(f"Image {image_id!r} occurs twice in the evaluated split.")
        references = _decode(record["caption/text"])
        if not references:
            raise ValueError(f"Image {image_id!r} has no reference captions.")
        try:
            width, height, brightness = _look_at(record["image/encoded"])
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
            undecodable[image_id] = f"{type(error).__name__}: {error}"
            LOG.warning("%s cannot be decoded and is not scored: %s", image_id, error)
            continue
        source = record["image/source"].decode()
        images[image_id] = TestImage(image_id, references, source, width, height, brightness)
    if not images:
        raise ValueError(
            f"None of the {len(undecodable)} images of the evaluated split can be decoded."
        )
    return EvaluatedSplit(images, undecodable)


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


def _look_at(encoded: bytes) -> tuple[int, int, float]:
    """Width, height and mean luma of an encoded image."""
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        width, height = image.size
        image.draft("L", _BRIGHTNESS_SIZE)
        luma = image.convert("L").resize(_BRIGHTNESS_SIZE, PIL.Image.Resampling.BOX)
        return width, height, float(np.asarray(luma, dtype=np.float32).mean())


def _decode(texts: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(text.decode("utf-8", errors="replace") for text in texts)
