"""One shard of examples in, one shard of featurized examples out."""

from __future__ import annotations

import dataclasses
import logging
import posixpath
import uuid
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tfx.dsl.io import fileio

from tfx_captioner.models import images
from tfx_captioner.models.data_config import EncoderConfig
from tfx_captioner.models.encoders import build_encoder
from tfx_captioner.progress import ProgressLog

LOG = logging.getLogger("captioner.components")
IMAGE_ID, IMAGE = "image/id", "image/encoded"
FEATURES, MEAN_FEATURES = "image/features", "image/mean_features"
# Beyond this, features of a ReLU network gain little and a fast encoder waits for zlib.
_COMPRESSION_LEVEL = 1
_NAMED_AT_MOST = 5


class FeaturizingError(ValueError):
    """An example that cannot be featurized; the message names image, split and file."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of examples and the file it becomes.

    Attributes:
      split: Split of the examples.
      source: GZIP TFRecord of examples.
      target: GZIP TFRecord to write.
      partial_prefix: Path that unfinished files begin with: outside the split's folder, where
        every file counts as data, and on the same file system.
    """

    split: str
    source: str
    target: str
    partial_prefix: str

    @property
    def where(self) -> str:
        """Split and file, as messages name them."""
        return f"split {self.split}, {posixpath.basename(self.source)}"


class Featurizer:
    """An encoder's frozen part, compiled once for one batch shape.

    Attributes:
      encoder: The encoder with its weights.
    """

    def __init__(self, config: EncoderConfig, batch_size: int) -> None:
        """Builds the encoder.

        Args:
          config: Which encoder, with which weights.
          batch_size: Images per call.

        Raises:
          EncoderError: The encoder cannot be built; see `build_encoder`.
        """
        self.encoder = build_encoder(config)
        frozen, trained = self.encoder.frozen, self.encoder.trained
        assert frozen is not None, "the component refuses what has no frozen part"
        self._batch_size = batch_size
        size = self.encoder.input_size

        @tf.function(
            input_signature=[tf.TensorSpec([batch_size, size, size, 3], tf.float32)],
            autograph=False,
        )
        def encode(pixels: tf.Tensor) -> dict[str, tf.Tensor]:
            made = grid = frozen(pixels, training=False)
            if trained is not None:
                grid = trained(made, training=False)
            means = tf.reduce_mean(grid, axis=1)
            return {
                FEATURES: tf.cast(made, tf.float16),
                MEAN_FEATURES: tf.cast(means, tf.float16),
            }

        self._encode = encode

    def featurize(self, shard: Shard) -> None:
        """Writes the featurized examples of one shard, in its order.

        The target appears when it is complete, so a second attempt at a shard, by the runner or in
        parallel, is harmless.

        Raises:
          FeaturizingError: An example has no image, one that cannot be decoded, or one the encoder
            gives no finite features for; or the file is damaged.
        """
        partial = f"{shard.partial_prefix}{uuid.uuid4().hex}"
        options = tf.io.TFRecordOptions("GZIP", compression_level=_COMPRESSION_LEVEL)
        progress = ProgressLog(LOG, f"image features: {shard.where}", "images")
        try:
            with tf.io.TFRecordWriter(partial, options) as writer:
                for records, pixels in self._batches(shard):
                    made = self._encode_some(pixels)
                    for index, record in enumerate(records.numpy()):
                        features = {key: values[index] for key, values in made.items()}
                        writer.write(_featurized(record, features, shard))
                    progress.add(len(pixels))
        except tf.errors.InvalidArgumentError as error:
            raise FeaturizingError(_diagnosis(shard, error.message)) from error
        except tf.errors.DataLossError as error:
            raise FeaturizingError(f"{shard.where} is damaged: {error.message}") from error
        progress.done()
        fileio.rename(partial, shard.target, overwrite=True)

    def _batches(self, shard: Shard) -> tf.data.Dataset:
        """Pairs of serialized examples [n] and pixels [n, S, S, 3]; decodes while others encode."""

        def with_pixels(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return record, images.decode_and_resize(_image_of(record), self.encoder.input_size)

        return (
            tf.data.TFRecordDataset(shard.source, compression_type="GZIP")
            .map(with_pixels, num_parallel_calls=tf.data.AUTOTUNE)
            .batch(self._batch_size)
            .prefetch(2)
        )

    def _encode_some(self, pixels: tf.Tensor) -> dict[str, np.ndarray]:
        """What is made of up to a batch of images; a short one is filled up with black ones."""
        missing = self._batch_size - len(pixels)
        filled = tf.pad(pixels, [[0, missing], [0, 0], [0, 0], [0, 0]]) if missing else pixels
        made = self._encode(filled)
        return {key: values.numpy()[: len(pixels)] for key, values in made.items()}


def _image_of(record: tf.Tensor) -> tf.Tensor:
    """The encoded image of a serialized example; scalar string."""
    feature = {IMAGE: tf.io.FixedLenFeature([], tf.string)}
    image = tf.io.parse_single_example(record, feature)[IMAGE]
    # What serving would set aside must not be trained on either.
    check = tf.debugging.assert_equal(
        images.is_decodable(image), True, message="neither a JPEG nor a PNG"
    )
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(image)


def _featurized(record: bytes, made: Mapping[str, np.ndarray], shard: Shard) -> bytes:
    """The example with what was made of its image in the place of it."""
    example = tf.train.Example.FromString(record)
    if not all(np.isfinite(values).all() for values in made.values()):
        raise FeaturizingError(
            f"Image {_image_id(example)} of {shard.where} has features that are not finite in "
            f"float16; the encoder's weights are damaged, or not made for it."
        )
    feature = example.features.feature
    del feature[IMAGE]
    for key, values in made.items():
        feature[key].bytes_list.value.append(values.astype("<f2").tobytes())
    return example.SerializeToString()


def _diagnosis(shard: Shard, message: str) -> str:
    """Which images of a shard fail, each tried by itself."""
    failing = []
    for record in tf.data.TFRecordDataset(shard.source, compression_type="GZIP"):
        try:
            images.decode_and_resize(_image_of(record), 1)
        except tf.errors.InvalidArgumentError as error:
            reason = error.message.splitlines()[0]
            failing.append(f"{_image_id(tf.train.Example.FromString(record.numpy()))} ({reason})")
    if not failing:
        return f"The encoder failed on {shard.where}: {message}"
    named = ", ".join(failing[:_NAMED_AT_MOST])
    more = len(failing) - _NAMED_AT_MOST
    return (
        f"Images that cannot be decoded, in {shard.where}: {named}"
        + (f" and {more} more" if more > 0 else "")
        + ". They must be set aside when the data is ingested."
    )


def _image_id(example: tf.train.Example) -> str:
    ids = example.features.feature[IMAGE_ID].bytes_list.value
    return ids[0].decode("utf-8", "replace") if ids else "without image/id"
