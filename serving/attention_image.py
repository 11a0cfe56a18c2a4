"""Attention over a photograph, one panel per word. Needs Pillow and numpy."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from tfx_captioner.serving.client import Attention
from tfx_captioner.serving.photographs import as_seen

_PANEL = 224  # pixels, the longer side of a photograph in its panel
_LABEL = 26  # pixels, the height of the word above it
_COLUMNS = 4
_GLOW = np.array([255.0, 80.0, 0.0])
_STRENGTH = 0.65  # of the glow where the attention is largest


def draw_attention(image: bytes, attention: Attention) -> Image.Image:
    """Draws where the model looked at each word, as one sheet.

    Args:
      image: The encoded photograph.
      attention: Its attention.

    Raises:
      ValueError: There are no words, so there is nothing to draw.
    """
    panels = draw_panels(image, attention)
    if not panels:
        raise ValueError("The caption is empty, so there is no attention to draw.")
    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width, height = panels[0][0].width, panels[0][0].height + _LABEL
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    for index, (panel, token) in enumerate(panels):
        left, top = index % columns * width, index // columns * height
        draw.text((left + 4, top + 4), token, fill="black", font=font)
        sheet.paste(panel, (left, top + _LABEL))
    return sheet


def draw_panels(image: bytes, attention: Attention) -> list[tuple[Image.Image, str]]:
    """The photograph once for each word, brighter where the model looked, with the word."""
    with Image.open(io.BytesIO(image)) as opened:
        photo = as_seen(opened).convert("RGB")
    photo = ImageOps.contain(photo, (_PANEL, _PANEL))  # a small one grows, so that words fit
    pairs = zip(attention.tokens, attention.maps, strict=True)
    return [(overlay(photo, grid), token) for token, grid in pairs]


def overlay(photo: Image.Image, grid: list[list[float]]) -> Image.Image:
    """One photograph, brighter where the weights of a grid are large."""
    weights = np.asarray(grid, np.float32)
    peak = weights.max()
    scaled = 255 * weights / peak if peak > 0 else weights
    small = Image.fromarray(scaled.astype(np.uint8))
    alpha = np.asarray(small.resize(photo.size, Image.Resampling.BICUBIC), np.float32) / 255.0
    share = (_STRENGTH * alpha)[..., np.newaxis]
    dimmed = 0.6 * np.asarray(photo, np.float32) * (1 - share) + share * _GLOW
    return Image.fromarray(dimmed.clip(0, 255).astype(np.uint8))
