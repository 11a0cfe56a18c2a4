"""TFX artifacts made by hand, as a launcher would hand them to an executor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tensorflow as tf
from tfx import version
from tfx.types import Artifact, artifact_utils

AnyArtifact = TypeVar("AnyArtifact", bound=Artifact)


def make_artifact(
    kind: type[AnyArtifact], folder: Path, splits: Sequence[str] = (), artifact_id: int = 1
) -> AnyArtifact:
    """An artifact of a kind whose content lies, or will lie, in a folder."""
    artifact = kind()
    artifact.uri = str(folder)
    artifact.id = artifact_id
    # Without it TFX takes the artifact for one of its first versions, with other file names.
    artifact.set_string_custom_property(
        artifact_utils.ARTIFACT_TFX_VERSION_CUSTOM_PROPERTY_KEY, version.__version__
    )
    if splits:
        artifact.split_names = artifact_utils.encode_split_names(list(splits))
    return artifact


def raw_example(**changed: object) -> tf.train.Example:
    """A raw example by the contract; `changed` replaces features, None removes one.

    Feature names are written with `__` for the slash: `caption__text=[b"a dog"]`.
    """
    pixels = tf.constant(128, tf.uint8, shape=(32, 48, 3))
    features: dict[str, object] = {
        "image/id": [b"1.jpg"],
        "image/encoded": [tf.io.encode_jpeg(pixels).numpy()],
        "image/height": [32],
        "image/width": [48],
        "image/source": [b"flickr8k"],
        "caption/text": [b"A dog runs .", b"A brown dog ."],
    }
    features |= {name.replace("__", "/"): value for name, value in changed.items()}
    return make_example({name: value for name, value in features.items() if value is not None})


def make_example(features: Mapping[str, Any]) -> tf.train.Example:
    """An Example from lists of bytes, integers or floats."""
    example = tf.train.Example()
    for name, values in features.items():
        kind = type(values[0])
        field = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[kind]
        getattr(example.features.feature[name], field).value.extend(values)
    return example


def write_records(path: Path, examples: Sequence[tf.train.Example]) -> Path:
    """Writes a GZIP TFRecord file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for example in examples:
            writer.write(example.SerializeToString())
    return path
