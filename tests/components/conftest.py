"""Fixtures of the evaluator's tests."""

from __future__ import annotations

import pytest
from tfx.types import standard_artifacts

from tests.artifacts import make_artifact, write_records
from tests.components.walls import COLOURS, Bench, png, references, wall

FILE = "data_tfrecord-00000-of-00001.gz"


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Six walls, and four pictures that captioners have trouble with."""
    root = tmp_path_factory.mktemp("walls")
    test = [wall(f"{colour}.png", png(colour), references(colour)) for colour in COLOURS]
    test += [
        wall("broken.jpg", b"\xff\xd8\xff not a photograph", references("red")),
        wall("nothing.jpg", b"", references("red")),
        # The models refuse bytes that end in `refuse`; the picture itself is sound.
        wall("refused.png", png("red") + b"refuse", references("red")),
        wall("silent.png", png("red", size=(8, 12)), references("red")),
    ]
    train = [wall(f"train{i}.png", png("grey"), ["a grey wall"]) for i in range(3)]
    write_records(root / "examples" / "Split-test" / FILE, test)
    write_records(root / "examples" / "Split-train" / FILE, train)
    examples = make_artifact(standard_artifacts.Examples, root / "examples", ["train", "test"])
    return Bench(root, examples)
