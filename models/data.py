"""Training data: example files to batches of images with all their captions.

Each image is decoded (or its features read) once, into a memory-mapped scratch file: as fast as
memory while the page cache holds it, and still right when the data set is larger than memory.
A batch takes whole images, so the encoder and the projection of its features run once per image
and not once per caption.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from tfx_captioner.models import images
from tfx_captioner.models.config import ONE_SOURCE, SourceMix
from tfx_captioner.models.data_config import PAD_ID

logger = logging.getLogger("captioner.models")

_READ_BATCH = 32
# Tokens of a caption without words: start and end.
_EMPTY_LENGTH = 2


class CaptionData:
    """Images (or features) and token ids of one split, for any number of epochs.

    Example:

    ```python
    train = read_features(
        ["Split-train/*"],
        shape=(49, 2048),
        max_caption_length=24,
        mix=SourceMix(auxiliary=("coco",), target_share=0.4),
    )
    for epoch in range(10):
        for batch in train.epoch(batch_size=128, shuffle=(seed, epoch)):
            ...
    ```

    Attributes:
      num_images: Images with at least one caption that has words.
      num_captions: Captions that have words.
      captions_per_epoch: Captions of an epoch, those of repeated images counted again.
    """

    def __init__(
        self,
        inputs: np.ndarray,
        token_ids: np.ndarray,
        row_splits: np.ndarray,
        source: np.ndarray | None = None,
        mix: SourceMix = ONE_SOURCE,
    ):
        """Takes arrays that fit together; `read_pixels` and `read_features` make them.

        Args:
          inputs: Pixels or features, [images, ...], usually memory-mapped.
          token_ids: Captions, int32 [captions, max_caption_length], padded with 0.
          row_splits: int64 [images + 1]; the captions of image i are the rows from
            `row_splits[i]` to `row_splits[i + 1]`.
          source: Data set of each image, int32 [images]: 0 for the target, from 1 for the auxiliary
            ones of `mix` in their order; None if all are of the target.
          mix: Target and auxiliary data sets.
        """
        self._inputs = inputs
        self._token_ids = token_ids
        self._row_splits = row_splits
        self._lengths = np.sum(token_ids != PAD_ID, axis=1)
        self._source = np.zeros(len(inputs), np.int32) if source is None else source
        counts = np.diff(row_splits)
        is_target = self._source == 0
        target, auxiliary = counts[is_target].sum(), counts[~is_target].sum()
        wanted = mix.target_share / (1.0 - mix.target_share) * auxiliary
        times = max(1, round(wanted / target)) if target else 1
        self._order = np.repeat(np.arange(len(inputs)), np.where(is_target, times, 1))
        self.captions_per_epoch = int(auxiliary + times * target)
        self._images_by_source = np.bincount(self._source, minlength=1 + len(mix.auxiliary))

    @property
    def num_images(self) -> int:
        return len(self._inputs)

    @property
    def num_captions(self) -> int:
        return len(self._token_ids)

    @property
    def batch_spec(self) -> dict[str, tf.TensorSpec]:
        """Shapes and types of a batch."""
        return {
            "inputs": tf.TensorSpec([None, *self._inputs.shape[1:]], self._inputs.dtype),
            "token_ids": tf.TensorSpec([None, None], tf.int32),
            "image_index": tf.TensorSpec([None], tf.int32),
            "images": tf.TensorSpec([None], tf.int32),
            "source": tf.TensorSpec([None], tf.int32),
        }

    @property
    def images_by_source(self) -> list[int]:
        """Number of images of the target, then of each auxiliary data set in their order."""
        return self._images_by_source.tolist()

    def references(self, image: int) -> np.ndarray:
        """Token ids of the captions of image number `image`, int32 [n, max_caption_length]."""
        return self._token_ids[slice(*self._row_splits[image : image + 2])]

    def batches_per_epoch(self, batch_size: int) -> int:
        """Number of batches that `epoch` gives.

        Args:
          batch_size: Captions per batch, on the average.
        """
        return math.ceil(len(self._order) / self._images_per_batch(batch_size))

    def epoch(self, batch_size: int, shuffle: tuple[int, int] | None = None) -> tf.data.Dataset:
        """One pass over all captions.

        Args:
          batch_size: Captions per batch, on the average.
          shuffle: Seed and epoch, which together determine the order; None keeps that of the
            files.

        Returns:
          Batches with `inputs` [B, ...], `token_ids` int32 [R, T], cut to the batch's longest
          caption, `image_index` int32 [R], the image of each caption within the batch, and
          `images` int32 [B], the number of each image within the data, and `source` int32 [B], the
          data set of each image.
        """
        dataset = tf.data.Dataset.from_generator(
            lambda: self._batches(batch_size, shuffle), output_signature=self.batch_spec
        )
        options = tf.data.Options()
        # There is nothing to tune, and the end of an epoch would wait for the tuner to wake up: it
        # sleeps ever longer, so that an epoch of 21 seconds took 41.
        options.autotune.enabled = False
        return dataset.prefetch(2).with_options(options)

    def _images_per_batch(self, batch_size: int) -> int:
        return max(1, round(batch_size * len(self._order) / self.captions_per_epoch))

    def _batches(
        self, batch_size: int, shuffle: tuple[int, int] | None
    ) -> Iterator[dict[str, np.ndarray]]:
        order = self._order.copy()
        if shuffle is not None:
            np.random.default_rng(shuffle).shuffle(order)
        size = self._images_per_batch(batch_size)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            captions = [np.arange(*self._row_splits[i : i + 2]) for i in chosen]
            rows = np.concatenate(captions)
            yield {
                "inputs": self._inputs[chosen],
                "token_ids": self._token_ids[rows, : self._lengths[rows].max()],
                "image_index": np.repeat(
                    np.arange(len(chosen), dtype=np.int32), [len(rows) for rows in captions]
                ),
                "images": chosen.astype(np.int32),
                "source": self._source[chosen],
            }


def read_pixels(
    patterns: Sequence[str],
    *,
    size: int,
    max_caption_length: int,
    mix: SourceMix = ONE_SOURCE,
) -> CaptionData:
    """Reads transformed examples and decodes their images.

    Args:
      patterns: File patterns of GZIP TFRecords of transformed examples.
      size: Height and width the images are resized to; kept as uint8 RGB.
      max_caption_length: Tokens per caption, as `models.preprocessing` padded them.
      mix: Target and auxiliary data sets.

    Raises:
      ValueError: No file, no image, or examples of another kind.
    """

    def parse(example: dict[str, tf.Tensor]) -> tf.Tensor:
        pixels = images.decode_and_resize(example["image/encoded"], size)
        return tf.cast(tf.clip_by_value(tf.round(pixels), 0.0, 255.0), tf.uint8)

    return _read(patterns, "image/encoded", parse, (size, size, 3), max_caption_length, mix)


def read_features(
    patterns: Sequence[str],
    *,
    shape: tuple[int, ...],
    max_caption_length: int,
    mix: SourceMix = ONE_SOURCE,
) -> CaptionData:
    """Reads featurized examples.

    Args:
      patterns: File patterns of GZIP TFRecords of featurized examples.
      shape: Shape of the features of one image.
      max_caption_length: Tokens per caption, as `models.preprocessing` padded them.
      mix: Target and auxiliary data sets.

    Raises:
      ValueError: No file, no image, or features of another shape.
    """

    def parse(example: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.io.decode_raw(example["image/features"], tf.float16)

    return _read(patterns, "image/features", parse, shape, max_caption_length, mix)


def _read(
    patterns: Sequence[str],
    image_key: str,
    parse: Callable[[dict[str, tf.Tensor]], tf.Tensor],
    shape: tuple[int, ...],
    max_caption_length: int,
    mix: SourceMix,
) -> CaptionData:
    files = sorted(name for pattern in patterns for name in tf.io.gfile.glob(pattern))
    if not files:
        raise ValueError(f"No training files match. Received: {', '.join(patterns)}.")

    spec = {
        image_key: tf.io.FixedLenFeature([], tf.string),
        "caption/token_ids": tf.io.RaggedFeature(tf.int64),
        "image/source": tf.io.FixedLenFeature([], tf.string),
    }

    def parse_example(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(serialized, spec)
        token_ids = tf.reshape(example["caption/token_ids"], [-1, max_caption_length])
        return parse(example), tf.cast(token_ids, tf.int32), example["image/source"]

    dataset = tf.data.TFRecordDataset(files, compression_type="GZIP")
    dataset = dataset.map(parse_example, num_parallel_calls=tf.data.AUTOTUNE).prefetch(_READ_BATCH)

    numbers = {name.encode(): number for number, name in enumerate(mix.auxiliary, start=1)}
    captions: list[np.ndarray] = []
    source: list[int] = []
    # Without a name, so that it goes with the last array that maps it, however the process ends.
    scratch = tempfile.TemporaryFile(prefix="captioner-")  # noqa: SIM115
    for image, token_ids, name in dataset.as_numpy_iterator():
        if image.size != math.prod(shape):
            raise ValueError(
                f"`{image_key}` must hold {' x '.join(map(str, shape))} values for the encoder of "
                f"this model. Received: {image.size}, in {', '.join(patterns)}."
            )
        with_words = token_ids[np.sum(token_ids != PAD_ID, axis=1) > _EMPTY_LENGTH]
        if len(with_words):
            image.tofile(scratch)
            captions.append(with_words)
            source.append(numbers.get(name, 0))
    if not captions:
        raise ValueError(f"No image with a caption that has words in: {', '.join(patterns)}.")
    inputs = np.memmap(scratch, image.dtype, mode="r", shape=(len(captions), *shape))
    row_splits = np.cumsum([0] + [len(rows) for rows in captions])
    sources = np.array(source, np.int32)
    return CaptionData(inputs, np.concatenate(captions), row_splits, sources, mix)
