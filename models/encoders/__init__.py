"""Image encoders: pixels in, grid features out."""

from tfx_captioner.models.encoders.base import (
    Encoder,
    EncoderError,
    EncoderInfo,
    EncoderWeightsError,
)
from tfx_captioner.models.encoders.registry import (
    build_encoder,
    encoder_info,
    encoder_names,
    weight_sources,
)

__all__ = [
    "Encoder",
    "EncoderError",
    "EncoderInfo",
    "EncoderWeightsError",
    "build_encoder",
    "encoder_info",
    "encoder_names",
    "weight_sources",
]
