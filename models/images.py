"""Encoded images to pixels, inside the graph.

The one way from bytes to pixels: featurizing, training from pixels and the exported SavedModel
all go through here, so a model is served what it was trained on. A photograph comes out as the
ingestion stores it and as a browser shows it: stood upright by its EXIF data, transparency laid on
white. Core TensorFlow ops only; a stock TensorFlow Serving binary runs them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

JPEG_SIGNATURE = b"\xff\xd8\xff"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_TYPES_WITH_ALPHA = (b"\x04", b"\x06")  # with gray, with RGB
# Larger pictures are not decoded for a request. The ingestion's default `max_pixels`.
MAX_PIXELS = 50_000_000

_JPEG_END_OF_IMAGE = b"\xff\xd9"
_JPEG_FILL = 0xFFFF
_JPEG_APP0, _JPEG_APP1, _JPEG_APP15, _JPEG_COMMENT = 0xFFE0, 0xFFE1, 0xFFEF, 0xFFFE
_EXIF_PREFIX = b"Exif\x00\x00"
# Segments or chunks that may stand before the EXIF data. Nearly always it is the first or second.
_MAX_STEPS = 64
# A start of scan, up to the number of its components.
_JPEG_SCANS = tuple(bytes([0xFF, 0xDA, 0, 6 + 2 * count, count]) for count in (1, 2, 3, 4))
# Scans of one JPEG, each of which costs a pass over all pixels; encoders write about ten.
_MAX_SCANS = 100
# Of fewer pixels times bytes, not even the most scans that fit are much work.
_FEW_PASSES = 1 << 36

_ORIENTATION, _UPRIGHT = 0x0112, 1
_SHORT_TYPES, _LONG_TYPES = (3, 8), (4, 9)  # of TIFF, unsigned and signed


def is_decodable(image_bytes: tf.Tensor) -> tf.Tensor:
    """Tells JPEG and PNG by their signature from everything else, the empty string included.

    Args:
      image_bytes: Encoded images, string tensor of any shape.

    Returns:
      bool tensor of the same shape. True is no promise: what follows the signature may be damaged.
    """
    return _starts_with(image_bytes, JPEG_SIGNATURE) | _starts_with(image_bytes, PNG_SIGNATURE)


def decode_and_resize(image_bytes: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes JPEGs or PNGs and resizes them to a square.

    The whole picture is kept and its aspect ratio is not: a caption speaks of what is at the edges
    too, which a centre crop would cut off. Resizing is bilinear with antialiasing, as in
    `keras.utils.image_dataset_from_directory` and PIL, since photographs shrink by more than two.

    Grayscale becomes three equal channels, 16 bits become eight, and transparency lies on white.
    The orientation is that of the EXIF data, in a PNG of its eXIf chunk; EXIF data that cannot be
    read, or that does not stand before the tables (JPEG) or the pixels (PNG), is ignored. What a
    truncated JPEG lacks is gray.

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
    """Decodes as `decode_and_resize` does what may be decoded, with black images for the rest.

    One bad entry must not take its neighbours in a batch with it, and core ops cannot catch a
    decoder's error. Nor must it take all the memory or time there is: by their headers alone,
    pictures of more than `MAX_PIXELS` are told apart, and JPEGs of more scans than any encoder
    writes.

    Args:
      image_bytes: Encoded images, string tensor, scalar or [N].
      size: Height and width of the result in pixels.

    Returns:
      Pair of the images, float32 [..., size, size, 3], and of whether each was decoded, bool [...].

    Raises:
      tf.errors.InvalidArgumentError: When run, at bytes that begin like a JPEG or PNG of a fair
        size and are refused all the same.
    """
    image_bytes = tf.convert_to_tensor(image_bytes)
    if image_bytes.shape.rank == 0:
        return _decode_one_or_black(image_bytes, size)
    return tf.map_fn(
        lambda one: _decode_one_or_black(one, size),
        image_bytes,
        fn_output_signature=(
            tf.TensorSpec([size, size, 3], tf.float32),
            tf.TensorSpec([], tf.bool),
        ),
    )


def _decode_one_or_black(image_bytes: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    def black() -> tuple[tf.Tensor, tf.Tensor]:
        return tf.zeros((size, size, 3)), tf.constant(False)

    def if_fair(
        is_fair: tf.Tensor, decode: Callable[[tf.Tensor, int], tf.Tensor], encoded: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.cond(is_fair, lambda: (decode(encoded, size), tf.constant(True)), black)

    def jpeg() -> tuple[tf.Tensor, tf.Tensor]:
        ended = _ended(image_bytes)
        return if_fair(_is_fair_jpeg(ended), _decode_jpeg, ended)

    return tf.cond(
        _starts_with(image_bytes, JPEG_SIGNATURE),
        jpeg,
        lambda: if_fair(_is_fair_png(image_bytes), _decode_png, image_bytes),
    )


def _decode_one(image_bytes: tf.Tensor, size: int) -> tf.Tensor:
    return tf.cond(
        _starts_with(image_bytes, PNG_SIGNATURE),
        lambda: _decode_png(image_bytes, size),
        lambda: _decode_jpeg(_ended(image_bytes), size),
    )


def _ended(image_bytes: tf.Tensor) -> tf.Tensor:
    """The JPEG with an end, whereby the decoder gives what a truncated one still holds.

    TensorFlow's own `try_recover_truncated=True` must stay off: where such a file ends in 0xFF, it
    rewinds its input for ever, and three bytes of a request would hang a model server. Complete
    JPEGs end before the marker.
    """
    return tf.strings.join([image_bytes, _JPEG_END_OF_IMAGE])


def _decode_jpeg(image_bytes: tf.Tensor, size: int) -> tf.Tensor:
    pixels = tf.io.decode_jpeg(image_bytes, channels=3, dct_method="INTEGER_ACCURATE")
    resized = _resize(pixels, size)

    def upright() -> tf.Tensor:
        exif = _find(image_bytes, 2, _read_exif_segment, head_length=4)
        return _turn(resized, _orientation(image_bytes, exif))

    # Most JPEGs have nothing before their tables but a JFIF segment; a loop costs more than that.
    begin = _beginning(image_bytes, 22)
    has_jfif = tf.strings.substr(begin, 2, 4) == b"\xff\xe0\x00\x10"
    has_tables_next = tf.strings.substr(begin, 20, 2) == b"\xff\xdb"
    return tf.cond(has_jfif & has_tables_next, lambda: resized, upright)


def _decode_png(image_bytes: tf.Tensor, size: int) -> tf.Tensor:
    def find(name: bytes) -> _Found:
        begin = len(PNG_SIGNATURE)
        return _find(image_bytes, begin, lambda head: _read_chunk(head, name), head_length=8)

    # Alpha is asked for only where there is some: to fewer than eight bits TensorFlow adds a wrong
    # one.
    colour_type = tf.strings.substr(_beginning(image_bytes, 26), 25, 1)
    has_alpha = tf.reduce_any(colour_type == _PNG_TYPES_WITH_ALPHA) | (find(b"tRNS").length >= 0)
    resized = tf.cond(
        has_alpha,
        lambda: _lay_on_white(tf.io.decode_png(image_bytes, channels=4), size),
        lambda: _resize(tf.io.decode_png(image_bytes, channels=3), size),
    )
    return _turn(resized, _orientation(image_bytes, find(b"eXIf")))


def _lay_on_white(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes RGBA, uint8, to RGB."""
    colours, alpha = tf.cast(pixels[..., :3], tf.uint16), tf.cast(pixels[..., 3:], tf.uint16)
    # Resizing is linear: the white behind is added where there are few pixels left.
    return _resize(colours * alpha, size) / 255.0 + (255.0 - _resize(alpha, size))


