"""Interface of all image encoders."""

from __future__ import annotations

import dataclasses

import keras


class EncoderError(ValueError):
    """An encoder that is unknown, or cannot be built as asked."""


class EncoderWeightsError(EncoderError):
    """Weights that are missing, damaged, or not those of the encoder."""


@dataclasses.dataclass(frozen=True)
class EncoderInfo:
    """Sizes of an encoder, known without building it.

    >>> EncoderInfo("resnet50", input_size=224, grid=(7, 7), channels=2048).feature_shape
    (49, 2048)

    Attributes:
      name: Key of the registry.
      input_size: Height and width of the images it takes, in pixels.
      grid: Rows and columns of the feature grid.
      channels: Width of the feature vector of each cell.
    """

    name: str
    input_size: int
    grid: tuple[int, int]
    channels: int

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Shape of one image's features: [rows * columns, channels]."""
        return self.grid[0] * self.grid[1], self.channels


@dataclasses.dataclass(frozen=True)
class Encoder:
    """An encoder with its weights: pixels in, grid features out, preprocessing inside.

    Example:

    ```python
    encoder = build_encoder(EncoderConfig("vgg16", trainable=True, trainable_from="block5"))
    frozen = encoder.frozen(pixels)  # by the ImageFeaturizer, once per image
    features = encoder.trained(frozen)  # while training
    ```

    Attributes:
      info: Its sizes.
      model: Maps float32 [N, S, S, 3], RGB in 0..255, to features [N, h * w, channels], the grid in
        row-major order.
      frozen: The part that stays as it is, which the ImageFeaturizer applies once per image: pixels
        to what `trained` takes, or to features. None if all is trained.
      trained: The part that is trained with the decoder, to features. None if nothing is.
      weights_sha256: SHA-256 of the weights file; empty for weights initialised at random.
    """

    info: EncoderInfo
    model: keras.Model
    frozen: keras.Model | None
    trained: keras.Model | None
    weights_sha256: str

    @property
    def name(self) -> str:
        """Key of the registry."""
        return self.info.name

    @property
    def input_size(self) -> int:
        """Height and width of the images it takes, in pixels."""
        return self.info.input_size

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the feature grid."""
        return self.info.grid

    @property
    def frozen_shape(self) -> tuple[int, ...]:
        """Shape of what the frozen part makes of one image.

        Raises:
          ValueError: There is none.
        """
        if self.frozen is None:
            raise ValueError(f"All of encoder {self.name} is trained, from pixels.")
        return tuple(self.frozen.output_shape[1:])

    @property
    def channels(self) -> int:
        """Width of the feature vector of each cell."""
        return self.info.channels
