"""Draws generated scenes."""

from __future__ import annotations

import hashlib
import math
import random

import numpy as np
from PIL import Image, ImageDraw

from tfx_captioner.ingestion.scenes import Scene

PIXELS = 96  # height and width of a picture

# Drawn larger and scaled down, which is Pillow's only road to smooth edges.
_OVERSAMPLING = 3

RGB = {
    "red": (214, 40, 40),
    "orange": (250, 134, 20),
    "yellow": (248, 214, 40),
    "green": (46, 160, 67),
    "blue": (40, 92, 220),
    "purple": (146, 58, 186),
}
_GREY_LEVEL = {"white": 238, "grey": 140, "black": 24}
_RADIUS = {"small": (11.0, 12.5), "large": (21.0, 23.5)}  # in pixels
_TILT = math.radians(5)

Point = tuple[float, float]


def draw(scene: Scene, seed: str) -> Image.Image:
    """Draws a scene.

    Args:
      scene: What is to be seen.
      seed: Seeds all that the scene leaves open: exact place, size, tilt, shade and texture.

    Returns:
      An RGB picture of `PIXELS` x `PIXELS`.
    """
    rng = random.Random(seed)
    picture = _background(scene.background, rng, seed)
    canvas = ImageDraw.Draw(picture)
    radius = rng.uniform(*_RADIUS[scene.size])
    if scene.second:
        small = rng.uniform(*_RADIUS["small"])
        main, second = _places(str(scene.relation), radius, small, rng)
        _draw_shape(canvas, scene.second.shape, scene.second.colour, second, small, rng)
    else:
        main = _place(str(scene.position), radius, rng)
    _draw_shape(canvas, scene.shape, scene.colour, main, radius, rng)
    return picture.resize((PIXELS, PIXELS), Image.Resampling.BOX)


def _background(name: str, rng: random.Random, seed: str) -> Image.Image:
    """A plain or a lightly textured ground."""
    side = PIXELS * _OVERSAMPLING
    level = _GREY_LEVEL[name] + rng.uniform(-10, 10)
    grain = rng.choice((0.0, 3.0, 6.0))
    noise_seed = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little")
    noise = np.random.default_rng(noise_seed).normal(level, grain, (24, 24))
    texture = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
    return texture.resize((side, side), Image.Resampling.BICUBIC).convert("RGB")


def _place(position: str, radius: float, rng: random.Random) -> Point:
    """Centre of a lonely object."""
    middle = PIXELS / 2
    near = max(radius + 1, PIXELS * 0.25) + rng.uniform(-1, 2)
    far = PIXELS - near
    x, y = {
        "left": (near, middle),
        "right": (far, middle),
        "top": (middle, near),
        "bottom": (middle, far),
        "middle": (middle, middle),
    }[position]
    return x + rng.uniform(-3, 3) * (x == middle), y + rng.uniform(-3, 3) * (y == middle)


def _places(relation: str, large: float, small: float, rng: random.Random) -> tuple[Point, Point]:
    """Centres of the main and of the second object."""
    gap = large + small + rng.uniform(3, 6)
    slack = PIXELS - (large + gap + small) - 4
    along = 2 + large + rng.uniform(0, slack)
    across = PIXELS / 2 + rng.uniform(-8, 8)
    main, second = (along, across), (along + gap, across + rng.uniform(-4, 4))
    if relation in ("right of", "below"):
        main, second = _mirrored(main), _mirrored(second)
    if relation in ("above", "below"):
        main, second = main[::-1], second[::-1]
    return main, second


def _mirrored(point: Point) -> Point:
    return PIXELS - point[0], point[1]


def _draw_shape(
    canvas: ImageDraw.ImageDraw,
    shape: str,
    colour: str,
    centre: Point,
    radius: float,
    rng: random.Random,
) -> None:
    fill = tuple(min(255, max(0, round(level + rng.uniform(-14, 14)))) for level in RGB[colour])
    tilt = rng.uniform(-_TILT, _TILT)
    outline = [
        (
            (centre[0] + radius * (x * math.cos(tilt) - y * math.sin(tilt))) * _OVERSAMPLING,
            (centre[1] + radius * (x * math.sin(tilt) + y * math.cos(tilt))) * _OVERSAMPLING,
        )
        for x, y in _OUTLINES[shape]
    ]
    canvas.polygon(outline, fill=fill)


def _regular(corners: int, radius: float = 1.0, start: float = -math.pi / 2) -> list[Point]:
    """Corners on a circle, the first one on top."""
    angles = [start + 2 * math.pi * corner / corners for corner in range(corners)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def _star() -> list[Point]:
    outer = _regular(5, 1.08)
    inner = _regular(5, 0.44, start=-math.pi / 2 + math.pi / 5)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _cross(arm: float = 0.34) -> list[Point]:
    """A plus sign."""
    corner = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
    outline: list[Point] = []
    for _ in range(4):
        outline += corner
        corner = [(-y, x) for x, y in corner]
    return outline


# Outlines around the origin, within about a unit circle; y points down.
_OUTLINES: dict[str, list[Point]] = {
    "circle": _regular(48, 0.96),
    "square": _regular(4, 1.2, start=-3 * math.pi / 4),
    "triangle": [(x, y + 0.2) for x, y in _regular(3, 1.14)],
    "star": _star(),
    "cross": _cross(),
}
