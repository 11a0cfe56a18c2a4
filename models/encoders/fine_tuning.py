"""Training an encoder from a named stage on."""

from __future__ import annotations

import re

import keras
import numpy as np
from keras import layers

from tfx_captioner.models.encoders.base import EncoderError


def split_before(model: keras.Model, stage: str) -> tuple[keras.Model, keras.Model]:
    """Cuts an encoder in two, and freezes what is before the cut.

    Batch normalisation is frozen everywhere: with its moving statistics a trained layer sees what
    it saw when its weights were made, whatever the batch.

    Args:
      model: An encoder, all of it trainable.
      stage: Name of a layer, or how the names of the stage's layers begin; the first layer in the
        order of the network counts. A layer that only merges what others made is left to those.

    Returns:
      The part before the stage and the rest, which takes what the former gives. They share their
      weights with `model`.

    Raises:
      EncoderError: No layer is called so, none with weights to train comes after it, or what
        comes before it is more than one tensor.
    """
    first = _first_layer(model, stage)
    # Of a residual block, whose parts lie side by side, any may be the first.
    at = first.output if isinstance(first.input, list) and not first.weights else first.input
    # Some versions of Keras see here that a tensor is missing, others when it is asked for.
    try:
        trained = keras.Model(at, model.output, name=f"{model.name}_trained")
        trained(np.zeros((1, *at.shape[1:]), np.float32))
    except (KeyError, ValueError) as error:
        raise EncoderError(
            f"`trainable_from` of encoder {model.name} must be where it can be cut, such as the "
            f"beginning of a block. Received: {stage!r}, beside which others go on."
        ) from error
    frozen = keras.Model(model.input, at, name=f"{model.name}_frozen")
    frozen.trainable = False
    for layer in trained.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    if not trained.trainable_variables:
        raise EncoderError(
            f"`trainable_from` of encoder {model.name} must leave something to train. "
            f"Received: {stage!r}, after which no layer has weights."
        )
    return frozen, trained


def _first_layer(model: keras.Model, stage: str) -> layers.Layer:
    named = [
        layer
        for layer in model.layers
        if not isinstance(layer, keras.Model) and not _is_numbered(layer)
    ]
    for layer in named:
        if layer.name == stage:
            return layer
    for layer in named:
        if layer.name.startswith(stage):
            return layer
    stages = ", ".join(_stages([layer.name for layer in named]))
    raise EncoderError(
        f"`trainable_from` must be a stage of encoder {model.name}: "
        f"{stages or 'none, as its layers have no names of their own'}. Received: {stage!r}."
    )


def _is_numbered(layer: layers.Layer) -> bool:
    """Whether Keras made up the name, such as `conv2d_7`: another process numbers otherwise."""
    # Keras's own rule, of which only the result is public: `DepthwiseConv2D` is depthwise_conv2d.
    kind = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
    kind = re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()
    return re.fullmatch(rf"{kind}(_\d+)?", layer.name) is not None


def _stages(names: list[str]) -> list[str]:
    """Beginnings of the names up to their first number, each once."""
    beginnings = [re.match(r"\D*\d*", name) for name in names]
    return list(dict.fromkeys(match.group().rstrip("_") for match in beginnings if match))
