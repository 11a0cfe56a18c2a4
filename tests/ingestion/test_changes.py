"""What a second run over a folder says of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from tests.ingestion import datasets
from tests.ingestion.outcome import run
from tfx_captioner.ingestion.changes import describe_changes

SPREAD = {"val_share": 0.2, "test_share": 0.2}
NAMES = [f"{number:03d}.jpg" for number in range(24)]


def test_folder_that_grew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "captioner.ingestion")
    source = datasets.write_flickr8k_kaggle(tmp_path / "source", NAMES)
    before = run(source, **SPREAD)
    assert "since" not in caplog.text
    more = [f"{number:03d}.jpg" for number in range(24, 34)]
    datasets.write_flickr8k_kaggle(source, NAMES + more)
    captions = source / "captions.txt"
    text = captions.read_text().replace("First caption of 007", "A caption of 007")
    captions.write_text("\n".join(line for line in text.splitlines() if line[:7] != "000.jpg"))
    after = run(source, **SPREAD)
    new = [list(map(after.splits.__getitem__, more)).count(split) for split in datasets.NAMES]
    assert (
        f"10 images are new (train {new[0]}, val {new[1]}, test {new[2]}), 1 changed, 1 is gone"
    ) in caplog.text
    kept = before.splits.keys() - {"000.jpg"}
    assert {image: after.splits[image] for image in kept} == {
        image: before.splits[image] for image in kept
    }


@pytest.mark.parametrize(
    ("earlier", "now", "said"),
    [
        ({}, {}, "no image is new, none changed, none is gone"),
        ({"a": "train"}, {"a": "test"}, "no image is new, none changed, 1 moved to another split"),
        ({"a": "train", "b": "val"}, {}, "no image is new, none changed, 2 are gone"),
        ({}, {"a": "train", "b": "train"}, "2 images are new (train 2), none changed"),
    ],
)
def test_changes_in_words(earlier: dict[str, str], now: dict[str, str], said: str) -> None:
    def images(splits: dict[str, str]) -> dict[str, tuple[str, str]]:
        return {image: (split, "digest") for image, split in splits.items()}

    assert describe_changes(images(earlier), images(now)).startswith(said)
