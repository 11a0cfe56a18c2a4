"""Slices are made of references and pixels only."""

from __future__ import annotations

import pytest

from tfx_captioner.components.caption_evaluator.config import SLICES
from tfx_captioner.components.caption_evaluator.images import TestImage
from tfx_captioner.components.caption_evaluator.slices import slice_features


def image(**changes: object) -> TestImage:
    values = {
        "image_id": "1.jpg",
        "references": ("Two dogs run .",),
        "source": "flickr8k",
        "width": 500,
        "height": 375,
        "brightness": 120.0,
    }
    return TestImage(**{**values, **changes})


def test_all_slices_of_an_image() -> None:
    assert slice_features(image(), SLICES, {}) == {
        "caption_length": "short (under 10 words)",
        "orientation": "landscape",
        "brightness": "medium",
        "source": "flickr8k",
        "people": "no",
        "animals": "yes",
        "outdoor": "no",
        "reference_count": "1",
    }


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({"width": 300}, "orientation", "portrait"),
        ({"width": 375}, "orientation", "square"),
        ({"brightness": 20.0}, "brightness", "dark"),
        ({"brightness": 200.0}, "brightness", "bright"),
        ({"references": ("Woman, smiling.", "x")}, "people", "yes"),
        ({"references": ("A mandolin .",)}, "people", "no"),
        ({"references": ("a " * 11,)}, "caption_length", "medium (10 to 12 words)"),
        ({"references": ("a " * 13,)}, "caption_length", "long (over 12 words)"),
    ],
)
def test_boundaries(changes: dict[str, object], name: str, value: str) -> None:
    assert slice_features(image(**changes), [name], {}) == {name: value}


def test_words_of_ones_own() -> None:
    cars = {"vehicles": ("car", "bus")}
    seen = image(references=("a red car .",))
    assert slice_features(seen, ["vehicles"], cars) == {"vehicles": "yes"}
    assert slice_features(image(), ["vehicles"], cars) == {"vehicles": "no"}
