"""The split that is evaluated: references and facts of every image."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image

from tfx_captioner.components.examples import decode_texts, raw_records

LOG = logging.getLogger("captioner.reference_scorer")

# Enough for a mean, and what libjpeg can decode to without a full inverse transform.
_BRIGHTNESS_SIZE = (32, 32)


@dataclass(frozen=True)
class EvaluatedImage:
    """One image of the evaluated split, without its pixels.

    Attributes:
      image_id: Id of the raw example.
      references: Reference captions, raw text, at least one.
      source: Data set the image is from.
      width: Width in pixels.
      height: Height in pixels.
      brightness: Mean luma, 0 to 255.
    """

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
      images: Images by id, in the order of the records.
      undecodable: Image id to why it is left out of the scores.
      captions: References of all images by id, those that are left out included.
    """

    images: dict[str, EvaluatedImage]
    undecodable: dict[str, str]
    captions: dict[str, tuple[str, ...]]

    @property
    def references(self) -> dict[str, tuple[str, ...]]:
        """References of the images that are scored, by image id."""
        return {image_id: image.references for image_id, image in self.images.items()}


def read_split(files: Sequence[str]) -> EvaluatedSplit:
    """Reads references and facts of every image.

    Args:
      files: GZIP TFRecords of raw examples.

    Raises:
      ValueError: An id occurs twice, an image has no references, or no image can be decoded.
    """
    split = EvaluatedSplit({}, {}, {})
    for record in raw_records(files).as_numpy_iterator():
        image_id = record["image/id"].decode()
        if image_id in split.captions:
            raise ValueError(f"Image {image_id!r} occurs twice in the evaluated split.")
        references = decode_texts(record["caption/text"])
        if not references:
            raise ValueError(f"Image {image_id!r} has no reference captions.")
        split.captions[image_id] = references
        try:
            width, height, brightness = _look_at(record["image/encoded"])
        except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
            split.undecodable[image_id] = f"{type(error).__name__}: {error}"
            LOG.warning("%s cannot be decoded and is not scored: %s", image_id, error)
            continue
        source = record["image/source"].decode()
        split.images[image_id] = EvaluatedImage(
            image_id, references, source, width, height, brightness
        )
    if not split.images:
        raise ValueError(
            f"None of the {len(split.undecodable)} images of the evaluated split can be decoded."
        )
    return split


def _look_at(encoded: bytes) -> tuple[int, int, float]:
    """Width, height and mean luma of an encoded image."""
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        width, height = image.size
        image.draft("L", _BRIGHTNESS_SIZE)
        luma = image.convert("L").resize(_BRIGHTNESS_SIZE, PIL.Image.Resampling.BOX)
        return width, height, float(np.asarray(luma, dtype=np.float32).mean())
