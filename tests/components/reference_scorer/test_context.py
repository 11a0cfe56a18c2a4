"""Lines to compare with: people, and captioners that need no model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tfx.types import standard_artifacts

from tests.artifacts import make_artifact, make_example, write_records
from tfx_captioner.components.reference_scorer.context import (
    most_frequent_caption,
    nearest_captions,
    nearest_neighbours,
    random_captions,
)


def test_captioners_without_a_model() -> None:
    captions = ["a dog .", "A dog .", "a cat"]
    assert most_frequent_caption(captions) == "a dog ."
    drawn = random_captions(["1", "2"], captions, seed=3)
    assert drawn.keys() == {"1", "2"}
    assert set(drawn.values()) <= set(captions)
    assert drawn == random_captions(["1", "2"], captions, seed=3)


def features(
    folder: Path, splits: dict[str, dict[str, list[float]]]
) -> standard_artifacts.Examples:
    """Featurized examples by the project's contract."""
    for split, images in splits.items():
        examples = [
            make_example(
                {
                    "image/id": [image_id.encode()],
                    "image/mean_features": [np.array(mean, "<f2").tobytes()],
                }
            )
            for image_id, mean in images.items()
        ]
        write_records(folder / f"Split-{split}" / "data.gz", examples)
    return make_artifact(standard_artifacts.Examples, folder, list(splits))


@pytest.mark.parametrize("images", [["1", "2"], ["2"]])
def test_nearest_by_the_direction_of_mean_features(tmp_path: Path, images: list[str]) -> None:
    artifact = features(
        tmp_path,
        {
            "train": {"up": [0, 5], "right": [1, 0]},
            "test": {"1": [5, 0.5], "2": [0.25, 1]},
        },
    )
    found = nearest_neighbours(artifact, images, "test")
    assert found == {image_id: {"1": "right", "2": "up"}[image_id] for image_id in images}


def test_the_nearest_image_lends_one_of_its_captions(tmp_path: Path) -> None:
    artifact = features(tmp_path, {"train": {"a": [1, 0], "b": [0, 1]}, "test": {"1": [0, 2]}})
    training = {"a": ["a cat"], "b": ["a dog", "dogs"]}
    captions = nearest_captions(artifact, ["1"], "test", training, seed=3)
    assert captions["1"] in training["b"]


def test_images_without_features_have_no_neighbours(tmp_path: Path) -> None:
    artifact = features(tmp_path, {"train": {"a": [1, 0]}, "test": {"1": [0, 2]}})
    assert nearest_neighbours(artifact, ["1", "2"], "test") == {}
