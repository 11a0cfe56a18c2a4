"""Training an encoder from a named stage on."""

from __future__ import annotations

import re
from collections.abc import Iterator

import keras
from keras import layers

from models.encoders.base import EncoderError


def freeze_before(model: keras.Model, stage: str) -> None:
    """Leaves the layers from a stage on trainable, and freezes those before it.

    Batch normalisation is frozen everywhere: with its moving statistics a trained layer sees what
    it saw when its weights were made, whatever the batch.

    Args:
      model: An encoder, all of it trainable. Names are looked up in the networks it is made of.
      stage: Name of a layer, or how the names of the stage's layers begin; the first layer in the
        order of the network counts.

    Raises:
      EncoderError: No layer is called so, or none with weights to train comes after it.
    """
    ordered = list(_layers(model))
    names = [layer.name for layer in ordered if not _is_numbered(layer)]
    first = next((name for name in names if name == stage), None) or next(
        (name for name in names if name.startswith(stage)), None
    )
    if first is None:
        stages = ", ".join(_stages(names)) or "none, as its layers have no names of their own"
        raise EncoderError(
            f"`trainable_from` must be a stage of encoder {model.name}: {stages}. "
            f"Received: {stage!r}."
        )
    start = [layer.name for layer in ordered].index(first)
    for index, layer in enumerate(ordered):
        if index < start or isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    if not model.trainable_variables:
        raise EncoderError(
            f"`trainable_from` of encoder {model.name} must leave something to train. "
            f"Received: {stage!r}, after which no layer has weights."
        )


def _layers(model: keras.Model) -> Iterator[layers.Layer]:
    """Layers in the order of the network, those of models within the model in their place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


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
