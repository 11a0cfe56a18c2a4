"""Image bytes to pixels, in the graph."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfx_captioner.models import images

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
    image = Image.open(io.BytesIO(image_bytes)).convert("RGB")
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR), np.float32)


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


@pytest.mark.parametrize("image_bytes", [b"\xff\xd8\xff", b"\xff\xd8\xff\xe0 no more than that"])
def test_what_the_decoder_refuses_is_an_invalid_argument(image_bytes: bytes) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError):
        images.decode_or_black(tf.constant([image_bytes]), SIZE)