def _resize(pixels: tf.Tensor, size: int) -> tf.Tensor:
    return tf.image.resize(pixels, (size, size), method="bilinear", antialias=True)


def _is_fair_png(image_bytes: tf.Tensor) -> tf.Tensor:
    """Whether bytes are a PNG that says that it has a number of pixels that may be decoded."""
    begin = _beginning(image_bytes, 24)
    # The length and the name of the first chunk, which has to be the header; width; height.
    numbers = tf.io.decode_raw(begin, tf.int32, little_endian=False)
    width, height = tf.cast(numbers[4], tf.int64), tf.cast(numbers[5], tf.int64)
    is_png = _starts_with(begin, PNG_SIGNATURE + b"\x00\x00\x00\x0dIHDR")
    return is_png & (width > 0) & (height > 0) & (width * height <= MAX_PIXELS)


def _is_fair_jpeg(image_bytes: tf.Tensor) -> tf.Tensor:
    """Whether a JPEG has a number of pixels, and of scans, that may be decoded."""
    # By the decoder's own library, so that no file means one size here and another there.
    height, width, _ = tf.unstack(tf.io.extract_jpeg_shape(image_bytes, tf.int64))
    pixels = height * width
    return (pixels <= MAX_PIXELS) & tf.cond(
        pixels * _length(image_bytes) <= _FEW_PASSES,
        lambda: tf.constant(True),
        lambda: _count_scans(image_bytes) <= _MAX_SCANS,
    )


