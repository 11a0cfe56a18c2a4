"""Trained weights, written and loaded again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tfx_captioner.models.captioner import build_captioner
from tfx_captioner.models.config import RunConfig
from tfx_captioner.models.data_config import SPECIAL_TOKENS, EncoderConfig, parse
from tfx_captioner.models.encoders import EncoderWeightsError, build_encoder
from tfx_captioner.models.vocabulary import Vocabulary
from tfx_captioner.models.weights import TrainedModel, load_trained, save_trained

VOCABULARY = Vocabulary((*SPECIAL_TOKENS, "a", "dog", "runs"))
PIXELS = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)


def _train(folder: Path, run_config: dict[str, Any]) -> TrainedModel:
    """Writes weights that no other start has."""
    run = parse(RunConfig, run_config)
    encoder = build_encoder(run.model.encoder)
    auxiliary_sources = len(run.trainer.source_mix.auxiliary)
    captioner = build_captioner(run.model, encoder, VOCABULARY.size, auxiliary_sources)
    rng = np.random.default_rng(1)
    captioner.set_weights([rng.uniform(size=weight.shape) for weight in captioner.weights])
    trained = TrainedModel(run, encoder, captioner, {"key": "0a", "val_cider_d": 0.5})
    save_trained(str(folder), trained, VOCABULARY)
    return trained


@pytest.fixture
def frozen_weights(run_config: dict[str, Any], tmp_path: Path) -> Path:
    """The weights file of an encoder that the settings freeze."""
    path = tmp_path / "small_cnn.weights.h5"
    keras.utils.set_random_seed(2)
    build_encoder(EncoderConfig("small_cnn", None, input_size=32)).model.save_weights(path)
    run_config["model"]["encoder"].update(trainable=False, weights=str(path))
    return path


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_model_trained_whole_is_loaded_as_it_was(
    run_config: dict[str, Any], tmp_path: Path, cell: str
) -> None:
    run_config["model"]["decoder"].update(cell=cell, gate=True, layer_norm=True, concepts=0.1)
    run_config["trainer"]["source_mix"] = {"auxiliary": ["coco"]}
    before = _train(tmp_path / "model", run_config)
    # Names of layers count up in a process; here they are those of a second model.
    run, encoder, captioner, facts = load_trained(str(tmp_path / "model"), VOCABULARY)
    assert run == before.run
    assert facts == {"key": "0a", "val_cider_d": 0.5}
    for one, other in zip(before.captioner.weights, captioner.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(encoder.model(PIXELS), before.encoder.model(PIXELS))


def test_the_weights_a_whole_encoder_started_from_need_not_be_there(
    run_config: dict[str, Any], frozen_weights: Path, tmp_path: Path
) -> None:
    run_config["model"]["encoder"]["trainable"] = True
    before = _train(tmp_path / "model", run_config)
    frozen_weights.unlink()
    trained = load_trained(str(tmp_path / "model"), VOCABULARY)
    np.testing.assert_array_equal(trained.encoder.model(PIXELS), before.encoder.model(PIXELS))


def test_a_frozen_encoder_is_built_again_and_not_copied(
    run_config: dict[str, Any], frozen_weights: Path, tmp_path: Path
) -> None:
    before = _train(tmp_path / "model", run_config)
    trained = load_trained(str(tmp_path / "model"), VOCABULARY)
    assert trained.captioner.encoder is None
    np.testing.assert_array_equal(trained.encoder.model(PIXELS), before.encoder.model(PIXELS))
    for one, other in zip(before.captioner.weights, trained.captioner.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    written = (tmp_path / "model" / "captioner.weights.h5").stat().st_size
    decoder = sum(weight.numpy().nbytes for weight in before.captioner.weights)
    assert written < decoder + frozen_weights.stat().st_size / 2


def test_other_weights_of_a_frozen_encoder_are_an_error(
    run_config: dict[str, Any], frozen_weights: Path, tmp_path: Path
) -> None:
    known = _train(tmp_path / "model", run_config).encoder.weights_sha256
    keras.utils.set_random_seed(3)
    build_encoder(EncoderConfig("small_cnn", None, input_size=32)).model.save_weights(
        frozen_weights
    )
    with pytest.raises(EncoderWeightsError, match=rf"small_cnn .*SHA-256 {known}\. Received: "):
        load_trained(str(tmp_path / "model"), VOCABULARY)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a", "dog"), r"7 tokens\. Received: 6 tokens"),
        (("a", "dog", "runs", "on"), r"7 tokens\. Received: 8 tokens"),
        (("a", "runs", "dog"), r"SHA-256 \w+\. Received: as many tokens, 7, but other ones"),
    ],
)
def test_another_vocabulary_is_an_error(
    run_config: dict[str, Any], tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    _train(tmp_path / "model", run_config)
    with pytest.raises(ValueError, match=message):
        load_trained(str(tmp_path / "model"), Vocabulary((*SPECIAL_TOKENS, *words)))


@pytest.mark.parametrize("missing", ["captioner.weights.h5", "training.json"])
def test_a_folder_without_a_file_names_it(
    run_config: dict[str, Any], tmp_path: Path, missing: str
) -> None:
    _train(tmp_path / "model", run_config)
    (tmp_path / "model" / missing).unlink()
    with pytest.raises(ValueError, match=rf"must hold .* without {missing}"):
        load_trained(str(tmp_path / "model"), VOCABULARY)


def test_weights_of_another_model_are_an_error(run_config: dict[str, Any], tmp_path: Path) -> None:
    _train(tmp_path / "model", run_config)
    path = tmp_path / "model" / "training.json"
    training = json.loads(path.read_text(encoding="utf-8"))
    training["run"]["model"]["decoder"]["cell"] = "lstm"
    path.write_text(json.dumps(training), encoding="utf-8")
    with pytest.raises(ValueError, match=r"must hold the weights of the model that training\.json"):
        load_trained(str(tmp_path / "model"), VOCABULARY)


def test_a_damaged_file_is_an_error(run_config: dict[str, Any], tmp_path: Path) -> None:
    _train(tmp_path / "model", run_config)
    path = tmp_path / "model" / "captioner.weights.h5"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"captioner\.weights\.h5 must hold the weights"):
        load_trained(str(tmp_path / "model"), VOCABULARY)
