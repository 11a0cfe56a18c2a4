"""Pictures of more than one split: the very same, nearly the same, and those that only look so."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.ingestion import datasets
from tests.ingestion.outcome import run
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.job import ingest
from tfx_captioner.ingestion.leaks import Appearance, find_leaks


def picture(seed: object, size: tuple[int, int] = (400, 300)) -> Image.Image:
    """A picture of large coloured fields with soft edges."""
    pattern = Image.frombytes("RGB", (5, 4), random.Random(seed).randbytes(60))
    return pattern.resize(size, Image.Resampling.BICUBIC)


def appearance(image: Image.Image) -> Appearance:
    return Appearance.of(np.asarray(image.convert("RGB")))


def stored(image: Image.Image, form: str, **options: object) -> Image.Image:
    return Image.open(io.BytesIO(datasets.encoded(image, form, **options)))


EDITS = {
    "strong compression": lambda image: stored(image, "JPEG", quality=30),
    "another format": lambda image: stored(image, "WEBP", quality=60),
    "half the size": lambda image: image.resize((200, 150)),
    "a third of the size": lambda image: image.resize((133, 100)),
    "a little brighter": lambda image: image.point(lambda level: min(255, level + 8)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_nearly_the_same(edit: str) -> None:
    train = {f"{number}": appearance(picture(number)) for number in range(50)}
    test = {"copy": appearance(EDITS[edit](picture(7))), "other": appearance(picture("other"))}
    leaks = find_leaks({"train": train, "val": {}, "test": test})
    assert leaks.test_images == {"copy": "7"}
    assert leaks.similar == [["copy", "7"]]
    assert leaks.same == []


def test_colour_and_place_tell_pictures_apart() -> None:
    red, _, blue = picture(1).split()
    train = {"train": appearance(Image.merge("RGB", (red, red, blue)))}
    test = {
        "colour": appearance(Image.merge("RGB", (blue, red, red))),
        "mirrored": appearance(
            Image.merge("RGB", (red, red, blue)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        ),
    }
    assert find_leaks({"train": train, "val": {}, "test": test}).test_images == {}


def test_plain_pictures_are_the_same_only_if_all_pixels_are() -> None:
    gray = Image.new("RGB", (40, 30), (120, 120, 120))
    train = {"plain": appearance(gray)}
    test = {
        "copy": appearance(gray.copy()),
        "slightly lighter": appearance(Image.new("RGB", (40, 30), (122, 122, 122))),
    }
    leaks = find_leaks({"train": train, "val": {}, "test": test})
    assert leaks.test_images == {"copy": "plain"}
    assert leaks.same == [["copy", "plain"]]


def test_copies_between_val_and_test_count_and_those_between_train_and_val_are_told() -> None:
    a, b = appearance(picture("a")), appearance(picture("b"))
    leaks = find_leaks({"train": {"1": a}, "val": {"2": a, "3": b}, "test": {"4": b}})
    assert leaks.same == [["1", "2"], ["3", "4"]]
    assert leaks.test_images == {"4": "3"}


def test_copies_within_a_split_are_no_leak() -> None:
    a = appearance(picture("a"))
    leaks = find_leaks({"train": {"1": a, "2": a}, "val": {}, "test": {}})
    assert leaks.same == []
    assert leaks.test_images == {}


def test_thousands_of_copies_are_found_at_once() -> None:
    a = appearance(picture("a"))
    train = {f"{number:05d}": a for number in range(5000)}
    leaks = find_leaks({"train": train, "val": {}, "test": {"t": a}})
    assert leaks.test_images == {"t": "00000"}


def test_run_stops_above_the_share_and_names_examples(flickr8k: Path) -> None:
    picture(1).save(flickr8k / "Images" / "a.jpg")
    picture(1).resize((200, 150)).save(flickr8k / "Images" / "e.jpg", quality=60)
    with pytest.raises(IngestError) as raised:
        ingest(flickr8k, flickr8k.parent / "out", config=IngestConfig())
    for part in (
        "1 of 1 test images are in train or val too",
        "`max_leaked_share` allows: 1 > 0.01",
        "e.jpg looks like a.jpg",
    ):
        assert part in str(raised.value)
    assert not (flickr8k.parent / "out").exists()
    outcome = run(flickr8k, max_leaked_share=1.0)
    assert outcome.info.near_duplicates_across_splits == [["e.jpg", "a.jpg"]]
    assert outcome.info.duplicates_across_splits == []
    assert outcome.info.leaked_test_images == 1


def test_same_pixels_in_another_file(flickr8k: Path) -> None:
    path = flickr8k / "Images" / "e.jpg"
    data = (flickr8k / "Images" / "a.jpg").read_bytes()
    comment = b"\xff\xfe\x00\x08a note"
    path.write_bytes(data[:2] + comment + data[2:])
    outcome = run(flickr8k)
    assert outcome.info.duplicates_across_splits == [["a.jpg", "e.jpg"]]


def test_generated_scenes_that_share_much_are_no_leak(sample_records: Path) -> None:
    content = (sample_records / "dataset.json").read_text()
    assert '"leaked_test_images": 0' in content
    assert '"near_duplicates_across_splits": []' in content
