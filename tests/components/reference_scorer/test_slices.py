"""Slices are made of references and pixels only."""

from __future__ import annotations

import pytest

from tfx_captioner.components.reference_scorer.slices import slice_features
from tfx_captioner.components.reference_scorer.split import EvaluatedImage
from tfx_captioner.components.scores import SLICES


def image(**changes: object) -> EvaluatedImage:
    values = {
        "image_id": "1.jpg",
        "references": ("Two dogs run .",),
        "source": "flickr8k",
        "width": 500,
        "height": 375,
        "brightness": 120.0,
    }
    return EvaluatedImage(**{**values, **changes})


def test_all_slices_of_an_image() -> None:
    assert slice_features([image(), image(source="coco")], SLICES, {}) == {
        "caption_length": ["short (under 10 words)"] * 2,
        "orientation": ["landscape"] * 2,
        "brightness": ["medium"] * 2,
        "source": ["flickr8k", "coco"],
        "people": ["no"] * 2,
        "animals": ["yes"] * 2,
        "outdoor": ["no"] * 2,
        "reference_count": ["1"] * 2,
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
    assert slice_features([image(**changes)], [name], {}) == {name: [value]}


def test_slices_in_a_language_without_spaces() -> None:
    seen = image(references=("一个男人骑自行车。", "他骑车"))
    cycling = {"cycling": ("自行车", "单车")}
    names = ["people", "animals", "outdoor", "cycling", "caption_length", "orientation"]
    assert slice_features([seen, image(references=("自在行走" * 3,))], names, cycling, "zh") == {
        "cycling": ["yes", "no"],
        "caption_length": ["short (under 10 characters)", "medium (10 to 12 characters)"],
        "orientation": ["landscape"] * 2,
    }


def test_words_of_ones_own() -> None:
    cars = {"vehicles": ("car", "bus")}
    seen = image(references=("a red car .",))
    assert slice_features([seen, image()], ["vehicles"], cars) == {"vehicles": ["yes", "no"]}
