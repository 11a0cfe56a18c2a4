"""The generated sample: scenes, captions, splits, and when it is written."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path

import pytest
from PIL import Image

from tfx_captioner.ingestion import scenes
from tfx_captioner.ingestion.drawing import RGB
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.sample import generate_sample, load_scenes, scenes_of_split

SIZES = {"train": 30, "val": 4, "test": 6}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "scenes"
    generate_sample(out, seed=3, **SIZES)
    return out


def test_layout_is_that_of_flickr8k(sample: Path) -> None:
    for split, file in (("train", "train"), ("val", "dev"), ("test", "test")):
        names = (sample / f"Flickr_8k.{file}Images.txt").read_text().split()
        assert len(names) == SIZES[split]
        for name in names:
            assert Image.open(sample / "Images" / name).size == (96, 96)
    assert len((sample / "Flickr8k.token.txt").read_text().splitlines()) == 5 * 40


def test_every_caption_names_the_main_object_first(sample: Path) -> None:
    captions = defaultdict(list)
    for line in (sample / "Flickr8k.token.txt").read_text().splitlines():
        key, text = line.split("\t")
        captions[key.partition("#")[0]].append(text.lower().split())
    truth = load_scenes(sample)
    assert captions.keys() == truth.keys()
    words = {*scenes.COLOURS, *scenes.SHAPES}
    for name, scene in truth.items():
        assert len({tuple(text) for text in captions[name]}) == 5
        for text in captions[name]:
            said = [word for word in text if word in words]
            assert said[:2] == [scene.colour, scene.shape]
            expected = [scene.second.colour, scene.second.shape] if scene.second else []
            assert said[2:] == expected


def test_pictures_show_the_colour_of_the_main_object(sample: Path) -> None:
    for name, scene in load_scenes(sample).items():
        picture = Image.open(sample / "Images" / name).convert("RGB")
        nearest = defaultdict(int)
        for count, pixel in picture.getcolors(96 * 96):
            saturation = max(pixel) - min(pixel)
            if saturation > 80:
                near = min(
                    RGB,
                    key=lambda c: sum((a - b) ** 2 for a, b in zip(pixel, RGB[c], strict=True)),
                )
                nearest[near] += count
        assert max(nearest, key=nearest.__getitem__) == scene.colour, name


def test_test_split_shows_combinations_that_train_does_not() -> None:
    def said(scene: scenes.Scene) -> tuple:
        if scene.second:
            return (scene.colour, scene.shape, scene.relation, scene.second)
        return (scene.colour, scene.shape, scene.position, scene.size, scene.background)

    train = [scene for _, scene, _ in scenes_of_split("train", 1500, seed=7)]
    test = [scene for _, scene, _ in scenes_of_split("test", 200, seed=7)]
    assert not {said(scene) for scene in train} & {said(scene) for scene in test}
    for word in ("colour", "shape", "relation", "position", "size"):
        assert {getattr(s, word) for s in test} == {getattr(s, word) for s in train}


def test_same_seed_gives_the_same_bytes_and_another_does_not(sample: Path, tmp_path: Path) -> None:
    generate_sample(tmp_path / "same", seed=3, **SIZES)
    generate_sample(tmp_path / "other", seed=4, **SIZES)
    assert contents(tmp_path / "same") == contents(sample)
    assert contents(tmp_path / "other") != contents(sample)


def test_larger_sample_begins_with_the_smaller_one() -> None:
    small = list(scenes_of_split("train", 5, seed=1))
    assert list(scenes_of_split("train", 9, seed=1))[:5] == small


def test_nothing_is_written_where_the_same_sample_lies(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    generate_sample(out, seed=1, train=2, val=1, test=1)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    generate_sample(out, seed=1, train=2, val=1, test=1)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_another_sample_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    out = tmp_path / "scenes"
    generate_sample(out, seed=1, train=3, val=1, test=1)
    generate_sample(out, seed=1, train=2, val=1, test=1)
    assert len(load_scenes(out)) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


def test_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(IngestError, match=r"holds other files and no sample\.json"):
        generate_sample(tmp_path, train=1, val=1, test=1)
    assert contents(tmp_path) == {"thesis.txt": b"precious"}


def test_empty_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"`val` must be at least 1\. Received: 0\."):
        generate_sample(tmp_path / "out", val=0)


def test_scenes_of_a_folder_that_is_no_sample(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"no generated sample: it has no scenes\.json"):
        load_scenes(tmp_path)


def test_article_fits_the_colour() -> None:
    scene = scenes.Scene("orange", "star", "large", "grey", position="top")
    for seed in range(20):
        for caption in scenes.captions(scene, random.Random(seed)):
            assert "a orange" not in caption.lower()
