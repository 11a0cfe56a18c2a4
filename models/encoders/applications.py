"""Encoders from `keras.applications`: a table of what differs between them.

`include_top=False` everywhere; the preprocessing each network was trained with becomes part of the
model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import keras
from keras import layers


def _halved(times: int, size: int) -> int:
    """Strided layers with "same" padding round up."""
    for _ in range(times):
        size = -(-size // 2)
    return size


def _halved_down(times: int, size: int) -> int:
    """Strided layers without padding round down."""
    return size // 2**times


def _inception_v3_grid(size: int) -> int:
    """Four of its five reductions and one plain 3x3 convolution have no padding."""

    def reduce(n: int) -> int:
        return (n - 3) // 2 + 1

    return reduce(reduce(reduce(reduce(reduce(size) - 2) - 2)))


@dataclasses.dataclass(frozen=True)
class Application:
    """One network of `keras.applications`.

    >>> APPLICATIONS["vgg16"].grid(224)
    14

    Attributes:
      constructor: Its name there.
      input_size: Native height and width.
      channels: Width of its last feature map.
      keras_file: Name of its weights file in Keras's cache.
      scaling: Scaling that the network expects: "caffe" (BGR, mean subtracted), "tf" (-1..1), or
        "inside" where the Keras model scales itself.
      min_input_size: Smallest height and width Keras builds it for.
      grid: Rows of the feature map for a given input size.
      features: Layer to take the features from; None for the last.
    """

    constructor: str
    input_size: int
    channels: int
    keras_file: str
    scaling: Literal["caffe", "tf", "inside"]
    min_input_size: int = 32
    grid: Callable[[int], int] = lambda size: _halved(5, size)
    features: str | None = None


_TF_FILE = "{}_weights_tf_dim_ordering_tf_kernels_notop.h5"


def _vgg(name: str, layer: str) -> Application:
    # The map before the last pooling, 14 x 14 at 224 pixels, as in Show, Attend and Tell
    # (Xu et al. 2015, arXiv:1502.03044).
    return Application(
        name.upper(),
        224,
        512,
        _TF_FILE.format(name),
        "caffe",
        grid=lambda size: _halved_down(4, size),
        features=layer,
    )


def _resnet(depth: str) -> Application:
    return Application(f"ResNet{depth}", 224, 2048, _TF_FILE.format(f"resnet{depth}"), "caffe")


def _resnet_v2(depth: str) -> Application:
    name = f"ResNet{depth}V2"
    return Application(name, 224, 2048, _TF_FILE.format(name.lower()), "tf")


def _efficientnet_v2(variant: str, input_size: int) -> Application:
    file = f"efficientnetv2-{variant.lower()}_notop.h5"
    return Application(f"EfficientNetV2{variant}", input_size, 1280, file, "inside")


def _mobilenet_v3(variant: str, channels: int) -> Application:
    file = f"weights_mobilenet_v3_{variant.lower()}_224_1.0_float_no_top_v2.h5"
    return Application(f"MobileNetV3{variant}", 224, channels, file, "inside")


def _convnext(variant: str, channels: int) -> Application:
    return Application(
        f"ConvNeXt{variant}",
        224,
        channels,
        f"convnext_{variant.lower()}_notop.h5",
        "inside",
        grid=lambda size: _halved_down(5, size),
    )


APPLICATIONS: Mapping[str, Application] = {
    "vgg16": _vgg("vgg16", "block5_conv3"),
    "vgg19": _vgg("vgg19", "block5_conv4"),
    "inception_v3": Application(
        "InceptionV3",
        299,
        2048,
        _TF_FILE.format("inception_v3"),
        "tf",
        min_input_size=75,
        grid=_inception_v3_grid,
    ),
    "resnet50": _resnet("50"),
    "resnet101": _resnet("101"),
    "resnet152": _resnet("152"),
    "resnet50v2": _resnet_v2("50"),
    "resnet101v2": _resnet_v2("101"),
    "resnet152v2": _resnet_v2("152"),
    "efficientnetv2b0": _efficientnet_v2("B0", 224),
    "efficientnetv2b1": _efficientnet_v2("B1", 240),
    "efficientnetv2s": _efficientnet_v2("S", 384),
    "mobilenet_v3_small": _mobilenet_v3("Small", 576),
    "mobilenet_v3_large": _mobilenet_v3("Large", 960),
    "convnext_tiny": _convnext("Tiny", 768),
    "convnext_small": _convnext("Small", 768),
}


def build_application(name: str, input_size: int, weights: str | None) -> keras.Model:
    """Builds a network of the table with its preprocessing.

    Args:
      name: Key of `APPLICATIONS`.
      input_size: Height and width of the images.
      weights: Weights as `keras.applications` takes them: None, "imagenet" or a path.

    Returns:
      Model from float32 [N, S, S, 3], RGB in 0..255, to a feature map [N, h, w, channels].
    """
    application = APPLICATIONS[name]
    images = keras.Input((input_size, input_size, 3))
    # All in one graph, so that it can be cut before any layer (`fine_tuning`).
    backbone = getattr(keras.applications, application.constructor)(
        include_top=False,
        weights=weights,
        input_tensor=_scaled(images, application.scaling),
    )
    last = backbone.get_layer(application.features) if application.features else backbone
    return keras.Model(images, last.output, name=name)


def _scaled(images: keras.KerasTensor, scaling: str) -> keras.KerasTensor:
    """`keras.applications.<network>.preprocess_input`, as layers."""
    if scaling == "caffe":
        bgr = keras.ops.flip(images, axis=-1)
        return layers.Rescaling(1.0, offset=[-103.939, -116.779, -123.68])(bgr)
    if scaling == "tf":
        return layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    return images
