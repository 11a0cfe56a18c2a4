"""Names that are right and names that are spelt otherwise: which files they mean."""

from __future__ import annotations

import json
import shutil
import unicodedata
from pathlib import Path

import pytest

from tests.ingestion import datasets
from tests.ingestion.datasets import edit_json
from tests.ingestion.outcome import run
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.job import ingest
from tfx_captioner.ingestion.names import match_files
from tfx_captioner.ingestion.readers.registry import choose_reader

MANY = [f"{number:03d}.jpg" for number in range(24)]
SPREAD = {"val_share": 0.2, "test_share": 0.2}


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """Flickr8k as on Kaggle, with enough images for three splits."""
    return datasets.write_flickr8k_kaggle(tmp_path / "kaggle", MANY)


def rename_in_captions(source: Path, rename) -> None:
    path = source / "captions.txt"
    header, *lines = path.read_text().splitlines()
    renamed = [
        ",".join([rename(name), text]) for name, _, text in (x.partition(",") for x in lines)
    ]
    path.write_text("\n".join([header, *renamed]) + "\n")


# Names that are right, in subfolders.


def in_subfolders(folder: Path, names: list[str]) -> dict[str, str]:
    moved = {name: f"a{number % 2}/{name}" for number, name in enumerate(names)}
    for name, path in moved.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / name).rename(folder / path)
    return moved


def test_kaggle_with_images_in_subfolders(kaggle: Path) -> None:
    moved = in_subfolders(kaggle / "Images", MANY)
    rename_in_captions(kaggle, moved.__getitem__)
    outcome = run(kaggle, **SPREAD)
    assert outcome.captions.keys() == {*moved.values()}
    assert outcome.encoded["a1/001.jpg"] == (kaggle / "Images/a1/001.jpg").read_bytes()
    assert outcome.rejected == []
    assert outcome.info.names_matched == {}


def test_coco_with_images_in_subfolders(tmp_path: Path) -> None:
    source = datasets.write_coco(tmp_path / "source")
    for part in ("train", "val"):
        folder = source / f"{part}2017"
        moved = in_subfolders(folder, sorted(path.name for path in folder.iterdir()))
        edit_json(
            source / "annotations" / f"captions_{part}2017.json",
            lambda content, moved=moved: [
                x.update(file_name=moved[x["file_name"]]) for x in content["images"]
            ],
        )
    outcome = run(source)
    assert len(outcome.captions) == 18
    assert outcome.rejected == []


def test_flickr8k_with_images_in_subfolders_that_its_files_do_not_name(flickr8k: Path) -> None:
    in_subfolders(flickr8k / "Images", datasets.ALL)
    outcome = run(flickr8k)
    assert outcome.captions.keys() == {*datasets.ALL}
    assert outcome.info.names_matched["missing subfolder"].images == 5


def test_karpathy_with_images_in_subfolders(tmp_path: Path) -> None:
    source = datasets.write_karpathy(tmp_path / "source")
    moved = in_subfolders(source / "Images", datasets.ALL)
    edit_json(
        source / "dataset_flickr8k.json",
        lambda content: [x.update(filename=moved[x["filename"]]) for x in content["images"]],
    )
    outcome = run(source)
    assert outcome.captions.keys() == {*moved.values()}
    assert outcome.rejected == []


# Names that are spelt otherwise.

SPELLINGS = {
    "case": (str.upper, "Images/000.JPG is Images/000.jpg"),
    "leading folder": (lambda name: f"Images/{name}", "Images/Images/000.jpg is Images/000.jpg"),
    "backslashes, leading folder": (
        lambda name: f"Images\\{name}",
        "Images/Images\\000.jpg is Images/000.jpg",
    ),
    "missing suffix": (lambda name: name.removesuffix(".jpg"), "Images/000 is Images/000.jpg"),
}


@pytest.mark.parametrize("difference", SPELLINGS)
def test_images_whose_names_are_spelt_otherwise_are_taken(kaggle: Path, difference: str) -> None:
    rename, example = SPELLINGS[difference]
    rename_in_captions(kaggle, rename)
    outcome = run(kaggle, **SPREAD)
    assert outcome.captions[rename("007.jpg")][0] == "First caption of 007.jpg ."
    assert outcome.encoded[rename("007.jpg")] == (kaggle / "Images/007.jpg").read_bytes()
    assert outcome.rejected == []
    content = json.loads((kaggle.parent / "kaggle.out" / "dataset.json").read_text())
    assert content["names_matched"] == {difference: {"images": len(MANY), "example": example}}


