"""Photographs of one's own: tables, Hugging Face image folders, WebDataset shards."""

from __future__ import annotations

import csv
import io
import json
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import tensorflow as tf

from tests.ingestion import datasets
from tests.ingestion.outcome import run
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.job import ingest
from tfx_captioner.ingestion.readers.registry import choose_reader
from tfx_captioner.pipeline.cli import main

NAMES = [f"{number:03d}.jpg" for number in range(24)]
SPREAD = {"val_share": 0.2, "test_share": 0.2}
FOLDERS = {"train": "train", "validation": "val", "test": "test"}


def table_text(rows: Sequence[Sequence[str]], separator: str = ",", quote: bool = False) -> str:
    buffer = io.StringIO()
    quoting = csv.QUOTE_ALL if quote else csv.QUOTE_MINIMAL
    csv.writer(buffer, delimiter=separator, quoting=quoting, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def json_lines(rows: Sequence[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write_table(source: Path, text: str, name: str = "photos.csv", folder: str = "images") -> Path:
    datasets.write_images(source / folder, NAMES)
    (source / name).write_text(text)
    return source


def write_shard(path: Path, files: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def shard_of(tag: str, count: int, caption: str = "txt") -> dict[str, bytes]:
    """Samples that img2dataset might have written."""
    files = {}
    for number in range(count):
        picture = datasets.Image.frombytes(
            "RGB", (5, 4), datasets.random.Random(f"{tag}{number}").randbytes(60)
        ).resize((50, 40))
        text = f"Caption of {tag} {number} ."
        files[f"{number:03d}.jpg"] = datasets.encoded(picture, "JPEG")
        if caption == "txt":
            files[f"{number:03d}.txt"] = text.encode()
        files[f"{number:03d}.json"] = json.dumps({"caption": text, "key": number}).encode()
    return files


# Tables.


def test_table_without_splits(tmp_path: Path) -> None:
    rows = [["image", "caption"], *([name, f"A photo, called {name}"] for name in NAMES)]
    source = write_table(tmp_path / "photos", table_text(rows))
    outcome = run(source, **SPREAD)
    assert outcome.info.format == "table"
    assert outcome.captions == {name: [f"A photo, called {name}"] for name in NAMES}
    assert outcome.encoded["005.jpg"] == (source / "images/005.jpg").read_bytes()
    assert {*outcome.splits.values()} == {"train", "val", "test"}
    assert "by a hash of the image id" in outcome.info.split_rule
    assert outcome.rejected == []


def splits_of(names: Sequence[str]) -> dict[str, str]:
    return {name: ("train", "train", "validation", "test")[i % 4] for i, name in enumerate(names)}


@pytest.mark.parametrize(
    ("separator", "quote"), [(",", False), (",", True), (";", False), ("\t", False)]
)
def test_table_with_splits(tmp_path: Path, separator: str, quote: bool) -> None:
    rows = [["", "Split", "File_Name", "Caption"]]
    rows += [["7", s, name, f"Of {name}; or, so"] for name, s in splits_of(NAMES).items()]
    source = write_table(tmp_path / "photos", table_text(rows, separator, quote))
    outcome = run(source)
    assert outcome.captions == {name: [f"Of {name}; or, so"] for name in NAMES}
    assert outcome.splits == {name: FOLDERS[split] for name, split in splits_of(NAMES).items()}
    assert outcome.info.split_rule == "as published: train, val, test"


def test_table_in_json_lines_with_several_captions(tmp_path: Path) -> None:
    rows = [
        {"image": f"images/{name}", "caption": [f"One {name}", f"Two {name}"], "split": split}
        for name, split in splits_of(NAMES).items()
    ]
    source = write_table(tmp_path / "photos", json_lines(rows), "captions.jsonl")
    outcome = run(source)
    assert outcome.captions["images/003.jpg"] == ["One 003.jpg", "Two 003.jpg"]
    assert outcome.rejected == []


def test_table_in_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    source = tmp_path / "photos"
    datasets.write_images(source, NAMES)
    splits = splits_of(NAMES)
    captions = [None, *(f"Of {name}" for name in NAMES[1:])]
    columns = {"path": NAMES, "text": captions, "split": [splits[name] for name in NAMES]}
    pq.write_table(pa.table(columns), source / "photos.parquet")
    outcome = run(source)
    assert outcome.captions == {name: [f"Of {name}"] for name in NAMES[1:]}
    assert outcome.info.rejected == {"caption_unparsable": 1, "image_without_captions": 1}


def test_columns_that_the_user_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["Datei", "Titel"], *([name, f"Bild {name}"] for name in NAMES)]
    source = write_table(tmp_path / "photos", table_text(rows, ";"))
    with pytest.raises(IngestError, match=r"Not table: photos\.csv begins with 'Datei;Titel'"):
        choose_reader(str(source))
    columns = ["--columns", "image=Datei", "--columns", "caption=Titel"]
    shares = ["--val-share", "0.2", "--test-share", "0.2"]
    assert main(["ingest", str(source), str(tmp_path / "out"), *columns, *shares]) == 0
    assert "read as table" in capsys.readouterr().out
    assert main(["ingest", str(source), str(tmp_path / "out"), "--columns", "colour=Datei"]) == 2


def test_a_table_for_each_split(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    datasets.write_images(source, NAMES)
    for split, names in (("train", NAMES[:12]), ("val", NAMES[12:18]), ("test", NAMES[18:])):
        rows = [["image", "caption"], *([name, f"In {split}: {name}"] for name in names)]
        (source / f"{split}.csv").write_text(table_text(rows))
    outcome = run(source)
    assert outcome.captions["020.jpg"] == ["In test: 020.jpg"]
    assert outcome.splits["020.jpg"] == "test"
    (source / "test.csv").rename(source / "rest.csv")
    with pytest.raises(IngestError, match=r"several tables of captions: rest\.csv, train\.csv"):
        ingest(source, tmp_path / "out", config=IngestConfig())


def test_parquet_runs_no_code(tmp_path: Path) -> None:
    """CVE-2023-47248, in a process that imports nothing which would guard against it first."""
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "executed",)

    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Payload()),
    }
    schema = pa.schema(
        [pa.field("image", pa.string(), metadata=metadata), pa.field("caption", pa.string())]
    )
    pq.write_table(pa.table([["a.jpg"], ["A"]], schema=schema), tmp_path / "photos.parquet")
    code = (
        "import sys\n"
        "from tfx_captioner.ingestion.readers.registry import choose_reader\n"
        "choose_reader(sys.argv[1])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False
    )
    assert not (tmp_path / "executed").exists()
    assert "photos.parquet is no valid Parquet: Disallowed deserialization" in result.stderr


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_damaged_parquet_is_named(tmp_path: Path, share: float) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    source = write_table(tmp_path / "photos", "", name="notes.txt")
    columns = {"image": NAMES, "caption": [f"Of {name}" for name in NAMES]}
    pq.write_table(pa.table(columns), source / "photos.parquet")
    content = bytearray((source / "photos.parquet").read_bytes())
    start = int(len(content) * share)
    content[start : start + 40] = b"\xff" * 40
    (source / "photos.parquet").write_bytes(content)
    try:
        outcome = run(source, **SPREAD)
    except IngestError as error:
        message = str(error)
    else:  # some bytes are of no use to readers
        message = "" if set(outcome.captions) <= {*NAMES} else "other names"
    assert message == "" or "photos.parquet" in message


def test_bad_rows_cost_themselves(tmp_path: Path) -> None:
    rows = [["image", "caption", "split"]]
    rows += [[name, f"Of {name}", split] for name, split in splits_of(NAMES).items()]
    text = table_text(rows) + (
        "000.jpg\n"
        ",No name,train\n"
        '001.jpg,"never closed,train\n'
        "../../secret.jpg,A secret,train\n"
        "ftp://example.org/a.jpg,Elsewhere,train\n"
        "x.jpg,Of a split of no known name,\n"
        "new.jpg,Of a split of no known name,third\n"
    )
    source = write_table(tmp_path / "photos", text)
    outcome = run(source)
    assert outcome.captions == {name: [f"Of {name}"] for name in NAMES}
    assert outcome.info.rejected == {
        "caption_unparsable": 3,
        "image_without_split": 2,
        "name_refused": 2,
    }


def test_row_in_another_split_stops_the_run(tmp_path: Path) -> None:
    rows = [["image", "caption", "split"], ["000.jpg", "A", "train"], ["000.jpg", "B", "test"]]
    source = write_table(tmp_path / "photos", table_text(rows))
    with pytest.raises(IngestError, match=r"000\.jpg is in train \(photos\.csv:2\) and in test"):
        run(source)


def test_splits_that_are_missing_are_taken_from_those_there(tmp_path: Path) -> None:
    rows = [["image", "caption", "split"]]
    for number, name in enumerate(NAMES):
        rows.append([name, f"Of {name}", "train" if number < 12 else "val"])
    source = write_table(tmp_path / "photos", table_text(rows))
    outcome = run(source, **SPREAD)
    assert {outcome.splits[name] for name in NAMES[:12]} == {"train"}
    assert {outcome.splits[name] for name in NAMES[12:]} == {"val", "test"}
    assert "val divided into val and test" in outcome.info.split_rule


def test_table_beside_a_published_form_is_left_alone(flickr8k: Path) -> None:
    (flickr8k / "notes.csv").write_text("image,caption\nx.jpg,Not this\n")
    assert choose_reader(str(flickr8k)).name == "flickr8k"


# Image folders.


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_image_folder_with_split_folders(tmp_path: Path, form: str) -> None:
    source = tmp_path / "photos"
    for folder in FOLDERS:
        names = [f"{folder[0]}{number}.jpg" for number in range(4)]
        datasets.write_images(source / folder, names)
        rows = [{"file_name": name, "text": f"In {folder}: {name}"} for name in names]
        text = table_text([[*rows[0]], *(list(row.values()) for row in rows)])
        content = text if form == "csv" else json_lines(rows)
        (source / folder / f"metadata.{form}").write_text(content)
    outcome = run(source)
    assert outcome.info.format == "imagefolder"
    assert outcome.captions["validation/v2.jpg"] == ["In validation: v2.jpg"]
    assert outcome.splits == {image: FOLDERS[image.split("/")[0]] for image in outcome.splits}
    assert len(outcome.splits) == 12
    assert outcome.rejected == []


def test_image_folder_with_one_table(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    rows = [["file_name", "caption"]]
    for folder in FOLDERS:
        names = [f"{folder[0]}{number}.jpg" for number in range(4)]
        datasets.write_images(source / folder, names)
        rows += [[f"{folder}/{name}", f"In {folder}"] for name in names]
    (source / "metadata.csv").write_text(table_text(rows))
    (source / "README.md").write_text("My photos")
    outcome = run(source)
    assert outcome.splits["validation/v0.jpg"] == "val"
    assert len(outcome.splits) == 12
    assert outcome.rejected == []


def test_image_folder_of_classes_has_no_captions(tmp_path: Path) -> None:
    source = write_table(tmp_path / "photos", "file_name,label\n000.jpg,3\n", "metadata.csv")
    with pytest.raises(IngestError, match=r"metadata\.csv begins with 'file_name,label'"):
        choose_reader(str(source))


# Shards.


@pytest.mark.parametrize("caption", ["txt", "json"])
def test_shards(tmp_path: Path, caption: str) -> None:
    source = tmp_path / "shards"
    for split in FOLDERS:
        for number in range(2):
            shard = source / f"{split}-{number:05d}.tar"
            write_shard(shard, shard_of(f"{split}{number}", 3, caption))
    outcome = run(source)
    assert outcome.info.format == "webdataset"
    assert len(outcome.captions) == 18
    assert outcome.captions["test-00001/002"] == ["Caption of test1 2 ."]
    assert outcome.splits["validation-00000/000"] == "val"
    assert outcome.encoded["test-00001/002"] == shard_of("test1", 3)["002.jpg"]
    assert outcome.rejected == []


def test_shards_in_a_folder_and_without_splits(tmp_path: Path) -> None:
    source = tmp_path / "shards"
    for number in range(4):
        write_shard(source / "part" / f"{number:05d}.tar", shard_of(str(number), 8))
    outcome = run(source, **SPREAD)
    assert len(outcome.captions) == 32
    assert {*outcome.splits.values()} == {"train", "val", "test"}


def test_what_is_odd_in_shards(tmp_path: Path) -> None:
    source = tmp_path / "shards"
    for split in FOLDERS:
        write_shard(source / f"{split}.tar", shard_of(split, 3))
    files = shard_of("odd", 5)
    files["001.png"] = files["000.jpg"]  # two pictures of one key
    files["002.mask.png"] = files["000.jpg"]
    files["003.txt"] = b"caf\xe9"
    files["004.jpg"] = b""
    files["005.txt"] = b"A caption without a picture"
    files["._000.jpg"] = b"what macOS leaves"
    write_shard(source / "train-odd.tar", files)
    outcome = run(source)
    assert {image for image in outcome.captions if "odd" in image} == {
        "train-odd/000",
        "train-odd/002",
    }
    assert sorted(entry[:2] for entry in outcome.rejected) == [
        ("caption_unparsable", "train-odd/003"),
        ("image_empty", "train-odd/004"),
        ("image_id_ambiguous", "train-odd/001"),
        ("image_id_ambiguous", "train-odd/001"),
        ("image_without_captions", "train-odd/003"),
        ("no_image_name", "002.mask.png"),
        ("no_image_name", "train-odd/005"),
    ]


def test_shard_that_ends_early_keeps_what_is_whole(tmp_path: Path) -> None:
    source = tmp_path / "shards"
    for split in FOLDERS:
        write_shard(source / f"{split}.tar", shard_of(split, 3))
    path = source / "train.tar"
    files = list(shard_of("train", 3).values())
    before = sum(512 + -(-len(data) // 512) * 512 for data in files[:6])
    path.write_bytes(path.read_bytes()[: before + 700])
    (source / "train-empty.tar").write_bytes(b"")
    (source / "train-text.tar").write_text("no archive")
    outcome = run(source)
    assert [image for image in outcome.captions if "train" in image] == ["train/000", "train/001"]
    assert outcome.info.rejected["file_unusable"] == 3
    assert ("file_unusable", "train.tar", "it ends within 002.jpg") in outcome.rejected


def test_compressed_shards_are_explained(tmp_path: Path) -> None:
    (tmp_path / "00000.tar.gz").touch()
    with pytest.raises(IngestError, match=r"00000\.tar\.gz is compressed, and shards have to be"):
        choose_reader(str(tmp_path))


def test_shards_on_a_remote_file_system(tmp_path: Path) -> None:
    for split in FOLDERS:
        write_shard(tmp_path / f"{split}.tar", shard_of(split, 3))
        tf.io.gfile.makedirs("ram://photos/shards")
        tf.io.gfile.copy(str(tmp_path / f"{split}.tar"), f"ram://photos/shards/{split}.tar")
    info = ingest("ram://photos/shards", tmp_path / "out", config=IngestConfig())
    assert {split: size.images for split, size in info.splits.items()} == {
        "train": 3,
        "val": 3,
        "test": 3,
    }
