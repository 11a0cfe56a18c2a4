"""Lines that a model's scores are read against: people, and captioners that need no model.

Devlin et al., "Exploring Nearest Neighbor Approaches for Image Captioning" (arXiv:1505.04467), is
why the nearest neighbour is one of them: it beat many a published model.
"""

from __future__ import annotations

import collections
import logging
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tfx.types import Artifact

from tfx_captioner.components.caption_evaluator.images import split_files

LOG = logging.getLogger("captioner.caption_evaluator")

TRAIN_SPLIT = "train"
HUMAN = "human"
MOST_FREQUENT = "most frequent training caption"
RANDOM = "random training caption"
NEAREST = "nearest neighbour"

# Rows of test images whose similarities to all training images are held at once.
_BLOCK = 256

References = Mapping[str, Sequence[str]]
# Slice to metric to value.
SliceScores = dict[str, dict[str, float]]
Scorer = Callable[[References, Mapping[str, str]], SliceScores]


def human_rounds(references: References) -> list[tuple[dict[str, list[str]], dict[str, str]]]:
    """Each reference in its turn as the caption, the others of its image as the references.

    Images with a single reference are left out. In a round beyond an image's last reference its
    first ones come again, so that all rounds are about the same images.

    Returns:
      References and captions by image id, per round.
    """
    images = {key: texts for key, texts in references.items() if len(texts) > 1}
    rounds = []
    for number in range(max(map(len, images.values()), default=0)):
        left_out = {key: number % len(texts) for key, texts in images.items()}
        rounds.append(
            (
                {
                    key: [text for row, text in enumerate(texts) if row != left_out[key]]
                    for key, texts in images.items()
                },
                {key: texts[left_out[key]] for key, texts in images.items()},
            )
        )
    return rounds


def human_line(references: References, score: Scorer) -> SliceScores:
    """Mean scores of people against people; empty where no image has two references."""
    rounds = [score(others, captions) for others, captions in human_rounds(references)]
    if not rounds:
        return {}
    return {
        name: {
            metric: float(np.mean([scores[name][metric] for scores in rounds])) for metric in values
        }
        for name, values in rounds[0].items()
    }


def training_lines(
    images: Sequence[str],
    training_captions: Mapping[str, Sequence[str]],
    nearest: Mapping[str, str],
    seed: int,
) -> dict[str, dict[str, str]]:
    """Captions by captioners that only repeat the train split.

    Args:
      images: Ids of the images to caption.
      training_captions: Captions of the train split by image id.
      nearest: Id of the most similar training image by image id; empty where features are missing.
      seed: Seeds the choice among captions.

    Returns:
      Line to image id to caption.
    """
    chance = random.Random(seed)
    captions = [text for texts in training_captions.values() for text in texts]
    if not captions:
        return {}
    counts = collections.Counter(text.strip().lower() for text in captions)
    # The alphabet decides among equals, so that the order of records does not.
    frequent = min(counts, key=lambda text: (-counts[text], text))
    lines = {
        MOST_FREQUENT: dict.fromkeys(images, frequent),
        RANDOM: {image_id: chance.choice(captions) for image_id in images},
    }
    if nearest:
        lines[NEAREST] = {
            image_id: chance.choice(training_captions[nearest[image_id]]) for image_id in images
        }
    return lines


def nearest_neighbours(
    features: Sequence[Artifact], images: Sequence[str], split: str
) -> dict[str, str]:
    """The training image most similar to each test image, by cosine of mean encoder features.

    Args:
      features: Featurized Examples; empty where they are not connected.
      images: Ids of the test images.
      split: Split they are in.

    Returns:
      Image id to the id of a training image; empty without features.
    """
    if not features:
        return {}
    train_ids, train = _mean_features(split_files(features, TRAIN_SPLIT))
    test_ids, test = _mean_features(split_files(features, split))
    wanted = set(images)
    rows = [row for row, image_id in enumerate(test_ids) if image_id in wanted]
    nearest = {}
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        best = np.argmax(test[block] @ train.T, axis=1)
        nearest.update(
            {test_ids[row]: train_ids[hit] for row, hit in zip(block, best, strict=True)}
        )
    return nearest if len(nearest) == len(wanted) else {}


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