@pytest.mark.parametrize(("on_disk", "in_file"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_unicode_normalisation_of_names(kaggle: Path, on_disk: str, in_file: str) -> None:
    for path in list((kaggle / "Images").iterdir()):
        path.rename(path.with_name(unicodedata.normalize(on_disk, f"é{path.name}")))
    rename_in_captions(kaggle, lambda name: unicodedata.normalize(in_file, f"é{name}"))
    outcome = run(kaggle, **SPREAD)
    assert len(outcome.captions) == len(MANY)
    assert outcome.info.names_matched["Unicode normalisation"].images == len(MANY)


def matched(wanted: str, *files: str) -> tuple[str | None, str]:
    """The file taken for one image, and what its name differs in, or why none was taken."""
    matches = match_files({"i": wanted}, files, ["Images"], "data")
    said = matches.differences.get("i") or matches.problems.get("i", "")
    return matches.paths.get("i"), said


def test_several_files_that_would_match_are_told_and_none_is_taken() -> None:
    path, why = matched("Images/a.JPG", "Images/A.jpg", "Images/a.jpg")
    assert path is None
    assert why == "would match Images/A.jpg, Images/a.jpg, so none was taken"


def test_file_of_one_image_is_not_taken_for_another() -> None:
    wanted = {"a.jpg": "Images/a.jpg", "A.jpg": "Images/A.jpg"}
    matches = match_files(wanted, ["Images/a.jpg"], ["Images"], "data")
    assert matches.paths == {}
    assert matches.problems == {"A.jpg": "would match Images/a.jpg, which a.jpg matches too"}


@pytest.mark.parametrize(
    ("wanted", "file", "difference"),
    [
        ("Images/data/Images/a.jpg", "Images/a.jpg", "leading folder"),
        ("Images/a.jpg", "Images/p0/a.jpg", "missing subfolder"),
        ("Images/A", "Images/p0/a.jpg", "case, missing subfolder and suffix"),
        ("Images/p1/a.jpg", "Images/p0/a.jpg", None),
        ("Images/a.jpg", "Images/a.png", None),
        ("Images/a", "Images/a.txt", None),
    ],
)
def test_what_is_overlooked_in_names_and_what_is_not(
    wanted: str, file: str, difference: str | None
) -> None:
    path, said = matched(wanted, file)
    assert path == (file if difference else None)
    assert said == (difference or "")


def test_file_of_the_same_name_in_another_folder_of_images_is_another_picture() -> None:
    folders = ["train2017", "val2017"]
    matches = match_files({"5": "val2017/5.jpg"}, ["train2017/5.jpg"], folders, "coco")
    assert matches.paths == {}
    assert matches.problems == {}


def test_error_shows_both_sides_where_no_name_matches(kaggle: Path) -> None:
    rename_in_captions(kaggle, lambda name: f"photo_{name}")
    with pytest.raises(IngestError) as raised:
        ingest(kaggle, kaggle.parent / "out", config=IngestConfig(**SPREAD))
    for part in (
        "24 image_missing, 24 image_without_captions",
        "image_missing: photo_000.jpg (Images/photo_000.jpg, no file of this or a similar name)",
        "image_without_captions: 000.jpg (Images/000.jpg, in no annotation file)",
    ):
        assert part in str(raised.value)
    assert "photo_003.jpg" not in str(raised.value), "the first three are enough"


def test_error_shows_a_line_that_cannot_be_parsed(flickr8k: Path) -> None:
    path = flickr8k / "Flickr8k.token.txt"
    path.write_text(path.read_text().replace("\t", "    "))
    with pytest.raises(IngestError, match=r"a\.jpg#0    Caption 0 of a\.jpg \. .*no tab between"):
        ingest(flickr8k, flickr8k.parent / "out", config=IngestConfig())


def test_data_one_folder_deeper_is_named(tmp_path: Path) -> None:
    inner = tmp_path / "unpacked" / "Flickr8k"
    inner.mkdir(parents=True)
    datasets.write_flickr8k(inner)
    with pytest.raises(IngestError, match=rf"{inner} is of the form flickr8k: give that folder"):
        choose_reader(str(tmp_path / "unpacked"))


def test_result_that_cannot_be_read_is_not_to_be_removed(kaggle: Path) -> None:
    out = kaggle.parent / "out"
    shutil.copytree(kaggle, out)
    (out / "dataset.json").write_text("{")
    with pytest.raises(IngestError) as raised:
        ingest(kaggle, out, config=IngestConfig(**SPREAD))
    assert "Name another folder to write, or move this one away" in str(raised.value)
    assert "emove" not in str(raised.value)
    assert (out / "captions.txt").is_file()
