"""What a training leaves: its weights, and what is needed to rebuild the model around them."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from tfx_captioner.models.captioner import Captioner, build_captioner
from tfx_captioner.models.config import RunConfig
from tfx_captioner.models.data_config import EncoderConfig, parse, to_plain
from tfx_captioner.models.encoders import Encoder, EncoderWeightsError, build_encoder
from tfx_captioner.models.vocabulary import Vocabulary

WEIGHTS_NAME = "captioner.weights.h5"
TRAINING_NAME = "training.json"


class TrainedModel(NamedTuple):
    """A trained captioner and where it comes from.

    Attributes:
      run: Settings of the training, hyper-parameters that a search found included.
      encoder: The whole encoder; what was trained of it is shared with `captioner`.
      captioner: The decoder, and the trained part of the encoder.
      facts: `key` of the training, `best_epoch`, and the scores of that epoch.
    """

    run: RunConfig
    encoder: Encoder
    captioner: Captioner
    facts: Mapping[str, Any]


def check_frozen_part(config: EncoderConfig) -> None:
    """Refuses an encoder whose frozen part could not be built again.

    Args:
      config: The encoder.

    Raises:
      EncoderWeightsError: A part of the encoder is frozen and has no weights file.
    """
    if config.has_frozen_part and config.weights is None:
        raise EncoderWeightsError(
            f"`weights` of encoder {config.name} must be given, as not all of it is trained: the "
            "frozen part is not saved with the model but built again from its weights. "
            "Received: None, which are other random weights each time."
        )


def save_trained(folder: str, trained: TrainedModel, vocabulary: Vocabulary) -> None:
    """Writes `captioner.weights.h5` and `training.json`.

    The weights are those of the decoder and of the trained part of the encoder. The frozen part is
    not copied: it is built again from its weights file, whose SHA-256 is recorded.

    Args:
      folder: Folder to write to; any path of tf.io.gfile.
      trained: The model.
      vocabulary: Words of the token ids.
    """
    tf.io.gfile.makedirs(folder)
    with tempfile.TemporaryDirectory() as local:
        # Keras writes HDF5 to local files only.
        path = Path(local, WEIGHTS_NAME)
        trained.captioner.save_weights(path)
        tf.io.gfile.copy(str(path), f"{folder}/{WEIGHTS_NAME}", overwrite=True)
    encoder = trained.encoder
    description = {
        "run": to_plain(trained.run),
        "encoder": {
            "name": encoder.name,
            "input_size": encoder.input_size,
            "weights_sha256": encoder.weights_sha256,
        },
        "vocabulary": {"size": vocabulary.size, "sha256": vocabulary.fingerprint},
        "training": dict(trained.facts),
    }
    with tf.io.gfile.GFile(f"{folder}/{TRAINING_NAME}", "w") as file:
        file.write(json.dumps(description, indent=2))


def load_trained(folder: str, vocabulary: Vocabulary) -> TrainedModel:
    """Rebuilds the model that `save_trained` wrote.

    Example:

    ```python
    vocabulary = load_vocabulary(transform_graph.uri)
    run, encoder, captioner, facts = load_trained(f"{model.uri}/Format-Serving", vocabulary)
    print(run.model_name, facts["val_cider_d"])
    ```

    Args:
      folder: Folder that was written to; any path of tf.io.gfile.
      vocabulary: Words of the token ids; those of the training.

    Raises:
      EncoderError: The encoder cannot be built, or the weights file of its frozen part is another
        one than in the training.
      ValueError: There are no weights in the folder, they do not fit the settings beside them, or
        the vocabulary is another one.
    """
    description = _read_description(folder)
    run = parse(RunConfig, description["run"])
    _check_vocabulary(vocabulary, description["vocabulary"], folder)
    encoder = _rebuild_encoder(run.model.encoder, description["encoder"]["weights_sha256"], folder)
    auxiliary_sources = len(run.trainer.source_mix.auxiliary)
    captioner = build_captioner(run.model, encoder, vocabulary.size, auxiliary_sources)
    with tempfile.TemporaryDirectory() as local:
        path = Path(local, WEIGHTS_NAME)
        tf.io.gfile.copy(f"{folder}/{WEIGHTS_NAME}", str(path))
        try:
            captioner.load_weights(path)
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"{folder}/{WEIGHTS_NAME} must hold the weights of the model that {TRAINING_NAME} "
                f"beside it describes. Received: {error}"
            ) from error
    return TrainedModel(run, encoder, captioner, description["training"])


def _read_description(folder: str) -> dict[str, Any]:
    for name in (TRAINING_NAME, WEIGHTS_NAME):
        if not tf.io.gfile.exists(f"{folder}/{name}"):
            raise ValueError(
                f"A folder of trained weights must hold {TRAINING_NAME} and {WEIGHTS_NAME}, which "
                f"`models.trainer` writes. Received: {folder}, without {name}."
            )
    with tf.io.gfile.GFile(f"{folder}/{TRAINING_NAME}") as file:
        return json.loads(file.read())


def _check_vocabulary(vocabulary: Vocabulary, known: Mapping[str, Any], folder: str) -> None:
    """Keras would load weights of another length into the wrong words without a complaint."""
    if vocabulary.size != known["size"]:
        raise ValueError(
            f"The vocabulary must be that of the training in {folder}, with {known['size']} "
            f"tokens. Received: {vocabulary.size} tokens."
        )
    if vocabulary.fingerprint != known["sha256"]:
        raise ValueError(
            f"The vocabulary must be that of the training in {folder}, with SHA-256 "
            f"{known['sha256']}. Received: as many tokens, {vocabulary.size}, but other ones or in "
            f"another order, with SHA-256 {vocabulary.fingerprint}."
        )


def _rebuild_encoder(config: EncoderConfig, sha256: str, folder: str) -> Encoder:
    if not config.has_frozen_part:
        # All weights are replaced by the trained ones: those it started from need not be here.
        return build_encoder(dataclasses.replace(config, weights=None))
    check_frozen_part(config)
    encoder = build_encoder(config)
    if encoder.weights_sha256 != sha256:
        raise EncoderWeightsError(
            f"The weights of encoder {config.name} ({config.weights}) must be those of the "
            f"training in {folder}, with SHA-256 {sha256}. Received: {encoder.weights_sha256}."
        )
    return encoder
