"""Lines to compare with: people, and captioners that need no model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tfx.types import standard_artifacts

from tests.artifacts import make_artifact, make_example, write_records
from tfx_captioner.components.caption_evaluator.context import (
    MOST_FREQUENT,
    NEAREST,
    RANDOM,
    human_line,
    human_rounds,
    nearest_neighbours,
    training_lines,
)


def test_each_reference_is_held_against_the_others() -> None:
    rounds = human_rounds({"1": ["a", "b", "c"], "2": ["d", "e"], "3": ["alone"]})
    assert rounds[0] == ({"1": ["b", "c"], "2": ["e"]}, {"1": "a", "2": "d"})
    assert rounds[1] == ({"1": ["a", "c"], "2": ["d"]}, {"1": "b", "2": "e"})
    # The image with two references is there again, with its first.
    assert rounds[2] == ({"1": ["a", "b"], "2": ["e"]}, {"1": "c", "2": "d"})
    assert len(rounds) == 3


def test_human_line_is_the_mean_of_the_rounds() -> None:
    lengths = human_line(
        {"1": ["a", "bb"]}, lambda _, captions: {"all": {"length": len(captions["1"])}}
    )
    assert lengths == {"all": {"length": 1.5}}
    assert human_line({"1": ["alone"]}, lambda *_: {"all": {"length": 0.0}}) == {}


def test_captioners_without_a_model() -> None:
    training = {"t1": ["a dog .", "A dog ."], "t2": ["a cat"]}
    lines = training_lines(["1", "2"], training, {"1": "t2", "2": "t2"}, seed=3)
    assert lines[MOST_FREQUENT] == {"1": "a dog .", "2": "a dog ."}
    assert lines[NEAREST] == {"1": "a cat", "2": "a cat"}
    assert set(lines[RANDOM].values()) <= {"a dog .", "A dog .", "a cat"}
    assert lines == training_lines(["1", "2"], training, {"1": "t2", "2": "t2"}, seed=3)
    assert NEAREST not in training_lines(["1"], training, {}, seed=3)
    assert training_lines(["1"], {}, {}, seed=3) == {}


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
    found = nearest_neighbours([artifact], images, "test")
    assert found == {image_id: {"1": "right", "2": "up"}[image_id] for image_id in images}


def test_no_features_no_neighbours() -> None:
    assert nearest_neighbours([], ["1"], "test") == {}
