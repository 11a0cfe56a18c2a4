"""Names of files and ids as people really have them: odd, shared, spelt otherwise, or hostile."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.ingestion import datasets
from tests.ingestion.datasets import edit_json
from tests.ingestion.outcome import run
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.job import ingest
from tfx_captioner.ingestion.names import RefusedNameError, path_inside

MANY = [f"{number:03d}.jpg" for number in range(24)]
SPREAD = {"val_share": 0.2, "test_share": 0.2}


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """Flickr8k as on Kaggle, with enough images for three splits."""
    return datasets.write_flickr8k_kaggle(tmp_path / "kaggle", MANY)


# What one name holds is set aside.


def test_dangling_link_costs_its_image_only(kaggle: Path) -> None:
    (kaggle / "Images" / "003.jpg").unlink()
    (kaggle / "Images" / "003.jpg").symlink_to("/nowhere/003.jpg")
    (kaggle / "Images" / "extra.jpg").symlink_to("/nowhere/extra.jpg")
    outcome = run(kaggle, **SPREAD)
    assert outcome.captions.keys() == {*MANY} - {"003.jpg"}
    why = "a link to what is not there"
    assert outcome.rejected == [
        ("file_unusable", "extra.jpg", why),
        ("image_missing", "003.jpg", why),
    ]


def test_file_name_that_is_not_utf8(kaggle: Path) -> None:
    folder = os.fsencode(kaggle / "Images")
    Path(os.fsdecode(folder + b"/caf\xe9.jpg")).write_bytes(datasets.jpeg())
    outcome = run(kaggle, **SPREAD)
    assert len(outcome.captions) == len(MANY)
    assert outcome.rejected == [("file_unusable", r"caf\xe9.jpg", "the name is not UTF-8")]


def test_wildcards_in_names_are_nothing_but_letters(tmp_path: Path) -> None:
    odd = ["[1].jpg", "a*.jpg", "b?.jpg"]
    source = datasets.write_flickr8k_kaggle(tmp_path / "photos [1] *?", [*MANY, *odd])
    outcome = run(source, **SPREAD)
    assert outcome.captions.keys() == {*MANY, *odd}
    assert outcome.rejected == []


def test_pipes_and_loops_of_links_are_not_entered(kaggle: Path) -> None:
    os.mkfifo(kaggle / "Images" / "pipe.jpg")
    (kaggle / "Images" / "loop").symlink_to(kaggle / "Images")
    outcome = run(kaggle, **SPREAD)
    assert len(outcome.captions) == len(MANY)
    assert outcome.rejected == [
        ("file_unusable", "loop", "a link to a folder that it lies in"),
        ("file_unusable", "pipe.jpg", "neither a file nor a folder"),
    ]


def test_half_surrogate_pairs_in_json(tmp_path: Path) -> None:
    source = datasets.write_karpathy(tmp_path / "source")

    def spoil(content) -> None:
        content["images"][0]["sentences"][0]["raw"] = "half \ud83d a dog"
        content["images"].append(
            {"filename": "\udc00.jpg", "split": "train", "sentences": [{"raw": "A cat ."}]}
        )

    edit_json(source / "dataset_flickr8k.json", spoil)
    outcome = run(source)
    assert outcome.captions["a.jpg"] == ["First of a.jpg ."]
    assert outcome.captions.keys() == {*datasets.ALL}
    assert outcome.reasons == {"a.jpg": "caption_unparsable", r"\udc00.jpg": "name_refused"}


def test_byte_that_is_not_utf8_costs_its_caption_in_json(tmp_path: Path) -> None:
    source = datasets.write_karpathy(tmp_path / "source")
    path = source / "dataset_flickr8k.json"
    path.write_bytes(path.read_bytes().replace(b"First of b.jpg", b"First \xe9 b.jpg"))
    outcome = run(source)
    assert outcome.captions["b.jpg"] == ["Second of b.jpg ."]
    assert outcome.reasons == {"b.jpg": "caption_unparsable"}


def test_entry_that_is_no_object_costs_itself(tmp_path: Path) -> None:
    source = datasets.write_coco(tmp_path / "source")
    path = source / "annotations" / "captions_train2017.json"
    edit_json(path, lambda content: content["images"].append(7))
    edit_json(path, lambda content: content["annotations"].append(None))
    outcome = run(source)
    assert len(outcome.captions) == 18
    assert outcome.info.rejected == {"caption_unparsable": 2}


def test_source_whose_own_name_is_not_utf8(tmp_path: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    source.mkdir()
    with pytest.raises(IngestError, match=r"must be UTF-8\. Received: .*caf\\xe9"):
        ingest(source, tmp_path / "out", config=IngestConfig())


# Two pictures under one id.


def test_two_coco_images_of_one_id_get_no_captions(tmp_path: Path) -> None:
    source = datasets.write_coco(tmp_path / "source")
    path = source / "annotations" / "captions_train2017.json"
    edit_json(path, lambda content: content["images"][1].update(id=3))
    outcome = run(source)
    assert "3" not in outcome.captions
    assert [entry[:2] for entry in outcome.rejected] == [
        ("image_id_ambiguous", "3"),
        ("image_id_ambiguous", "3"),
        ("no_image_name", "2"),
    ]
    assert "000000000002.jpg and train2017/000000000003.jpg have this id" in outcome.rejected[0][2]


def test_coco_files_that_both_count_from_one_keep_their_captions_apart(tmp_path: Path) -> None:
    source = datasets.write_coco(tmp_path / "source", train=6, val=12)
    path = source / "annotations" / "captions_val2017.json"

    def count_from_one(content) -> None:
        for entry in content["images"]:
            entry["id"] -= 6
        for entry in content["annotations"]:
            entry["image_id"] -= 6

    edit_json(path, count_from_one)
    outcome = run(source)
    assert len(outcome.captions) == 18
    assert outcome.captions["train/2"] == ["Caption 0 of 2.", "Caption 1 of 2."]
    assert outcome.captions["val/2"] == ["Caption 0 of 8.", "Caption 1 of 8."]
    assert outcome.encoded["val/2"] == (source / "val2017" / "000000000008.jpg").read_bytes()
    assert outcome.rejected == []


@pytest.mark.parametrize("kind", [str, float])
def test_coco_ids_that_other_programs_write_as_strings_or_floats(tmp_path: Path, kind) -> None:
    source = datasets.write_coco(tmp_path / "source")
    for part in ("train", "val"):
        path = source / "annotations" / f"captions_{part}2017.json"
        edit_json(path, lambda content: [x.update(id=kind(x["id"])) for x in content["images"]])
    outcome = run(source)
    assert outcome.captions["4"] == ["Caption 0 of 4.", "Caption 1 of 4."]
    assert outcome.rejected == []


def test_karpathy_entries_of_one_name_and_two_pictures(tmp_path: Path) -> None:
    source = datasets.write_karpathy(tmp_path / "source")
    sentences = [{"raw": "Of another picture ."}]
    entries = [
        {"filename": "b.jpg", "imgid": 1, "split": "train", "sentences": sentences},
        {"filename": "b.jpg", "imgid": 2, "split": "train", "sentences": sentences},
    ]
    edit_json(
        source / "dataset_flickr8k.json",
        lambda content: content["images"].__setitem__(slice(1, 2), entries),
    )
    outcome = run(source)
    assert outcome.captions.keys() == {*datasets.ALL} - {"b.jpg"}
    assert outcome.info.rejected["image_id_ambiguous"] == 2


def test_karpathy_entry_that_is_listed_twice_counts_once(tmp_path: Path) -> None:
    source = datasets.write_karpathy(tmp_path / "source")
    path = source / "dataset_flickr8k.json"
    edit_json(path, lambda content: content["images"].append(content["images"][0]))
    outcome = run(source)
    assert outcome.captions["a.jpg"] == ["First of a.jpg .", "Second of a.jpg ."]
    assert outcome.info.rejected == {"caption_repeated": 2}


def test_karpathy_names_that_two_folders_have(tmp_path: Path) -> None:
    source = tmp_path / "source"
    entries = []
    for number, (folder, split) in enumerate([("x", "train"), ("y", "val"), ("z", "test")]):
        (source / folder).mkdir(parents=True)
        (source / folder / "1.jpg").write_bytes(datasets.jpeg((40 + number, 30)))
        sentences = [{"raw": f"In {folder} ."}]
        entry = {"filename": "1.jpg", "filepath": folder, "split": split, "sentences": sentences}
        entries.append(entry)
    (source / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    outcome = run(source)
    assert outcome.captions == {f"{x}/1.jpg": [f"In {x} ."] for x in "xyz"}
    assert outcome.encoded["y/1.jpg"] == (source / "y" / "1.jpg").read_bytes()


# Names that lead elsewhere.


@pytest.mark.parametrize(
    ("folder", "name", "path"),
    [
        ("Images", "a.jpg", "Images/a.jpg"),
        ("Images", "part0/./a.jpg", "Images/part0/a.jpg"),
        ("Images", "x/../a.jpg", "Images/a.jpg"),
        ("train2017", "../val2017/a.jpg", "val2017/a.jpg"),
        ("", "", ""),
        ("", "..a.jpg", "..a.jpg"),
    ],
)
def test_names_inside(folder: str, name: str, path: str) -> None:
    assert path_inside(folder, name) == path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../secret.jpg", "leads out"),
        ("../..", "leads out"),
        ("x/../../../secret.jpg", "leads out"),
        ("/etc/secret.jpg", "absolute"),
        ("gs://bucket/a.jpg", "URL"),
        ("a\0.jpg", "NUL"),
        ("\ud800.jpg", "UTF-8"),
    ],
)
def test_names_that_are_refused(name: str, message: str) -> None:
    with pytest.raises(RefusedNameError, match=message):
        path_inside("Images", name)


@pytest.mark.parametrize("filepath", ["../secret", "{absolute}", "images/../../secret"])
def test_karpathy_reads_no_picture_outside_of_the_data_set(tmp_path: Path, filepath: str) -> None:
    source = datasets.write_karpathy(tmp_path / "source")
    secret = tmp_path / "secret"
    datasets.write_images(secret, ["s.jpg"])
    entry = {
        "filename": "s.jpg",
        "filepath": filepath.format(absolute=secret),
        "split": "train",
        "sentences": [{"raw": "A secret ."}],
    }
    path = source / "dataset_flickr8k.json"
    edit_json(path, lambda content: content["images"].append(entry))
    outcome = run(source)
    assert outcome.captions.keys() == {*datasets.ALL}
    assert outcome.reasons == {"s.jpg": "name_refused"}


@pytest.mark.parametrize("name", ["../../secret/s.jpg", "{absolute}/s.jpg"])
@pytest.mark.parametrize("form", ["flickr8k", "kaggle", "coco"])
def test_other_readers_read_no_picture_outside_either(tmp_path: Path, form: str, name: str) -> None:
    source, secret = tmp_path / "source", tmp_path / "secret"
    source.mkdir()
    datasets.write_images(secret, ["s.jpg"])
    name = name.format(absolute=secret)
    if form == "coco":
        datasets.write_coco(source)
        path = source / "annotations" / "captions_train2017.json"
        edit_json(path, lambda content: content["images"][0].update(file_name=name))
        refused = "1"
    elif form == "flickr8k":
        datasets.write_flickr8k(source)
        with (source / "Flickr8k.token.txt").open("a") as file:
            file.write(f"{name}#0\tA secret .\n")
        with (source / "Flickr_8k.trainImages.txt").open("a") as file:
            file.write(f"{name}\n")
        refused = name
    else:
        datasets.write_flickr8k_kaggle(source, MANY)
        with (source / "captions.txt").open("a") as file:
            file.write(f"{name},A secret .\n")
        refused = name
    outcome = run(source, **SPREAD)
    assert outcome.reasons[refused] == "name_refused"
    assert refused not in outcome.captions