def _count_scans(image_bytes: tf.Tensor) -> tf.Tensor:
    pieces = [tf.strings.split(image_bytes, start) for start in _JPEG_SCANS]
    return tf.add_n([tf.size(parts) - 1 for parts in pieces])


class _Found(NamedTuple):
    """The content of a segment of a JPEG or of a chunk of a PNG; int64 scalars.

    Attributes:
      place: Where it begins.
      length: Its bytes; -1 where nothing was found.
    """

    place: tf.Tensor
    length: tf.Tensor


def _find(
    image_bytes: tf.Tensor,
    begin: int,
    read: Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    head_length: int,
) -> _Found:
    """Goes from segment to segment, or from chunk to chunk.

    Args:
      image_bytes: The encoded image, scalar string.
      begin: Where the first of them begins.
      read: From the first eight bytes of one, int64, to how far it is to the next, 0 where there is
        no sense in going on, and to how long the content is if it is what is looked for, else -1.
      head_length: Bytes before the content of each.
    """
    last = _length(image_bytes) - 8

    def is_open(place: tf.Tensor, to_next: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        return (to_next > 0) & (length < 0) & (place + to_next <= last)

    def step(place: tf.Tensor, to_next: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        place += to_next
        head = tf.io.decode_raw(tf.strings.substr(image_bytes, place, 8), tf.int64, False)
        return place, *read(head[0])

    start = tuple(tf.constant(number, tf.int64) for number in (0, begin, -1))
    place, _, length = tf.while_loop(
        is_open, step, start, maximum_iterations=_MAX_STEPS, parallel_iterations=1
    )
    return _Found(place + head_length, length)


def _read_exif_segment(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of a JPEG: marker, length with its own two bytes, begin of the content."""
    marker, length = _bits(head, 48, 16), _bits(head, 32, 16)
    may_precede = (marker >= _JPEG_APP0) & (marker <= _JPEG_APP15) | (marker == _JPEG_COMMENT)
    to_next = tf.where(may_precede, length + 2, tf.cast(marker == _JPEG_FILL, tf.int64))
    is_exif = (marker == _JPEG_APP1) & (_bits(head, 0, 32) == int.from_bytes(b"Exif", "big"))
    return to_next, tf.where(is_exif & (length >= 2), length - 2, -1)


def _read_chunk(head: tf.Tensor, wanted: bytes) -> tuple[tf.Tensor, tf.Tensor]:
    """Of a PNG: length of the content alone, name."""
    length, name = _bits(head, 32, 32), _bits(head, 0, 32)
    has_pixels = name == int.from_bytes(b"IDAT", "big")
    to_next = tf.where(has_pixels, tf.constant(0, tf.int64), length + 12)
    return to_next, tf.where(name == int.from_bytes(wanted, "big"), length, -1)


def _bits(number: tf.Tensor, shift: int, width: int) -> tf.Tensor:
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(number, shift), (1 << width) - 1)


def _orientation(image_bytes: tf.Tensor, exif: _Found) -> tf.Tensor:
    """Orientation of an encoded image, scalar int32 in 1..8."""
    return tf.cond(
        exif.length > 0,
        lambda: _read_exif(tf.strings.substr(image_bytes, *exif)),
        lambda: tf.constant(_UPRIGHT),
    )


def _read_exif(exif: tf.Tensor) -> tf.Tensor:
    """Orientation by EXIF data, scalar string; upright where they cannot be read."""
    for _ in range(2):  # there are writers who put the prefix before it once too often
        prefix = len(_EXIF_PREFIX) * tf.cast(_starts_with(exif, _EXIF_PREFIX), tf.int64)
        exif = tf.strings.substr(exif, prefix, _length(exif))
    is_little, is_big = _starts_with(exif, b"II*\0"), _starts_with(exif, b"MM\0*")
    is_tiff = (is_little | is_big) & (_length(exif) >= 8)
    return tf.cond(is_tiff, lambda: _read_tiff(exif, is_little), lambda: tf.constant(_UPRIGHT))


def _read_tiff(tiff: tf.Tensor, is_little: tf.Tensor) -> tf.Tensor:
    """Orientation by the first directory of a TIFF's head, of eight bytes or more."""

    def words(begin: tf.Tensor | int, number: tf.Tensor | int) -> tf.Tensor:
        """Numbers of 16 bits, int64 [number]."""
        content = tf.strings.substr(tiff, tf.cast(begin, tf.int64), tf.cast(2 * number, tf.int64))
        little = tf.io.decode_raw(content, tf.uint16, little_endian=True)
        big = tf.io.decode_raw(content, tf.uint16, little_endian=False)
        return tf.cast(tf.where(is_little, little, big), tf.int64)

    def longs(pairs: tf.Tensor) -> tf.Tensor:
        """Numbers of 32 bits by their words, [..., 2]."""
        first, second = tf.unstack(pairs, 2, axis=-1)
        return tf.where(is_little, first + second * 65536, first * 65536 + second)

    # A directory is a number of entries, and those: tag, type, count, value or place of the values.
    end = _length(tiff)
    begin = tf.minimum(longs(words(4, 2)), end - 2)
    number = tf.minimum(words(begin, 1)[0], (end - begin - 2) // 12)
    entries = tf.reshape(words(begin + 2, 6 * number), [-1, 6])
    tags, types, counts = entries[:, 0], entries[:, 1], longs(entries[:, 2:4])
    is_short = tf.reduce_any(types[:, None] == _SHORT_TYPES, axis=1) & (counts <= 2)
    is_long = tf.reduce_any(types[:, None] == _LONG_TYPES, axis=1) & (counts <= 1)
    is_found = (tags == _ORIENTATION) & (is_short | is_long) & (counts > 0)
    values = tf.where(is_short, entries[:, 4], longs(entries[:, 4:]))
    last = tf.concat([[_UPRIGHT], values[is_found]], axis=0)[-1]
    return tf.cast(tf.where((last >= 1) & (last <= 8), last, _UPRIGHT), tf.int32)


def _turn(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Stands a square picture upright, float32 [S, S, 3].

    Of a square that costs next to nothing, and gives what turning before resizing would.
    """

    def change(pixels: tf.Tensor, how: Callable, orientations: tuple[int, ...]) -> tf.Tensor:
        concerned = tf.reduce_any(orientation == orientations)
        return tf.cond(concerned, lambda: how(pixels), lambda: pixels)

    def turned() -> tf.Tensor:
        result = change(pixels, lambda one: tf.transpose(one, [1, 0, 2]), (5, 6, 7, 8))
        result = change(result, lambda one: tf.reverse(one, axis=[1]), (2, 3, 6, 7))
        return change(result, lambda one: tf.reverse(one, axis=[0]), (3, 4, 7, 8))

    return tf.cond(orientation == _UPRIGHT, lambda: pixels, turned)


def _beginning(text: tf.Tensor, length: int) -> tf.Tensor:
    """The first bytes, with zeros in the place of those that there are not."""
    padded = tf.strings.join([tf.strings.substr(text, 0, length), bytes(length)])
    return tf.strings.substr(padded, 0, length)


def _length(text: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.strings.length(text), tf.int64)


def _starts_with(text: tf.Tensor, beginning: bytes) -> tf.Tensor:
    return tf.equal(tf.strings.substr(text, 0, len(beginning)), beginning)
