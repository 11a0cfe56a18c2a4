"""Encoded images to pixels, inside the graph.

The one way from bytes to pixels: featurizing, training from pixels and the exported SavedModel
all go through here, so a model is served what it was trained on. Core TensorFlow ops only; a stock
TensorFlow Serving binary runs them.
"""

from __future__ import annotations

import tensorflow as tf

JPEG_SIGNATURE = b"\xff\xd8\xff"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_END_OF_IMAGE = b"\xff\xd9"


def is_decodable(image_bytes: tf.Tensor) -> tf.Tensor:
    """Tells JPEG and PNG by their signature from everything else, the empty string included.

    Args:
      image_bytes: Encoded images, string tensor of any shape.

    Returns:
      bool tensor of the same shape. True is no promise: what follows the signature may be damaged.
    """

    def starts_with(signature: bytes) -> tf.Tensor:
        return tf.equal(tf.strings.substr(image_bytes, 0, len(signature)), signature)

    return starts_with(JPEG_SIGNATURE) | starts_with(PNG_SIGNATURE)


def decode_and_resize(image_bytes: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes JPEGs or PNGs and resizes them to a square.

    The whole picture is kept and its aspect ratio is not: a caption speaks of what is at the edges
    too, which a centre crop would cut off. Resizing is bilinear with antialiasing, as in
    `keras.utils.image_dataset_from_directory` and PIL, since photographs shrink by more than two.

    Grayscale becomes three equal channels and an alpha channel is dropped. What a truncated
    JPEG lacks is gray.

    Args:
      image_bytes: Encoded images, string tensor, scalar or [N].
      size: Height and width of the result in pixels.

    Returns:
      float32 [size, size, 3] or [N, size, size, 3], RGB in 0..255.

    Raises:
      tf.errors.InvalidArgumentError: When run, at bytes that the decoder refuses; see
        `decode_or_black`.
    """
    image_bytes = tf.convert_to_tensor(image_bytes)
    if image_bytes.shape.rank == 0:
        return _decode_one(image_bytes, size)
    return tf.map_fn(
        lambda one: _decode_one(one, size),
        image_bytes,
        fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32),
    )


def decode_or_black(image_bytes: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes as `decode_and_resize` does, with a black image wherever `is_decodable` says no.

    One bad entry must not take its neighbours in a batch with it, and core ops cannot catch a
    decoder's error.

    Args:
      image_bytes: Encoded images, string tensor, scalar or [N].
      size: Height and width of the result in pixels.

    Returns:
      Pair of the images, float32 [..., size, size, 3], and the bool mask of `is_decodable`.

    Raises:
      tf.errors.InvalidArgumentError: When run, at bytes that have a signature and are refused all
        the same.
    """
    image_bytes = tf.convert_to_tensor(image_bytes)
    decodable = is_decodable(image_bytes)
    return decode_and_resize(tf.where(decodable, image_bytes, _black_pixel()), size), decodable


def _decode_one(image_bytes: tf.Tensor, size: int) -> tf.Tensor:
    # An end-of-image marker makes the decoder give what a truncated JPEG still holds. TensorFlow's
    # own `try_recover_truncated=True` must stay off: where such a file ends in 0xFF, it rewinds its
    # input for ever, and three bytes of a request would hang a model server. Complete JPEGs, and
    # PNGs, which this kernel tells by their signature, end before the marker.
    pixels = tf.io.decode_jpeg(
        tf.strings.join([image_bytes, _JPEG_END_OF_IMAGE]),
        channels=3,
        dct_method="INTEGER_ACCURATE",
    )
    resized = tf.image.resize(pixels, (size, size), method="bilinear", antialias=True)
    return tf.ensure_shape(resized, (size, size, 3))


def _black_pixel() -> tf.Tensor:
    return tf.io.encode_png(tf.zeros((1, 1, 3), tf.uint8))
