"""Executor of the ImageFeaturizer."""

from __future__ import annotations

import json
import posixpath
from typing import Any

import apache_beam as beam
from apache_beam.utils.shared import Shared
from pydantic import TypeAdapter
from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import Artifact, artifact_utils

from tfx_captioner.components.image_featurizer.featurizing import Featurizer, Shard
from tfx_captioner.models.data_config import EncoderConfig

FILE_PREFIX = "featurized_examples"
_PARTIAL = "partial-"
_TFRECORDS_GZIP = "tfrecords_gzip"


class Executor(BaseBeamExecutor):
    """Featurizes shard by shard, on any Beam runner."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Featurizes all splits.

        Args:
          input_dict: `transformed_examples`, one Examples artifact.
          output_dict: `examples`, one Examples artifact.
          exec_properties: `encoder` (JSON of an EncoderConfig), `batch_size`.

        Raises:
          EncoderError: The encoder cannot be built, before anything is read.
          ValueError: The examples are of another format, or empty.
          FeaturizingError: An image that cannot be decoded, named with its split.
        """
        examples = artifact_utils.get_single_instance(input_dict["transformed_examples"])
        output = artifact_utils.get_single_instance(output_dict["examples"])
        config = TypeAdapter(EncoderConfig).validate_python(json.loads(exec_properties["encoder"]))
        batch_size = int(exec_properties["batch_size"])

        shards = _shards(examples, output.uri)
        # Built here as well as on the workers, so that missing weights are found before anything
        # is read; where both are one process, the handle makes them one encoder.
        handle = Shared()
        featurizer = handle.acquire(lambda: Featurizer(config, batch_size))
        with self._make_beam_pipeline() as pipeline:
            _ = (
                pipeline
                | "Shards" >> beam.Create(shards)
                | "Spread" >> beam.Reshuffle()
                | "Featurize" >> beam.ParDo(_FeaturizeShard(handle, config, batch_size))
            )
        for leftover in fileio.glob(posixpath.join(output.uri, f"{_PARTIAL}*")):
            fileio.remove(leftover)  # of a worker that died and was replaced
        _describe(output, examples, config, featurizer)


class _FeaturizeShard(beam.DoFn):
    """Featurizes one shard per element; files in, files out, so memory does not grow with it."""

    def __init__(self, handle: Shared, config: EncoderConfig, batch_size: int) -> None:
        self._handle = handle
        self._config = config
        self._batch_size = batch_size
        self._featurizer: Featurizer

    def setup(self) -> None:
        self._featurizer = self._handle.acquire(lambda: Featurizer(self._config, self._batch_size))

    def process(self, shard: Shard) -> None:
        self._featurizer.featurize(shard)


def _shards(examples: Artifact, output_uri: str) -> list[Shard]:
    """The files of all splits, each with the file it becomes."""
    _check_format(examples)
    partial_prefix = posixpath.join(output_uri, _PARTIAL)
    shards = []
    for split in artifact_utils.decode_split_names(examples.split_names):
        patterns = examples_utils.get_split_file_patterns([examples], split)
        sources = sorted(path for pattern in patterns for path in fileio.glob(pattern))
        if not sources:
            raise ValueError(f"Split {split} of {examples.uri} must hold files. Received: none.")
        folder = posixpath.join(output_uri, f"Split-{split}")
        fileio.makedirs(folder)
        for index, source in enumerate(sources):
            name = f"{FILE_PREFIX}-{index:05d}-of-{len(sources):05d}.gz"
            shards.append(Shard(split, source, posixpath.join(folder, name), partial_prefix))
    return shards


def _check_format(examples: Artifact) -> None:
    file_format = examples_utils.get_file_format(examples)
    payload = examples_utils.get_payload_format_string(examples)
    if file_format != _TFRECORDS_GZIP or payload != "FORMAT_TF_EXAMPLE":
        raise ValueError(
            f"The examples at {examples.uri} must be {_TFRECORDS_GZIP} of FORMAT_TF_EXAMPLE. "
            f"Received: {file_format} of {payload}."
        )


def _describe(
    output: Artifact, examples: Artifact, config: EncoderConfig, featurizer: Featurizer
) -> None:
    """Sets what readers of the artifact go by."""
    output.split_names = examples.split_names
    output.span = int(examples.span)
    output.version = int(examples.version)
    examples_utils.set_payload_format(output, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
    examples_utils.set_file_format(output, _TFRECORDS_GZIP)
    encoder = featurizer.encoder
    output.set_string_custom_property("encoder", encoder.name)
    output.set_string_custom_property("trained_from", config.trainable_from or "")
    output.set_int_custom_property("input_size", encoder.input_size)
    output.set_string_custom_property("shape", "x".join(map(str, encoder.frozen_shape)))
    output.set_string_custom_property("weights_sha256", encoder.weights_sha256)
