"""Captioners that need no model, which a model's scores are read against.

Devlin et al., "Exploring Nearest Neighbor Approaches for Image Captioning" (arXiv:1505.04467), is
why the nearest neighbour is one of them: it beat many a published model.
"""

from __future__ import annotations

import collections
import random
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tfx.types import Artifact

from tfx_captioner.components.examples import TRAIN_SPLIT, split_files

# Rows of test images whose similarities to all training images are held at once.
_BLOCK = 256


def most_frequent_caption(captions: Sequence[str]) -> str:
    """The caption that occurs most often, whatever its case."""
    counts = collections.Counter(text.strip().lower() for text in captions)
    # The alphabet decides among equals, so that the order of records does not.
    return min(counts, key=lambda text: (-counts[text], text))


def random_captions(images: Sequence[str], captions: Sequence[str], seed: int) -> dict[str, str]:
    """A caption of the train split for each image, drawn at random."""
    chance = random.Random(seed)
    return {image_id: chance.choice(captions) for image_id in images}


def nearest_captions(
    features: Artifact,
    images: Sequence[str],
    split: str,
    training_captions: Mapping[str, Sequence[str]],
    seed: int,
) -> dict[str, str]:
    """A caption of the training image that is most like each image.

    Args:
      features: Featurized Examples.
      images: Ids of the images to caption.
      split: Split they are in.
      training_captions: Captions of the train split by image id.
      seed: Seeds the choice among the captions of a training image.

    Returns:
      Image id to caption; empty where an image has no features.
    """
    chance = random.Random(seed)
    nearest = nearest_neighbours(features, images, split)
    return {image_id: chance.choice(training_captions[nearest[image_id]]) for image_id in nearest}


def nearest_neighbours(features: Artifact, images: Sequence[str], split: str) -> dict[str, str]:
    """The training image most similar to each test image, by cosine of mean encoder features.

    Args:
      features: Featurized Examples.
      images: Ids of the test images.
      split: Split they are in.

    Returns:
      Image id to the id of a training image; empty where an image has no features.
    """
    train_ids, train = _mean_features(split_files([features], TRAIN_SPLIT))
    test_ids, test = _mean_features(split_files([features], split))
    place = {image_id: row for row, image_id in enumerate(test_ids)}
    if not place.keys() >= set(images):
        return {}
    nearest: dict[str, str] = {}
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        best = np.argmax(test[[place[image_id] for image_id in block]] @ train.T, axis=1)
        nearest |= {image_id: train_ids[hit] for image_id, hit in zip(block, best, strict=True)}
    return nearest


def _mean_features(files: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Ids and mean features of unit length, float32 [images, channels]."""
    keys = ("image/id", "image/mean_features")
    wanted = {key: tf.io.FixedLenFeature([], tf.string) for key in keys}

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        example = tf.io.parse_single_example(record, wanted)
        mean = tf.io.decode_raw(example["image/mean_features"], tf.float16)
        return example["image/id"], tf.math.l2_normalize(tf.cast(mean, tf.float32))

    records = tf.data.TFRecordDataset(list(files), compression_type="GZIP")
    ids, rows = [], []
    for image_id, row in records.map(parse, num_parallel_calls=2).prefetch(64):
        ids.append(image_id.numpy().decode())
        rows.append(row.numpy())
    return ids, np.stack(rows)
