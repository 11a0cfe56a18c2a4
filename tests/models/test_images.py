"""Image bytes to pixels, in the graph."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.pictures import prepare_picture
from tfx_captioner.models import images
from tfx_captioner.serving import photographs

SIZE = 24


def blocks(seed: int = 0) -> np.ndarray:
    """A picture of large flat squares, which JPEG keeps nearly as it is; uint8 [60, 48, 3]."""
    colours = np.random.default_rng(seed).integers(0, 255, (5, 4, 3))
    return np.kron(colours, np.ones((12, 12, 1))).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def with_pillow(image_bytes: bytes) -> np.ndarray:
    """Upright, on white, resized."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(image_bytes)))
    if image.mode in ("LA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    resized = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return np.asarray(resized, np.float32)


def with_exif(exif: bytes, kind: str = "JPEG") -> bytes:
    return encoded(blocks(), kind, exif=b"Exif\0\0" + exif)


def tiff(order: str, entries: Iterable[bytes], offset: int = 8) -> bytes:
    """EXIF data of one directory; the order is "<" or ">"."""
    entries = list(entries)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", offset)
    return head + bytes(offset - 8) + struct.pack(f"{order}H", len(entries)) + b"".join(entries)


def entry(order: str, tag: int, kind: int, count: int, value: int) -> bytes:
    """An entry of a directory: numbers of 16 bits (kind 3, 8), else of 32."""
    form = "H2x" if kind in (3, 8) else "I"
    return struct.pack(f"{order}HHI{form}", tag, kind, count, value)


@pytest.mark.parametrize(
    "image_bytes",
    [
        encoded(blocks(), "JPEG"),
        encoded(blocks(), "JPEG", progressive=True),
        encoded(blocks()[..., 0], "JPEG"),
        encoded(blocks(), "PNG"),
        encoded(blocks()[..., 0], "PNG"),
        encoded(np.dstack([blocks(), blocks()[..., :1]]), "PNG"),
        encoded(Image.fromarray(blocks()).convert("P"), "PNG"),
    ],
    ids=["JPEG", "progressive", "gray JPEG", "PNG", "gray PNG", "RGBA PNG", "palette PNG"],
)
def test_same_pixels_as_pillow(image_bytes: bytes) -> None:
    pixels = images.decode_and_resize(image_bytes, SIZE)
    assert pixels.shape == (SIZE, SIZE, 3)
    assert pixels.dtype == tf.float32
    # Pillow rounds to whole numbers, twice.
    np.testing.assert_allclose(pixels, with_pillow(image_bytes), atol=2.0)


def test_batch_is_decoded_as_its_members_are() -> None:
    batch = [encoded(blocks(1), "JPEG"), encoded(blocks(2), "PNG")]
    pixels = images.decode_and_resize(tf.constant(batch), SIZE)
    for one, expected in zip(pixels, batch, strict=True):
        np.testing.assert_array_equal(one, images.decode_and_resize(expected, SIZE))
    assert images.decode_and_resize(tf.constant([], tf.string), SIZE).shape == (0, SIZE, SIZE, 3)


def test_is_decodable_goes_by_signature() -> None:
    candidates = [encoded(blocks(), "JPEG"), encoded(blocks(), "PNG"), b"", b"\xff", b"GIF89a"]
    candidates += [b"\x89PNG", b"hello", encoded(blocks(), "BMP"), b"\xff\xd8\xff"]
    expected = [True, True, False, False, False, False, False, False, True]
    np.testing.assert_array_equal(images.is_decodable(tf.constant(candidates)), expected)


def test_bad_entries_turn_black_and_spare_their_neighbours() -> None:
    good = encoded(blocks(), "JPEG")
    serve = tf.function(
        lambda batch: images.decode_or_black(batch, SIZE),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    pixels, decodable = serve(tf.constant([b"", good, b"not an image", good]))
    np.testing.assert_array_equal(decodable, [False, True, False, True])
    np.testing.assert_array_equal(pixels[0], np.zeros((SIZE, SIZE, 3)))
    np.testing.assert_array_equal(pixels[2], pixels[0])
    np.testing.assert_array_equal(pixels[1], images.decode_and_resize(good, SIZE))
    np.testing.assert_array_equal(pixels[3], pixels[1])


def test_truncated_jpeg_gives_what_is_there() -> None:
    whole = encoded(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), "JPEG")
    expected = images.decode_and_resize(whole, 64).numpy()
    pixels = images.decode_and_resize(whole[: len(whole) // 2], 64).numpy()
    np.testing.assert_array_equal(pixels[:12], expected[:12])
    np.testing.assert_allclose(pixels[-1], 128, atol=1)


@pytest.mark.timeout(60)
def test_no_truncation_hangs_the_decoder() -> None:
    """With `try_recover_truncated` TensorFlow reads some files that end in 0xFF for ever."""
    whole = encoded(blocks()[:24, :24], "JPEG")
    decode = tf.function(
        lambda image: images.decode_and_resize(image, 8),
        input_signature=[tf.TensorSpec([], tf.string)],
    )
    refused = 0
    for length in range(3, len(whole), 3):
        for tail in (b"", b"\xff"):
            try:
                assert np.all(np.isfinite(decode(tf.constant(whole[:length] + tail))))
            except tf.errors.InvalidArgumentError:
                refused += 1
    assert 0 < refused < 2 * len(whole) / 3


MANY_ENTRIES = [entry("<", tag, 3, 1, 9) for tag in range(0x0200, 0x0300)]
TURNED = entry("<", 0x0112, 3, 1, 6)
EXIF = {
    "little endian": tiff("<", [TURNED]),
    "big endian": tiff(">", [entry(">", 0x0112, 3, 1, 6)]),
    "32 bits": tiff("<", [entry("<", 0x0112, 4, 1, 6)]),
    "32 bits, big endian": tiff(">", [entry(">", 0x0112, 4, 1, 6)]),
    "signed": tiff("<", [entry("<", 0x0112, 8, 1, 6)]),
    "two values": tiff("<", [entry("<", 0x0112, 3, 2, 6)]),
    "behind many": tiff("<", [*MANY_ENTRIES, TURNED]),
    "far behind": tiff("<", [TURNED], offset=30_000),
    "twice": tiff("<", [entry("<", 0x0112, 3, 1, 3), TURNED]),
    "prefix twice": b"Exif\0\0" + tiff("<", [TURNED]),
    "no such orientation": tiff("<", [entry("<", 0x0112, 3, 1, 9)]),
    "orientation 0": tiff("<", [entry("<", 0x0112, 3, 1, 0)]),
    "large number": tiff("<", [entry("<", 0x0112, 4, 1, 0x10006)]),
    "text": tiff("<", [entry("<", 0x0112, 2, 1, 6)]),
    "a byte": tiff("<", [entry("<", 0x0112, 1, 1, 6)]),
    "no value": tiff("<", [entry("<", 0x0112, 3, 0, 6)]),
    "many values": tiff("<", [entry("<", 0x0112, 3, 1000, 6)]),
    "cut short": tiff("<", [entry("<", 0x010F, 3, 1, 6), TURNED])[:-1],
    "cut behind a whole entry": tiff("<", [TURNED, TURNED])[:-1],
    "more entries than there are": tiff("<", [TURNED]).replace(b"\x01\0\x12", b"\xff\xff\x12"),
    "another directory": tiff("<", []) + TURNED,
    "place behind the end": b"II*\0" + struct.pack("<I", 2**32 - 1) + TURNED,
    "place at the head": b"II*\0" + bytes(4) + TURNED,
    "no order": tiff("<", [TURNED]).replace(b"II", b"XX"),
    "no more than an order": b"MM\0*",
    "one byte": b"I",
    "nothing": b"",
    "garbage": b"garbage that is no TIFF header",
}


@pytest.mark.filterwarnings("ignore")  # Pillow's, of what is malformed
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("name", EXIF)
def test_exif_data_are_read_as_the_ingestion_reads_them(name: str, kind: str) -> None:
    image_bytes = with_exif(EXIF[name], kind)
    stored = prepare_picture(image_bytes, max_pixels=10**6, min_side=1).encoded
    pixels, decodable = images.decode_or_black(image_bytes, SIZE)
    assert decodable
    # The ingestion has encoded once more what it had to turn; a picture not turned is far off.
    tolerance = 6.0 if kind == "JPEG" else 0.01
    np.testing.assert_allclose(pixels, images.decode_and_resize(stored, SIZE), atol=tolerance)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_stand_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    image_bytes = encoded(blocks(), kind, exif=exif)
    pixels = images.decode_and_resize(image_bytes, SIZE)
    np.testing.assert_allclose(pixels, with_pillow(image_bytes), atol=2.0)
    as_stored = images.decode_and_resize(encoded(blocks(), kind), SIZE)
    assert (np.abs(pixels - as_stored).max() > 50) == (orientation != 1)


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">HH", 0xFF00 | marker, len(content) + 2) + content


TURNING_SEGMENT = _segment(0xE1, b"Exif\0\0" + tiff("<", [TURNED]))
BEFORE_EXIF = {
    "nothing": b"",
    "comment": _segment(0xFE, b"made by hand"),
    "XMP": _segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0 tiff:Orientation="8"'),
    "colour profile": _segment(0xE2, bytes(65_533)) * 30,
    "fill bytes": b"\xff\xff\xff",
    "empty segments": _segment(0xE5, b"") * 20,
}


@pytest.mark.parametrize("name", BEFORE_EXIF)
def test_exif_data_are_found_behind_other_segments(name: str) -> None:
    plain = encoded(blocks(), "JPEG")
    turned = plain[:2] + BEFORE_EXIF[name] + TURNING_SEGMENT + plain[2:]
    expected = np.rot90(images.decode_and_resize(plain, SIZE), -1)
    np.testing.assert_allclose(images.decode_and_resize(turned, SIZE), expected, atol=0.01)
    stored = prepare_picture(turned, max_pixels=10**6, min_side=1).encoded
    np.testing.assert_allclose(images.decode_and_resize(stored, SIZE), expected, atol=6.0)


NO_EXIF = {
    "XMP alone": BEFORE_EXIF["XMP"],
    "prefix alone": _segment(0xE1, b"Exif\0\0"),
    "less than the prefix": b"\xff\xe1\x00\x07Exif\0\0" + tiff("<", [TURNED]),
    "very far behind": _segment(0xE5, b"") * 5_000 + TURNING_SEGMENT,
}


@pytest.mark.parametrize("name", NO_EXIF)
def test_what_is_no_exif_turns_nothing(name: str) -> None:
    plain = encoded(blocks(), "JPEG")
    pixels = images.decode_and_resize(plain[:2] + NO_EXIF[name] + plain[2:], SIZE)
    np.testing.assert_array_equal(pixels, images.decode_and_resize(plain, SIZE))


@pytest.mark.parametrize("length", [b"\0\0", b"\0\1", b"\xff\xff"])
def test_a_segment_of_a_wrong_length_is_for_the_decoder_to_refuse(length: bytes) -> None:
    plain = encoded(blocks(), "JPEG")
    with pytest.raises(tf.errors.InvalidArgumentError):
        images.decode_or_black(plain[:2] + b"\xff\xe1" + length + TURNING_SEGMENT[4:], SIZE)


def _png_chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


@pytest.mark.parametrize("is_before", [True, False], ids=["before the pixels", "behind them"])
def test_exif_data_of_a_png_stand_before_the_pixels(is_before: bool) -> None:
    plain = encoded(blocks(), "PNG")
    place = plain.index(b"IDAT" if is_before else b"IEND") - 4
    chunk = _png_chunk(b"eXIf", tiff("<", [TURNED]))
    turned = plain[:place] + _png_chunk(b"tEXt", b"Title\0none") + chunk + plain[place:]
    upright = images.decode_and_resize(plain, SIZE)
    expected = np.rot90(upright, -1) if is_before else upright
    np.testing.assert_allclose(images.decode_and_resize(turned, SIZE), expected, atol=0.01)
    stored = prepare_picture(turned, max_pixels=10**6, min_side=1).encoded
    np.testing.assert_allclose(images.decode_and_resize(stored, SIZE), expected, atol=0.01)


def _deep(channels: int) -> bytes:
    levels = np.random.default_rng(1).integers(0, 1 << 16, (5, 4, channels))
    return bytes(tf.io.encode_png(np.kron(levels, np.ones((12, 12, 1))).astype(np.uint16)).numpy())


COLOURS = Image.fromarray(blocks())
GRADIENT = Image.fromarray(np.tile(np.arange(0, 240, 5, dtype=np.uint8), (60, 1)))
CLEAR = Image.merge("RGBA", (*COLOURS.split(), GRADIENT))
MODES = {
    "RGBA": encoded(CLEAR, "PNG"),
    "gray and alpha": encoded(CLEAR.convert("LA"), "PNG"),
    "palette": encoded(COLOURS.convert("P"), "PNG"),
    "palette of 2 bits": encoded(COLOURS.quantize(4), "PNG", bits=2),
    "palette of 4 bits": encoded(COLOURS.quantize(16), "PNG", bits=4),
    "transparent palette of 2 bits": encoded(COLOURS.quantize(4), "PNG", bits=2, transparency=1),
    "transparent palette": encoded(COLOURS.convert("P"), "PNG", transparency=2),
    "partly transparent palette": encoded(CLEAR.quantize(32), "PNG"),
    "transparent gray": encoded(GRADIENT, "PNG", transparency=100),
    "transparent RGB": encoded(COLOURS, "PNG", transparency=tuple(blocks()[0, 0].tolist())),
    "black and white": encoded(GRADIENT.convert("1", dither=0), "PNG"),
    "transparent black": encoded(GRADIENT.convert("1", dither=0), "PNG", transparency=0),
    "16 bits of gray": _deep(1),
    "16 bits of transparent gray": encoded(
        Image.fromarray(np.kron([[0, 9000], [30000, 65535]], np.ones((30, 24))).astype(np.uint16)),
        "PNG",
        transparency=9000,
    ),
    "16 bits of gray and alpha": _deep(2),
    "16 bits of RGB": _deep(3),
    "16 bits of RGBA": _deep(4),
    "CMYK": encoded(COLOURS.convert("CMYK"), "JPEG", quality=95),
    "gray JPEG": encoded(GRADIENT, "JPEG"),
}


# What the ingestion keeps, so that it says nothing of the colours.
TO_PILLOW_TOO = ("palette", "palette of 2 bits", "palette of 4 bits", "black and white", "CMYK")


@pytest.mark.parametrize("name", MODES)
def test_colours_are_those_that_the_ingestion_stores(name: str) -> None:
    stored = prepare_picture(MODES[name], max_pixels=10**6, min_side=1).encoded
    pixels = images.decode_and_resize(MODES[name], SIZE)
    if name in TO_PILLOW_TOO:
        np.testing.assert_allclose(pixels, with_pillow(MODES[name]), atol=2.0)
    tolerance = 6.0 if name == "CMYK" else 1.01  # encoded once more as a JPEG, or a level
    np.testing.assert_allclose(pixels, images.decode_and_resize(stored, SIZE), atol=tolerance)


def test_what_is_transparent_is_white() -> None:
    clear = encoded(Image.new("RGBA", (30, 20), (0, 0, 0, 0)), "PNG")
    assert (images.decode_and_resize(clear, SIZE).numpy() == 255).all()


def _claims(width: int, height: int) -> bytes:
    """A small PNG whose header says another size."""
    png = encoded(blocks(), "PNG")
    header = struct.pack(">II", width, height) + png[24:29]
    return png[:8] + _png_chunk(b"IHDR", header) + png[33:]


def _jpeg_claims(width: int, height: int, **options: object) -> bytes:
    jpeg = encoded(blocks(), "JPEG", **options)
    place = jpeg.index(b"\xff\xc2" if options else b"\xff\xc0") + 5
    return jpeg[:place] + struct.pack(">HH", height, width) + jpeg[place + 4 :]


JPEG = encoded(blocks(), "JPEG", progressive=True)
_LAST_SCAN = JPEG[JPEG.rindex(b"\xff\xda") :][:10]
LARGEST = 65_500
TOO_MUCH = {
    "PNG": _claims(10_000, 5_001),
    "PNG of 2 to the 31st and more": _claims(2**31 + 1, 2**31 + 1),
    "black and white PNG": encoded(Image.new("1", (12_000, 12_000)), "PNG"),
    "PNG without a width": _claims(0, 100),
    "PNG of another first chunk": b"\x89PNG\r\n\x1a\n" + _png_chunk(b"abCd", b"")
    + _claims(12_000, 12_000)[8:],
    "JPEG": _jpeg_claims(10_000, 5_001),
    "progressive JPEG": _jpeg_claims(LARGEST, LARGEST, progressive=True),
    "JPEG with junk before its size": _jpeg_claims(LARGEST, LARGEST).replace(
        b"\xff\xc0", b"\0\xff\0junk\xff\xff\xff\xc0"
    ),
    "JPEG with a small one inside": JPEG[:2] + _segment(0xE7, encoded(blocks(), "JPEG"))
    + _jpeg_claims(LARGEST, LARGEST)[2:],
    "JPEG of very many scans": _jpeg_claims(7_000, 7_000, progressive=True)[:-2]
    + 10_000 * _LAST_SCAN,
}  # fmt: skip


@pytest.mark.parametrize("name", TOO_MUCH)
def test_what_would_be_too_much_work_is_black_and_spares_its_neighbours(name: str) -> None:
    good = encoded(blocks(), "JPEG")
    pixels, decodable = images.decode_or_black(tf.constant([good, TOO_MUCH[name], good]), SIZE)
    np.testing.assert_array_equal(decodable, [True, False, True])
    np.testing.assert_array_equal(pixels[1], np.zeros((SIZE, SIZE, 3)))
    np.testing.assert_array_equal(pixels[2], images.decode_and_resize(good, SIZE))


@pytest.mark.parametrize(
    "image_bytes",
    [
        JPEG + encoded(blocks(), "JPEG"),
        encoded(np.zeros((5_000, 10_000), np.uint8), "PNG", compress_level=1),
        encoded(np.zeros((8, 65_000), np.uint8), "JPEG"),
    ],
    ids=["two in one", "as many pixels as may be", "long"],
)
def test_what_is_just_bearable_is_decoded(image_bytes: bytes) -> None:
    assert images.decode_or_black(image_bytes, SIZE)[1]


def test_the_bound_is_that_of_the_ingestion() -> None:
    assert IngestConfig().max_pixels == images.MAX_PIXELS == photographs.MAX_PIXELS


@pytest.mark.parametrize("image_bytes", [b"\xff\xd8\xff", b"\xff\xd8\xff\xe0 no more than that"])
def test_what_the_decoder_refuses_is_an_invalid_argument(image_bytes: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        images.decode_or_black(tf.constant([image_bytes]), SIZE)
