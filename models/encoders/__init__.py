"""Image encoders: pixels in, grid features out."""

from models.encoders.base import Encoder, EncoderError, EncoderInfo, EncoderWeightsError
from models.encoders.registry import build_encoder, encoder_info, encoder_names, weight_sources

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
