"""Photographs as people have them, for a graph that takes JPEG and PNG. Needs Pillow.

The graph itself stands a photograph upright by its EXIF data and lays it on white, so a JPEG or PNG
is sent as it is. Other formats, and CMYK, become one of them, the way the ingestion has it.
"""

from __future__ import annotations

import collections
import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")
# What an exported graph decodes at the most, and the ingestion takes by default.
MAX_PIXELS = 50_000_000
# No others: of the formats that Pillow knows, some start programs or read further files.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_SENT_AS_THEY_ARE = ("JPEG", "MPO", "PNG")
_LOSSY = ("JPEG", "MPO", "WEBP", "AVIF")
_HEIC_SUFFIXES = (".heic", ".heif")
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Its decoders are under licences that not everybody can take.
_CONVERT_HEIC = "HEIC has to be converted to JPEG before"
_MACOS = "__MACOSX"  # folder that macOS adds to an archive
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
        said = f"left out {files} ({words}); photographs are {', '.join(SUFFIXES)}"
        is_heic = any(path.suffix.lower() in _HEIC_SUFFIXES for path in self.left_out)
        return f"{said}; {_CONVERT_HEIC}" if is_heic else said


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
    """A JPEG or PNG of a photograph.

    Args:
      data: Content of an image file.

    Returns:
      `data` itself where it is a JPEG or PNG that is not in CMYK, or where Pillow cannot read it,
      which is left to the server to say.

    Raises:
      ValueError: The picture has more than `MAX_PIXELS`, or is a HEIC.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from error
    except (UnidentifiedImageError, *_DECODER_ERRORS):
        if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
            raise ValueError(_CONVERT_HEIC) from None
        return data
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS:,}")
    # In CMYK, what is ink and what is none depends on the reader.
    if image.format in _SENT_AS_THEY_ARE and image.mode != "CMYK":
        return data
    try:
        return _encode(as_seen(image), "JPEG" if image.format in _LOSSY else "PNG")
    except _DECODER_ERRORS:
        return data


def as_seen(image: Image.Image) -> Image.Image:
    """An opened photograph as the graph sees it: upright, on white, in gray or RGB.

    Raises:
      OSError, SyntaxError, ValueError: Its pixels cannot be read.
    """
    turn = _turn(image)
    image.load()
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I"):
        return image.convert("I").point(_EIGHT_BITS, "L")
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What stands a picture upright, by EXIF data and neither by XMP nor by text."""
    for other in ("xmp", "XML:com.adobe.xmp", "Raw profile type exif"):
        image.info.pop(other, None)
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, _UPRIGHT))
    except (TypeError, *_DECODER_ERRORS):  # a viewer ignores what it cannot read, and so does this
        return None


def _kind(path: Path) -> str:
    if path.name.startswith(".") or _MACOS in path.parts:
        return "hidden"
    return show(Path(path.suffix.lower())) if path.suffix else "without a suffix"


def _is_hidden(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return _MACOS in parts or any(part.startswith(".") for part in parts)


def _encode(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    if form == "JPEG":
        image.save(file, form, quality=95, subsampling=0)
    else:
        image.save(file, form)
    return file.getvalue()
