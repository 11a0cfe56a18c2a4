"""Photographs as people have them, for a graph that takes JPEG and PNG. Needs Pillow.

What training saw is what is asked about: a photograph is stood upright by its EXIF data, and
transparency lies on white, as the ingestion has it. A JPEG or PNG that looks the same without that
is sent as it is.
"""

from __future__ import annotations

import collections
import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
# No others: of the formats that Pillow knows, some start programs or read further files.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_LOSSY = ("JPEG", "MPO", "WEBP")
_MACOS = "__MACOSX"  # folder that macOS adds to an archive
_ORIENTATION, _UPRIGHT = 0x0112, 1
_PNG_BIT_DEPTH = 24  # offset in the file
# 16 bits of gray to 8; Pillow's own conversion would clip them.
_EIGHT_BITS = [(level + 128) // 257 for level in range(1 << 16)]
# What Pillow's decoders raise on bytes that are no picture, or not all of one.
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error)


@dataclass(frozen=True)
class Album:
    """The photographs of a folder.

    Attributes:
      photographs: Files to ask about, sorted.
      left_out: The other files.
    """

    photographs: list[Path]
    left_out: list[Path]

    def say_left_out(self) -> str:
        """What was left out, in one line; empty where nothing was."""
        if not self.left_out:
            return ""
        kinds = collections.Counter(_kind(path) for path in self.left_out)
        words = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        files = "1 file" if len(self.left_out) == 1 else f"{len(self.left_out)} files"
        return f"left out {files} ({words}); photographs are {', '.join(SUFFIXES)}"


def find_photographs(folder: Path) -> Album:
    """The photographs below a folder, by their suffixes.

    What a system hides or keeps beside a photograph (`._a.jpg`, `__MACOSX/`) is none.

    Args:
      folder: Folder that is searched with all of its subfolders.
    """
    album = Album([], [])
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            continue
        is_photograph = path.suffix.lower() in SUFFIXES and not _is_hidden(path, folder)
        (album.photographs if is_photograph else album.left_out).append(path)
    return album


def show(path: Path) -> str:
    """A path as text that can be printed and written as JSON, whatever bytes its name is of."""
    return os.fsencode(path).decode("utf-8", errors="backslashreplace")


def prepare_photograph(data: bytes) -> bytes:
    """A JPEG or PNG of what a person sees.

    Args:
      data: Content of an image file.

    Returns:
      `data` itself where nothing is gained: it looks the same to TensorFlow, or Pillow cannot read
      it, which is left to the server to say.

    Raises:
      ValueError: The picture has more pixels than Pillow takes for harmless.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if _seen_alike(image, data):
                return data
            return _encode(_upright(image), "JPEG" if image.format in _LOSSY else "PNG")
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    except (UnidentifiedImageError, *_DECODER_ERRORS):
        return data


def _kind(path: Path) -> str:
    if path.name.startswith(".") or _MACOS in path.parts:
        return "hidden"
    return show(Path(path.suffix.lower())) if path.suffix else "without a suffix"


def _is_hidden(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return _MACOS in parts or any(part.startswith(".") for part in parts)


def _seen_alike(image: Image.Image, data: bytes) -> bool:
    """Whether TensorFlow's decoder sees what a person sees."""
    if _orientation(image) != _UPRIGHT:
        return False
    if image.format in ("JPEG", "MPO"):
        return image.mode in ("L", "RGB")
    return (
        image.format == "PNG"
        and image.mode in ("1", "L", "P", "RGB")
        and data[_PNG_BIT_DEPTH] <= 8
        and "transparency" not in image.info
    )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, _UPRIGHT))
    except (TypeError, *_DECODER_ERRORS):  # a viewer ignores what it cannot read, and so does this
        return _UPRIGHT


def _upright(image: Image.Image) -> Image.Image:
    """The picture in gray or RGB."""
    image.load()
    if _orientation(image) != _UPRIGHT:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return image.convert("I").point(_EIGHT_BITS, "L")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _encode(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    if form == "JPEG":
        image.save(file, form, quality=95, subsampling=0)
    else:
        image.save(file, form)
    return file.getvalue()
