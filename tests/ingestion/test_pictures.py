"""What is stored decodes, by TensorFlow, to what a person sees."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.ingestion.datasets import encoded, jpeg
from tfx_captioner.ingestion.annotations import Reason
from tfx_captioner.ingestion.pictures import Picture, UnusablePictureError, prepare_picture


def prepare(data: bytes, max_pixels: int = 1_000_000, min_side: int = 16) -> Picture:
    return prepare_picture(data, max_pixels=max_pixels, min_side=min_side)


def seen(picture: Picture) -> np.ndarray:
    """What TensorFlow sees, after a check that height and width are told rightly."""
    decoded = tf.io.decode_image(picture.encoded, channels=3, expand_animations=False).numpy()
    assert decoded.shape == (picture.height, picture.width, 3)
    return decoded


def scene(width: int = 48, height: int = 32) -> Image.Image:
    """Red top left, blue bottom right, a gradient between: no two orientations look alike."""
    rows, columns = np.mgrid[0:height, 0:width]
    red = 255 - 255 * columns // width
    blue = 255 * rows // height
    pixels = np.stack([red, np.full_like(red, 60), blue], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def assert_alike(actual: np.ndarray, expected: Image.Image, tolerance: float = 4.0) -> None:
    reference = np.asarray(expected.convert("RGB")).astype(float)
    assert actual.shape == reference.shape
    assert np.abs(actual - reference).mean() < tolerance


@pytest.mark.parametrize(
    "data",
    [
        encoded(scene(), "JPEG", quality=95),
        encoded(scene(), "JPEG", quality=95, progressive=True),
        encoded(scene().convert("L"), "JPEG", quality=95),
        encoded(scene(), "PNG"),
        encoded(scene().convert("L"), "PNG"),
        encoded(scene().convert("P"), "PNG"),
        encoded(scene().convert("1"), "PNG"),
        encoded(scene(), "MPO", save_all=True, append_images=[scene()], quality=95),
    ],
    ids=["jpeg", "progressive", "gray jpeg", "png", "gray png", "palette png", "1-bit png", "mpo"],
)
def test_bytes_are_kept_where_tensorflow_sees_the_same(data: bytes) -> None:
    picture = prepare(data)
    assert picture.encoded == data
    assert_alike(seen(picture), Image.open(io.BytesIO(data)))


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_exif_rotated_pictures_are_stored_upright(form: str, orientation: int) -> None:
    upright = scene()
    stored_as = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = prepare(encoded(upright.transpose(stored_as), form, exif=exif))
    assert (picture.width, picture.height) == upright.size
    assert_alike(seen(picture), upright)
    assert Image.open(io.BytesIO(picture.encoded)).getexif().get(0x0112, 1) == 1


def test_cmyk() -> None:
    picture = prepare(encoded(scene().convert("CMYK"), "JPEG", quality=95))
    assert_alike(seen(picture), scene())


def test_sixteen_bits_of_gray_are_scaled_not_clipped() -> None:
    levels = np.linspace(0, 65535, 48 * 32).reshape(32, 48).astype(np.uint16)
    picture = prepare(encoded(Image.fromarray(levels), "PNG"))
    np.testing.assert_allclose(seen(picture)[..., 0], levels / 257, atol=1)


def test_sixteen_bits_per_channel() -> None:
    deep = tf.cast(np.asarray(scene()), tf.uint16) * 257
    data = tf.io.encode_png(deep).numpy()
    picture = prepare(data)
    assert picture.encoded != data
    assert_alike(seen(picture), scene(), tolerance=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    image = Image.new("RGBA", (40, 30), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 20, 30))
    data = encoded(image.convert(mode), "PNG")
    pixels = seen(prepare(data))
    assert (pixels[:, :20] == 0).all()
    assert (pixels[:, 20:] == 255).all()


@pytest.mark.parametrize("form", ["GIF", "BMP", "WEBP", "AVIF"])
def test_other_formats_become_jpeg_or_png(form: str) -> None:
    data = encoded(scene(), form)
    picture = prepare(data)
    assert Image.open(io.BytesIO(picture.encoded)).format in ("JPEG", "PNG")
    assert_alike(seen(picture), Image.open(io.BytesIO(data)))


def test_first_frame_of_an_animation() -> None:
    data = encoded(scene(), "GIF", save_all=True, append_images=[Image.new("RGB", (48, 32))])
    assert_alike(seen(prepare(data)), Image.open(io.BytesIO(data)))


def test_same_bytes_give_the_same_bytes() -> None:
    data = encoded(scene().convert("CMYK"), "JPEG")
    assert prepare(data) == prepare(data)


def test_broken_exif_is_no_reason_to_reject() -> None:
    data = encoded(scene(), "JPEG", exif=b"Exif\x00\x00garbage that is no TIFF header")
    assert prepare(data).encoded == data


def test_no_such_orientation_is_no_reason_to_encode_again() -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    data = encoded(scene(), "JPEG", exif=exif)
    assert prepare(data).encoded == data


def test_orientation_is_that_of_exif_alone() -> None:
    """As browsers have it, and the exported graph."""
    xmp = b'http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation="6"/>'
    plain = encoded(scene(), "JPEG")
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + plain[2:]
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    assert prepare(data).encoded == data


def test_transparency_in_sixteen_bits_of_gray() -> None:
    levels = np.repeat([[0, 9000]], 32, axis=0).repeat(24, axis=1).astype(np.uint16)
    pixels = seen(prepare(encoded(Image.fromarray(levels), "PNG", transparency=9000)))
    assert (pixels[:, :24] == 0).all()
    assert (pixels[:, 24:] == 255).all()


def test_heic_is_named() -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
    with pytest.raises(UnusablePictureError, match="HEIC, which has to be converted to JPEG"):
        prepare(heic)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size, and has next to no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.IMAGE_EMPTY),
        (b"<html>404 Not Found</html>", Reason.IMAGE_UNREADABLE),
        (b"\xff\xd8\xff\xe0", Reason.IMAGE_UNREADABLE),
        (encoded(scene(400, 300), "JPEG", quality=95)[:2000], Reason.IMAGE_TRUNCATED),
        (encoded(scene(400, 300), "PNG")[:400], Reason.IMAGE_TRUNCATED),
        (encoded(Image.new("RGB", (15, 400)), "PNG"), Reason.IMAGE_TOO_SMALL),
        (encoded(Image.new("RGB", (1001, 1000)), "PNG"), Reason.IMAGE_TOO_LARGE),
        (png_header(30_000, 30_000), Reason.IMAGE_TOO_LARGE),
        (png_header(8_000, 8_000), Reason.IMAGE_TOO_LARGE),
    ],
    ids=[
        "empty",
        "html",
        "four bytes",
        "half a jpeg",
        "half a png",
        "small",
        "large",
        "bomb",
        "less of a bomb",
    ],
)
def test_unusable(data: bytes, reason: Reason) -> None:
    with pytest.raises(UnusablePictureError) as raised:
        prepare(data)
    assert raised.value.reason == reason
    assert raised.value.detail


def test_limits_name_themselves() -> None:
    with pytest.raises(UnusablePictureError, match=r"40 x 30 pixels; `max_pixels` is 1000"):
        prepare(jpeg((40, 30)), max_pixels=1000)
