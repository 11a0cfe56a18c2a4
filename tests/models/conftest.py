"""Helpers of the model tests."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfx_captioner.models.config import DecodingConfig
from tfx_captioner.models.export import export
from tfx_captioner.models.vocabulary import load_vocabulary
from tfx_captioner.models.weights import load_trained
from tfx_captioner.serving.saved_model import SavedCaptioner

COLOURS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230)}
SHADES = ("dark", "bright")
MAX_CAPTION_LENGTH = 8
WORDS = ("a", "square", "the", "is", *COLOURS, *SHADES)


@pytest.fixture(scope="session")
def run_layer_test() -> Callable[..., None]:
    """One check for every layer of ours, in the manner of KerasHub's `TestCase.run_layer_test`."""
    return _run_layer_test


def _run_layer_test(
    layer_class: type[keras.layers.Layer],
    init_kwargs: dict[str, Any],
    call: Callable[[keras.layers.Layer], Any],
    build_shapes: tuple[tuple, ...],
    expected_shapes: list[tuple[int, ...]],
    expected_weights: int,
) -> None:
    """Checks a layer's configuration, weights, eager and graph results, and gradients.

    Args:
      layer_class: The layer.
      init_kwargs: Arguments of its constructor.
      call: Uses the layer on fixed inputs; returns a nest of tensors.
      build_shapes: Arguments of `build`.
      expected_shapes: Shapes of what `call` returns, flat.
      expected_weights: Number of trainable weight tensors.
    """
    layer = layer_class(**init_kwargs)
    for name, value in init_kwargs.items():
        assert layer.get_config()[name] == value, f"{name} is not in the configuration"
    layer.build(*build_shapes)
    assert len(layer.trainable_weights) == expected_weights

    eager = tf.nest.flatten(call(layer))
    assert [tuple(output.shape) for output in eager] == expected_shapes
    graph = tf.nest.flatten(tf.function(lambda: call(layer))())
    for one, other in zip(eager, graph, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(copy) is layer_class
    assert copy.built
    copy.set_weights(layer.get_weights())
    for one, other in zip(eager, tf.nest.flatten(call(copy)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    with tf.GradientTape() as tape:
        loss = sum(tf.reduce_sum(output**2) for output in tf.nest.flatten(call(layer)))
    gradients = tape.gradient(loss, [weight.value for weight in layer.trainable_weights])
    missing = [
        weight.path
        for weight, gradient in zip(layer.trainable_weights, gradients, strict=True)
        if gradient is None
    ]
    assert not missing, f"no gradient reaches {missing}"


@pytest.fixture(scope="session")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Transformed examples of one-coloured pictures: `Split-train`, `Split-val`, `graph`."""
    root = tmp_path_factory.mktemp("transformed")
    assets = root / "graph" / "transform_fn" / "assets"
    assets.mkdir(parents=True)
    (assets / "caption_vocabulary").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    for split, copies in (("train", 4), ("val", 1)):
        (root / f"Split-{split}").mkdir()
        options = tf.io.TFRecordOptions(compression_type="GZIP")
        path = root / f"Split-{split}" / "examples-00000-of-00001.gz"
        with tf.io.TFRecordWriter(str(path), options) as writer:
            for number in range(copies):
                for colour, shade in itertools.product(COLOURS, SHADES):
                    example = _example(f"{split}-{number}-{colour}-{shade}", colour, shade)
                    writer.write(example.SerializeToString())
    return root


@pytest.fixture(scope="session")
def picture() -> Callable[[str, str], bytes]:
    """Makes a PNG all of one colour, of a colour and a shade."""
    return _picture


def _picture(colour: str, shade: str) -> bytes:
    factor = 1.0 if shade == "bright" else 0.4
    pixels = np.full((20, 24, 3), COLOURS[colour]) * factor
    return tf.io.encode_png(tf.constant(pixels, tf.uint8)).numpy()


def _example(name: str, colour: str, shade: str) -> tf.train.Example:
    captions = [["a", shade, colour, "square"], ["the", "square", "is", shade, colour]]
    ids = [[1, *(WORDS.index(word) + 4 for word in words), 2] for words in captions]
    rows = [row + [0] * (MAX_CAPTION_LENGTH - len(row)) for row in ids]

    def strings(values: list[bytes]) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    def integers(values: list[int]) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    features = {
        "image/source": strings([b"test"]),
        "image/id": strings([name.encode()]),
        "image/encoded": strings([_picture(colour, shade)]),
        "caption/text": strings([" ".join(words).encode() for words in captions]),
        "caption/token_ids": integers([token for row in rows for token in row]),
        "caption/length": integers([len(row) for row in ids]),
    }
    return tf.train.Example(features=tf.train.Features(feature=features))


@pytest.fixture
def load_exported(transformed: Path, tmp_path: Path) -> Callable[[str], Callable]:
    """Exports trained weights, and loads the SavedModel to caption images with."""

    def load(weights_dir: str) -> Callable[[Sequence[bytes]], list[tuple[str, float]]]:
        vocabulary = load_vocabulary(str(transformed / "graph"))
        trained = load_trained(weights_dir, vocabulary)
        folder = tempfile.mkdtemp(dir=tmp_path)
        export(folder, trained, vocabulary, DecodingConfig(beam_size=2, max_length=8))
        return SavedCaptioner(folder).captions

    return load


@pytest.fixture
def run_config(tmp_path: Path) -> dict[str, Any]:
    """A `RunConfig` as plain data for a model that learns the pictures in seconds."""
    return {
        "model_name": "tiny",
        "model": {
            "encoder": {
                "name": "small_cnn",
                "weights": None,
                "trainable": True,
                "input_size": 32,
            },
            "decoder": {
                "units": 32,
                "embedding_dim": 16,
                "attention_heads": 2,
                "dropout": 0.0,
            },
        },
        "text": {"max_caption_length": MAX_CAPTION_LENGTH},
        "trainer": {
            "epochs": 4,
            "batch_size": 12,
            "learning_rate": 0.005,
            "label_smoothing": 0.0,
            "ema_momentum": 0.0,
            "validation_decoding": {"beam_size": 2, "max_length": 8},
        },
        "code_fingerprint": "0123",
        "checkpoint_root": str(tmp_path / "checkpoints"),
    }


@pytest.fixture
def fn_args(transformed: Path, run_config: dict[str, Any], tmp_path: Path) -> SimpleNamespace:
    """What TFX hands to `run_fn`."""
    return SimpleNamespace(
        custom_config={"run": run_config},
        train_files=[f"{transformed}/Split-train/*"],
        eval_files=[f"{transformed}/Split-val/*"],
        transform_graph_path=f"{transformed}/graph",
        serving_model_dir=str(tmp_path / "Format-Serving"),
        model_run_dir=str(tmp_path / "model_run"),
        working_dir=str(tmp_path / "working"),
        hyperparameters=None,
    )
