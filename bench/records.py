"""Raw examples as ImportExampleGen leaves them, for the benches of the evaluator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf
from tfx import version
from tfx.types import artifact_utils, standard_artifacts


class Record(NamedTuple):
    """One raw example: id, encoded image, data set, captions."""

    image_id: str
    encoded: bytes
    source: str
    captions: Sequence[str]


def examples_in(folder: str) -> standard_artifacts.Examples:
    """The artifact of a folder in which `write_split` wrote `train` and `test`."""
    examples = standard_artifacts.Examples()
    examples.uri = folder
    examples.split_names = artifact_utils.encode_split_names(["train", "test"])
    # Without it TFX takes the artifact for one of its first versions, with other file names.
    examples.set_string_custom_property(
        artifact_utils.ARTIFACT_TFX_VERSION_CUSTOM_PROPERTY_KEY, version.__version__
    )
    return examples


def write_split(folder: str, split: str, records: Iterable[Record]) -> None:
    """Writes the one record file of a split."""
    path = Path(folder, f"Split-{split}", "data_tfrecord-00000-of-00001.gz")
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions("GZIP")) as writer:
        for record in records:
            example = tf.train.Example()
            for name, values in (
                ("image/id", [record.image_id.encode()]),
                ("image/encoded", [record.encoded]),
                ("image/source", [record.source.encode()]),
                ("caption/text", [text.encode() for text in record.captions]),
            ):
                example.features.feature[name].bytes_list.value.extend(values)
            writer.write(example.SerializeToString())
