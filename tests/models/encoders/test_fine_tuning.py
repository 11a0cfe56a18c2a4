"""Encoders trained from a named stage on."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from tfx_captioner.models.data_config import EncoderConfig
from tfx_captioner.models.encoders import EncoderError, build_encoder
from tfx_captioner.models.encoders.fine_tuning import split_before


def vgg16(stage: str | None) -> keras.Model:
    config = EncoderConfig("vgg16", None, trainable=True, trainable_from=stage, input_size=32)
    return build_encoder(config).model


def network() -> keras.Model:
    """A residual network."""
    images = keras.Input((8, 8, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    for name in ("conv1", "conv2_block1", "conv2_block2"):
        branch = keras.layers.Conv2D(4, 3, padding="same", name=name)(x)
        branch = keras.layers.BatchNormalization(name=f"{name}_bn")(branch)
        branch = keras.layers.Conv2D(4, 1, name=f"{name}_out")(branch)
        x = branch if name == "conv1" else keras.layers.Add(name=f"{name}_add")([x, branch])
    return keras.Model(images, keras.layers.Dropout(0.5, name="drop")(x), name="toy")


IMAGES = np.random.default_rng(1).uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)


def owners(variables: list[keras.Variable]) -> list[str]:
    """Name of the layer of each."""
    return [variable.path.split("/")[-2] for variable in variables]


@pytest.mark.parametrize(
    ("stage", "trained"),
    [
        ("block5", {"block5_conv1", "block5_conv2", "block5_conv3"}),
        ("block5_conv3", {"block5_conv3"}),
    ],
)
def test_the_stage_and_what_follows_is_trained(stage: str, trained: set[str]) -> None:
    assert set(owners(vgg16(stage).trainable_variables)) == trained


def test_a_step_moves_the_stage_alone_and_no_statistics() -> None:
    model = network()
    frozen, trained = split_before(model, "conv2")
    before = [variable.numpy() for variable in model.variables]
    optimizer = keras.optimizers.SGD(1.0)
    with tf.GradientTape() as tape:
        features = trained(frozen(IMAGES, training=True), training=True)
        loss = tf.reduce_sum(features**2)
    optimizer.apply(tape.gradient(loss, trained.trainable_variables), trained.trainable_variables)
    moved = [
        variable
        for variable, old in zip(model.variables, before, strict=True)
        if "seed_generator" not in variable.path and np.any(variable.numpy() != old)
    ]
    trained_layers = ("conv2_block1", "conv2_block1_out", "conv2_block2", "conv2_block2_out")
    assert sorted(owners(moved)) == sorted(2 * trained_layers)


@pytest.mark.parametrize("stage", ["conv1", "conv2", "conv2_block2", "conv2_block1_add"])
def test_the_two_parts_make_the_whole(stage: str) -> None:
    model = network()
    frozen, trained = split_before(model, stage)
    np.testing.assert_allclose(trained(frozen(IMAGES)), model(IMAGES), rtol=1e-6)
    assert not frozen.trainable_variables


def test_a_stage_that_others_go_on_beside_is_refused() -> None:
    # The shortcut goes around it.
    with pytest.raises(EncoderError, match=r"where it can be cut.*beside which"):
        split_before(network(), "conv2_block1_out")


def test_without_a_stage_all_is_trained() -> None:
    model = vgg16(None)
    assert len(model.trainable_variables) == len(model.variables)


def test_an_unknown_stage_names_those_there_are() -> None:
    with pytest.raises(EncoderError) as caught:
        vgg16("conv5")
    message = "stage of encoder vgg16: block1, block2, block3, block4, block5. Received: 'conv5'."
    assert message in str(caught.value)


def test_names_that_change_from_process_to_process_are_no_stages() -> None:
    config = EncoderConfig("small_cnn", None, trainable=True, trainable_from="conv2d")
    with pytest.raises(EncoderError, match="none, as its layers have no names of their own"):
        build_encoder(config)


def test_a_stage_without_weights_behind_it_is_refused() -> None:
    with pytest.raises(EncoderError, match=r"encoder toy must leave something to train.*'drop'"):
        split_before(network(), "drop")


def test_a_frozen_encoder_has_no_stage_to_train() -> None:
    with pytest.raises(ValidationError, match="`trainable_from` needs `trainable: true`"):
        EncoderConfig("vgg16", None, trainable_from="block5")
