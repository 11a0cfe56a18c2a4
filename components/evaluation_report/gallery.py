"""The images a report shows: those captioned best and worst, and some by chance."""

from __future__ import annotations

import base64
import io
import json
import os
import random
from collections.abc import Mapping, Sequence

import numpy as np
import PIL.Image
import PIL.ImageOps
import tensorflow as tf
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass
from tfx.utils import io_utils

from tfx_captioner.components.examples import encoded_images
from tfx_captioner.serving.saved_model import SavedCaptioner

GALLERY_FILE = "gallery.json"
BEST, WORST, RANDOM = "best", "worst", "random"

_THUMBNAIL = (320, 320)  # pixels, at the most
_JPEG_QUALITY = 70
_GLOW = (255, 96, 0)
# Maps flatter than this, largest to smallest weight, are those of a decoder without attention.
_FLAT = 1.05


@dataclass(frozen=True)
class Word:
    """A word of a caption and where the model looked: a PNG to lay over the thumbnail."""

    text: str
    attention: str


@dataclass(frozen=True)
class Picture:
    """One image of the gallery.

    Attributes:
      image_id: Id of the image.
      group: `BEST`, `WORST` or `RANDOM`.
      score: CIDEr-D of the caption, 0 to 10.
      caption: The candidate's.
      references: Reference captions.
      thumbnail: JPEG as a data URI.
      width: Pixels of the thumbnail.
      height: Pixels of the thumbnail.
      words: The caption's words with attention; empty where the model has none.
      baseline_caption: The baseline's, if there is one.
    """

    image_id: str
    group: str
    score: float
    caption: str
    references: tuple[str, ...]
    thumbnail: str
    width: int
    height: int
    words: tuple[Word, ...] = ()
    baseline_caption: str | None = None


_ADAPTER = TypeAdapter(list[Picture])


def choose(scores: Mapping[str, float], count: int, seed: int) -> dict[str, tuple[str, float]]:
    """Chooses images to show.

    Args:
      scores: Image id to the score of its caption.
      count: Images of each group.
      seed: Seed of the random ones, which do not depend on the scores: two models show the same.

    Returns:
      Image id to group and score; random ones first, then the worst, then the best.
    """
    chosen = dict.fromkeys(
        random.Random(seed).sample(sorted(scores), min(count, len(scores))), RANDOM
    )
    ranked = sorted(set(scores) - set(chosen), key=lambda image_id: (scores[image_id], image_id))
    chosen |= dict.fromkeys(ranked[:count], WORST)
    chosen |= dict.fromkeys(reversed(ranked[count:][-count:]), BEST)
    return {image_id: (group, scores[image_id]) for image_id, group in chosen.items()}


def make_gallery(
    files: Sequence[str],
    chosen: Mapping[str, tuple[str, float]],
    references: Mapping[str, Sequence[str]],
    captions: Mapping[str, str],
    baseline_captions: Mapping[str, str] | None,
    captioner: SavedCaptioner | None,
) -> list[Picture]:
    """Thumbnails, captions and attention of chosen images, in the order of `chosen`.

    Args:
      files: GZIP TFRecords of raw examples.
      chosen: Made by `choose`.
      references: Image id to reference captions.
      captions: Image id to the candidate's caption.
      baseline_captions: Image id to the baseline's caption.
      captioner: Model with the signature `attention`; None where it has none.
    """
    pictures = {}
    for image_id, encoded in encoded_images(files, chosen):
        group, score = chosen[image_id]
        small, (width, height) = thumbnail(encoded)
        pictures[image_id] = Picture(
            image_id,
            group,
            score,
            captions[image_id],
            tuple(references[image_id]),
            small,
            width,
            height,
            _words(encoded, captions[image_id], captioner),
            baseline_captions[image_id] if baseline_captions else None,
        )
    return [pictures[image_id] for image_id in chosen]


def write_gallery(uri: str, pictures: Sequence[Picture]) -> None:
    """Writes `gallery.json` beside a report, for pages that compare."""
    text = _ADAPTER.dump_json(list(pictures)).decode()
    io_utils.write_string_file(os.path.join(uri, GALLERY_FILE), text)


def read_gallery(uri: str) -> list[Picture]:
    """Reads `gallery.json` from the folder of a report."""
    return _ADAPTER.validate_python(
        json.loads(io_utils.read_string_file(os.path.join(uri, GALLERY_FILE)))
    )


def thumbnail(encoded: bytes) -> tuple[str, tuple[int, int]]:
    """A small JPEG of an encoded image as a data URI, and its width and height."""
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        image.draft("RGB", _THUMBNAIL)
        small = PIL.ImageOps.contain(image.convert("RGB"), _THUMBNAIL)
    out = io.BytesIO()
    small.save(out, format="JPEG", quality=_JPEG_QUALITY, optimize=True)
    return _data_uri("image/jpeg", out.getvalue()), small.size


def _words(encoded: bytes, caption: str, captioner: SavedCaptioner | None) -> tuple[Word, ...]:
    if captioner is None or not caption.strip():
        return ()
    try:
        tokens, weights = captioner.attention(encoded)
    except tf.errors.InvalidArgumentError:
        return ()
    if not tokens or (weights.max(axis=(1, 2)) <= _FLAT * weights.min(axis=(1, 2))).all():
        return ()
    return tuple(Word(token, _glow(grid)) for token, grid in zip(tokens, weights, strict=True))


def _glow(grid: np.ndarray) -> str:
    """Weights [height, width] as the opacity of one colour, a pixel per cell."""
    pixels = np.empty((*grid.shape, 4), np.uint8)
    pixels[..., :3] = _GLOW
    pixels[..., 3] = 220 * grid / max(grid.max(), np.finfo(np.float32).tiny)
    out = io.BytesIO()
    PIL.Image.fromarray(pixels, "RGBA").save(out, format="PNG")
    return _data_uri("image/png", out.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
