"""Checks pictures, and re-encodes those that TensorFlow would see otherwise than a person."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from PIL import Image

from tfx_captioner.ingestion.leaks import Appearance
from tfx_captioner.ingestion.reasons import Reason

_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF")
_PHOTOGRAPHS = ("JPEG", "MPO", "WEBP", "AVIF")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ORIENTATION, _UPRIGHT = 0x0112, 1
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG_BIT_DEPTH = 24  # offset in the file

# What Pillow's decoders raise on bytes that are no picture, or not all of one.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)


class UnusablePictureError(Exception):
    """A picture that has to be set aside.

    Attributes:
      reason: Why.
      detail: What exactly is wrong.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Picture:
    """A picture as it is stored.

    Attributes:
      encoded: JPEG or PNG bytes that decode, with three channels, to what a person sees.
      height: Of the decoded picture, in pixels.
      width: Likewise.
      appearance: What tells whether another picture looks the same.
    """

    encoded: bytes
    height: int
    width: int
    appearance: Appearance


def prepare_picture(data: bytes, *, max_pixels: int, min_side: int) -> Picture:
    """Checks the bytes of an image file, and keeps them wherever they can be kept.

    Re-encoded are: EXIF-rotated and CMYK pictures, 16 bits per channel, transparency (laid on
    white, as a browser would show it), and formats other than JPEG and PNG. Photographs become
    JPEG of quality 95, drawings PNG.

    Args:
      data: Content of the file.
      max_pixels: Larger pictures are refused by their header, before anything is decoded.
      min_side: Smallest height and width.

    Raises:
      UnusablePictureError: The bytes are no picture, or not one to train on.
    """
    if not data:
        raise UnusablePictureError(Reason.IMAGE_EMPTY, "no bytes")
    image = _open(data)
    width, height = image.size
    if width * height > max_pixels:
        raise UnusablePictureError(
            Reason.IMAGE_TOO_LARGE, f"{width} x {height} pixels; `max_pixels` is {max_pixels}"
        )
    if min(width, height) < min_side:
        raise UnusablePictureError(
            Reason.IMAGE_TOO_SMALL, f"{width} x {height} pixels; `min_side` is {min_side}"
        )
    if _seen_alike(image, data):
        decoded = _decoded(data, height, width)
        if decoded is not None:
            return Picture(data, height, width, Appearance.of(decoded))
    upright = _upright(image)
    encoded = _encode(upright, "JPEG" if image.format in _PHOTOGRAPHS else "PNG")
    decoded = _decoded(encoded, upright.height, upright.width)
    if decoded is None:
        raise UnusablePictureError(Reason.IMAGE_UNREADABLE, "TensorFlow cannot decode it")
    return Picture(encoded, upright.height, upright.width, Appearance.of(decoded))


def _open(data: bytes) -> Image.Image:
    """Reads the header."""
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise UnusablePictureError(Reason.IMAGE_TOO_LARGE, str(error)) from error
    except Image.UnidentifiedImageError as error:
        is_heic = data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS
        # Its decoders are under licences that not everybody can take.
        found = "HEIC, which has to be converted to JPEG" if is_heic else "a file of another kind"
        raise UnusablePictureError(
            Reason.IMAGE_UNREADABLE, f"not one of {', '.join(_FORMATS)}: {found}"
        ) from error
    except _DECODER_ERRORS as error:
        raise UnusablePictureError(Reason.IMAGE_UNREADABLE, str(error)) from error


def _seen_alike(image: Image.Image, data: bytes) -> bool:
    """Whether TensorFlow's decoder would see what a person sees."""
    if _turn(image) is not None:
        return False
    if image.format in ("JPEG", "MPO"):
        return image.mode in ("L", "RGB")
    return (
        image.format == "PNG"
        and image.mode in ("1", "L", "P", "RGB")
        and data[_PNG_BIT_DEPTH] <= 8
        and "transparency" not in image.info
    )


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What stands a picture upright.

    By EXIF data before the pixels, as browsers and the exported graph have it, and neither by XMP
    nor by text, which Pillow's `getexif` goes by too.
    """
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return _TURNS.get(exif.get(_ORIENTATION, _UPRIGHT))
    except (TypeError, *_DECODER_ERRORS):  # a viewer ignores what it cannot read, and so does this
        return None


def _decoded(encoded: bytes, height: int, width: int) -> np.ndarray | None:
    """The pixels as TensorFlow sees them; None where it does not see a picture of this size."""
    try:
        decoded = tf.io.decode_image(encoded, channels=3, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError:
        return None
    return decoded if decoded.shape == (height, width, 3) else None


def _upright(image: Image.Image) -> Image.Image:
    """The decoded picture as a person sees it, in gray or RGB."""
    turn = _turn(image)
    try:
        image.load()
        if turn is not None:
            image = image.transpose(turn)
    except _DECODER_ERRORS as error:
        truncated = "truncated" in str(error).lower()
        reason = Reason.IMAGE_TRUNCATED if truncated else Reason.IMAGE_UNREADABLE
        raise UnusablePictureError(reason, str(error)) from error
    if image.mode.startswith("I"):  # 16 bits of gray; Pillow's own conversion would clip them
        stored = np.asarray(image)
        levels = stored.astype(np.float64) / 257
        if "transparency" in image.info:
            levels[stored == image.info["transparency"]] = 255
        return Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _encode(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    if form == "JPEG":
        image.save(buffer, format=form, quality=95, subsampling=0)
    else:
        image.save(buffer, format=form)
    return buffer.getvalue()
