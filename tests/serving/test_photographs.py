"""What a model is sent of a file looks to it as what the ingestion stores of the same file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfx_captioner.ingestion.pictures import prepare_picture
from tfx_captioner.models import images
from tfx_captioner.serving.photographs import as_seen, find_photographs, prepare_photograph


def _scene(mode: str = "RGB") -> Image.Image:
    """A picture that no rotation or reflection leaves as it is."""
    y, x = np.mgrid[0:40, 0:60]
    rgb = np.stack([4 * x, 6 * y, 200 * ((x > 40) & (y < 12))], axis=-1).astype(np.uint8)
    image = Image.fromarray(rgb)
    if mode == "RGBA":
        image.putalpha(Image.fromarray((255 * (x > 20)).astype(np.uint8)))
    elif mode == "LA":
        image = image.convert("LA")
        image.putalpha(Image.fromarray((2 * x).astype(np.uint8)))
    elif mode == "I;16":
        return Image.fromarray((900 * x + 300 * y).astype(np.uint16))
    elif mode != "RGB":
        image = image.convert(mode)
    return image


def _encode(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _turned(orientation: int, form: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _encode(_scene(), form, exif=exif)


CASES = {
    **{f"JPEG, orientation {number}": _turned(number) for number in range(1, 9)},
    "PNG, orientation 6": _turned(6, "PNG"),
    "WebP, orientation 8": _turned(8, "WEBP"),
    "JPEG, no such orientation": _turned(9),
    "gray JPEG": _encode(_scene("L"), "JPEG"),
    "CMYK": _encode(_scene("CMYK"), "JPEG"),
    "PNG": _encode(_scene(), "PNG"),
    "alpha": _encode(_scene("RGBA"), "PNG"),
    "gray and alpha": _encode(_scene("LA"), "PNG"),
    "16 bit": _encode(_scene("I;16"), "PNG"),
    "palette": _encode(_scene("P"), "PNG"),
    "transparent palette": _encode(_scene("P"), "PNG", transparency=0),
    "black and white": _encode(_scene("1"), "PNG"),
    "WebP": _encode(_scene(), "WEBP"),
    "WebP with alpha": _encode(_scene("RGBA"), "WEBP", lossless=True),
    "GIF": _encode(_scene("P"), "GIF"),
    "GIF with transparency": _encode(_scene("P"), "GIF", transparency=3),
    "BMP": _encode(_scene(), "BMP"),
    "AVIF": _encode(_scene(), "AVIF"),
    "AVIF, orientation 5": _turned(5, "AVIF"),
    "AVIF with alpha": _encode(_scene("RGBA"), "AVIF"),
}
# What the graph itself sees as a person does.
SENT_AS_THEY_ARE = {
    name for name in CASES if not name.startswith(("CMYK", "WebP", "GIF", "BMP", "AVIF"))
}


@pytest.mark.parametrize("name", CASES)
def test_one_picture_is_the_same_on_both_roads(name: str) -> None:
    data = CASES[name]
    stored = prepare_picture(data, max_pixels=10**6, min_side=1).encoded
    sent = prepare_photograph(data)
    seen, expected = images.decode_and_resize(tf.constant([sent, stored]), 20).numpy()
    if name in SENT_AS_THEY_ARE:
        assert sent == data
        # What the ingestion turned it encoded once more.
        np.testing.assert_allclose(seen, expected, atol=4.0 if "JPEG" in name else 1.0)
    else:
        assert sent == stored


def test_a_picture_is_drawn_as_the_graph_sees_it() -> None:
    for name in sorted(SENT_AS_THEY_ARE):
        with Image.open(io.BytesIO(CASES[name])) as opened:
            seen = as_seen(opened).convert("RGB")
        drawn = images.decode_and_resize(_encode(seen, "PNG"), 20)
        np.testing.assert_allclose(
            drawn, images.decode_and_resize(CASES[name], 20), atol=1.0, err_msg=name
        )


@pytest.mark.parametrize("data", [b"", b"no picture", CASES["PNG"][:60], b"\x89PNG\r\n\x1a\n"])
def test_what_cannot_be_read_is_left_to_the_server(data: bytes) -> None:
    assert prepare_photograph(data) == data


def test_a_picture_of_too_many_pixels_is_refused() -> None:
    header = bytearray(CASES["BMP"])
    header[18:26] = (50_000).to_bytes(4, "little") * 2
    with pytest.raises(ValueError, match="decompression bomb"):
        prepare_photograph(bytes(header))


def test_a_picture_that_no_model_would_decode_is_not_sent() -> None:
    with pytest.raises(ValueError, match="10000 x 5001 pixels are more than 50,000,000"):
        prepare_photograph(_encode(Image.new("1", (10_000, 5_001)), "PNG"))


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_named(brand: bytes) -> None:
    with pytest.raises(ValueError, match="HEIC has to be converted to JPEG"):
        prepare_photograph(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(99))


def test_orientation_is_that_of_exif_alone() -> None:
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    data = _encode(_scene(), "WEBP", lossless=True, xmp=xmp)
    assert Image.open(io.BytesIO(data)).getexif()[0x0112] == 6
    sent = Image.open(io.BytesIO(prepare_photograph(data)))
    assert sent.size == _scene().size


def test_a_folder_is_searched_for_photographs(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.webp", "d.heic", "README", ".e.jpg", "__MACOSX/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    album = find_photographs(tmp_path)
    assert [path.name for path in album.photographs] == ["a.png", "b.JPG", "c.webp"]
    assert album.say_left_out().startswith(
        "left out 4 files (1 .heic, 2 hidden, 1 without a suffix); photographs are .jpg"
    )
    assert album.say_left_out().endswith("; HEIC has to be converted to JPEG before")
    assert find_photographs(tmp_path / "nothing").say_left_out() == ""
