"""Fixtures of the evaluator's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from tests.artifacts import make_artifact, write_records
from tests.components.caption_evaluator.walls import COLOURS, Bench, png, references, wall

FILE = "data_tfrecord-00000-of-00001.gz"


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[..., Bench]:
    """Makes examples of six walls, with further test examples if asked."""

    def make(*more: tf.train.Example) -> Bench:
        walls = [wall(f"{colour}.png", png(colour), references(colour)) for colour in COLOURS]
        train = [wall(f"train{i}.png", png("grey"), ["a grey wall"]) for i in range(3)]
        folder = tmp_path / "examples"
        write_records(folder / "Split-test" / FILE, [*walls, *more])
        write_records(folder / "Split-train" / FILE, train)
        examples = make_artifact(standard_artifacts.Examples, folder, ["train", "test"])
        return Bench(tmp_path, examples)

    return make


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """The six walls."""
    return make_bench()
