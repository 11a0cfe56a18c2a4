"""The Beam job: records by the contract, what is set aside, what is fatal, what is rewritten."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tensorflow as tf

from tests.ingestion import datasets
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.dataset import DatasetInfo
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.job import ingest

SPLITS = ("train", "val", "test")
TOLERANT = IngestConfig(max_rejected_share=1.0)


def records(folder: Path | str, split: str) -> Iterator[tf.train.Example]:
    files = sorted(tf.io.gfile.glob(f"{folder}/{split}/*.tfrecord.gz"))
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP"):
        yield tf.train.Example.FromString(record.numpy())


def value(example: tf.train.Example, name: str) -> list:
    feature = example.features.feature[name]
    return list(feature.bytes_list.value or feature.int64_list.value)


def ids(folder: Path | str, split: str) -> list[str]:
    return [value(example, "image/id")[0].decode() for example in records(folder, split)]


def rejected(folder: Path) -> list[tuple[str, str]]:
    lines = (folder / "rejected.jsonl").read_text().splitlines()
    return [(entry["reason"], entry["what"]) for entry in map(json.loads, lines)]


def contents(folder: Path) -> dict[str, bytes]:
    """All that counts: what remembers the times of the input does not."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".inputs.json"
    }


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_examples_follow_the_contract(flickr8k: Path, tmp_path: Path) -> None:
    info = ingest(flickr8k, tmp_path / "out", config=IngestConfig())
    for split in SPLITS:
        assert ids(tmp_path / "out", split) == datasets.NAMES[split]
    (example,) = records(tmp_path / "out", "test")
    assert {name: value(example, name) for name in example.features.feature} == {
        "image/id": [b"e.jpg"],
        "image/encoded": [(flickr8k / "Images" / "e.jpg").read_bytes()],
        "image/height": [30],
        "image/width": [44],
        "image/source": [b"handmade"],
        "caption/text": [b"Caption 0 of e.jpg .", b"Caption 1 of e.jpg ."],
    }
    assert (tmp_path / "out" / "test" / "test-00000-of-00001.tfrecord.gz").is_file()
    assert info.splits["train"].images == 3
    assert info.splits["train"].captions_per_image.mean == 2.0
    assert info.rejected == {}


def test_dataset_json_says_what_was_written(flickr8k: Path, tmp_path: Path) -> None:
    info = ingest(flickr8k, tmp_path / "out", config=IngestConfig())
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert content["format"] == "flickr8k"
    assert content["sources"] == {"handmade": 5}
    assert content["fingerprint"] == info.fingerprint
    assert content["splits"]["train"] == {
        "images": 3,
        "captions": 6,
        "captions_per_image": {"min": 2, "mean": 2.0, "max": 2},
        "shards": 1,
    }
    assert str(tmp_path) not in (tmp_path / "out" / "dataset.json").read_text()


@pytest.mark.parametrize("form", ["flickr8k_kaggle", "flickr30k_kaggle", "karpathy", "coco"])
def test_every_form_becomes_records(form: str, tmp_path: Path) -> None:
    many = [f"{number:03d}.jpg" for number in range(40)]
    source = tmp_path / "source"
    source.mkdir()
    write = {
        "flickr8k_kaggle": lambda: datasets.write_flickr8k_kaggle(source, many),
        "flickr30k_kaggle": lambda: datasets.write_flickr30k_kaggle(source, many),
        "karpathy": lambda: datasets.write_karpathy(source),
        "coco": lambda: datasets.write_coco(source),
    }
    write[form]()
    info = ingest(source, tmp_path / "out", config=IngestConfig())
    assert info.format == form
    assert info.rejected == {}
    found = [image for split in SPLITS for image in ids(tmp_path / "out", split)]
    expected = {"karpathy": datasets.ALL, "coco": [str(key) for key in range(1, 19)]}
    assert sorted(found) == sorted(expected.get(form, many))


def break_images(source: Path) -> dict[str, str]:
    """Adds to the train split one image for each way of being unusable."""
    images, big = source / "Images", datasets.jpeg((300, 200))
    bad = {
        "missing.jpg": (None, "image_missing"),
        "empty.jpg": (b"", "image_empty"),
        "half.jpg": (big[: len(big) * 2 // 3], "image_truncated"),
        "page.jpg": (b"<html>", "image_unreadable"),
        "large.jpg": (datasets.jpeg((1200, 900)), "image_too_large"),
        "tiny.jpg": (datasets.jpeg((8, 8)), "image_too_small"),
    }
    with (source / "Flickr8k.token.txt").open("a") as tokens:
        for name, (content, _) in bad.items():
            tokens.write(f"{name}#0\tA picture .\n")
            if content is not None:
                (images / name).write_bytes(content)
    shutil.copy(images / "a.jpg", images / "silent.jpg")
    with (source / "Flickr_8k.trainImages.txt").open("a") as split:
        split.writelines(f"{name}\n" for name in [*bad, "silent.jpg"])
    return {name: reason for name, (_, reason) in bad.items()} | {
        "silent.jpg": "image_without_captions"
    }


def test_unusable_images_are_set_aside_with_their_reason(flickr8k: Path, tmp_path: Path) -> None:
    expected = break_images(flickr8k)
    config = IngestConfig(max_pixels=1_000_000, max_rejected_share=0.9)
    info = ingest(flickr8k, tmp_path / "out", config=config)
    assert {what: reason for reason, what in rejected(tmp_path / "out")} == expected
    assert info.rejected == dict.fromkeys(sorted(expected.values()), 1)
    assert ids(tmp_path / "out", "train") == datasets.NAMES["train"]


def test_stray_files_and_captions_of_flickr8k(flickr8k: Path, tmp_path: Path) -> None:
    with (flickr8k / "Flickr8k.token.txt").open("a") as tokens:
        tokens.write("2258277193_586949ec62.jpg.1#0\tPeople wait .\n")
        tokens.write("unassigned.jpg#0\tA dog .\n")
    (flickr8k / "Images" / "extra.jpg").write_bytes(datasets.jpeg())
    (flickr8k / "Images" / "Thumbs.db").touch()
    (flickr8k / "Images" / ".DS_Store").touch()
    ingest(flickr8k, tmp_path / "out", config=IngestConfig())
    assert rejected(tmp_path / "out") == [
        ("image_without_captions", "extra.jpg"),
        ("image_without_split", "unassigned.jpg"),
        ("no_image_name", "2258277193_586949ec62.jpg.1"),
        ("no_image_name", "Thumbs.db"),
    ]


def test_too_much_set_aside_is_fatal_and_writes_nothing(flickr8k: Path, tmp_path: Path) -> None:
    break_images(flickr8k)
    with (flickr8k / "Flickr8k.token.txt").open("a") as tokens:
        tokens.write("a.jpg#2\t.\n")
    with pytest.raises(IngestError) as raised:
        ingest(flickr8k, tmp_path / "out", config=IngestConfig(max_rejected_share=0.4))
    assert "6 of 12 images" in str(raised.value)
    assert "0.5 > 0.4" in str(raised.value)
    assert "image_empty: empty.jpg (Images/empty.jpg" in str(raised.value)
    assert "caption_" not in str(raised.value), "it is images that are too many"
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.partial").exists()


def test_too_many_bad_caption_lines_are_fatal(flickr8k: Path, tmp_path: Path) -> None:
    with (flickr8k / "Flickr8k.token.txt").open("a") as tokens:
        tokens.write("no tab\n" * 2)
    with pytest.raises(IngestError, match="2 of 12 caption lines had to be set aside"):
        ingest(flickr8k, tmp_path / "out", config=IngestConfig())


def test_empty_split_is_fatal(flickr8k: Path, tmp_path: Path) -> None:
    (flickr8k / "Flickr_8k.devImages.txt").write_text("\n")
    with pytest.raises(IngestError, match=r"Every split must have images\. Without any: val"):
        ingest(flickr8k, tmp_path / "out", config=IngestConfig())


def test_split_left_without_readable_images_is_fatal(flickr8k: Path, tmp_path: Path) -> None:
    (flickr8k / "Images" / "d.jpg").write_bytes(b"")
    with pytest.raises(IngestError, match=r"Without any: val .*1 image_empty"):
        ingest(flickr8k, tmp_path / "out", config=TOLERANT)


def test_same_picture_under_two_names_in_two_splits_is_told(flickr8k: Path, tmp_path: Path) -> None:
    shutil.copy(flickr8k / "Images" / "a.jpg", flickr8k / "Images" / "e.jpg")
    info = ingest(flickr8k, tmp_path / "out", config=IngestConfig(max_leaked_share=1.0))
    assert info.duplicates_across_splits == [["a.jpg", "e.jpg"]]
    assert info.leaked_test_images == 1


def test_same_input_gives_the_same_bytes(flickr8k: Path, tmp_path: Path) -> None:
    break_images(flickr8k)
    ingest(flickr8k, tmp_path / "first", config=TOLERANT)
    copy = tmp_path / "copy" / flickr8k.name
    shutil.copytree(flickr8k, copy)
    shuffled = (copy / "Flickr8k.token.txt").read_text().splitlines()
    random.Random(0).shuffle(shuffled)
    (copy / "Flickr8k.token.txt").write_text("\n".join(shuffled) + "\n")
    ingest(copy, tmp_path / "second", config=TOLERANT)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_another_number_of_workers_gives_the_same_bytes(flickr8k: Path, tmp_path: Path) -> None:
    break_images(flickr8k)
    ingest(flickr8k, tmp_path / "one", config=TOLERANT)
    ingest(
        flickr8k,
        tmp_path / "four",
        config=TOLERANT,
        beam_pipeline_args=["--direct_num_workers=4", "--direct_running_mode=multi_threading"],
    )
    assert contents(tmp_path / "one") == contents(tmp_path / "four")


def test_name_of_the_source_is_part_of_the_fingerprint(flickr8k: Path, tmp_path: Path) -> None:
    one = ingest(flickr8k, tmp_path / "one", config=IngestConfig())
    other = ingest(flickr8k, tmp_path / "other", config=IngestConfig(source_name="other"))
    assert one.fingerprint != other.fingerprint


def test_photographs_of_several_data_sets_in_one_folder(flickr8k: Path, tmp_path: Path) -> None:
    sources = {"left": "[ab]*", "right": "b*", "nowhere": "z*"}
    info = ingest(flickr8k, tmp_path / "out", config=IngestConfig(sources=sources))
    found = {
        value(example, "image/id")[0].decode(): value(example, "image/source")[0].decode()
        for split in SPLITS
        for example in records(tmp_path / "out", split)
    }
    assert found == {
        name: "left" if name[0] in "ab" else "handmade"
        for names in datasets.NAMES.values()
        for name in names
    }
    assert info.sources == {"handmade": 3, "left": 2}


def test_shards_share_the_images_by_a_stable_hash(tmp_path: Path) -> None:
    source = tmp_path / "large"
    names = [f"{number:02d}.jpg" for number in range(24)]
    datasets.write_flickr8k_kaggle(source, names)
    for number, name in enumerate(names):  # about 0.25 MB each, so that 1 MB makes shards
        noise = random.Random(number).randbytes(300 * 300 * 3)
        picture = datasets.Image.frombytes("RGB", (300, 300), noise)
        (source / "Images" / name).write_bytes(datasets.encoded(picture, "PNG"))
    settings = {"val_share": 0.2, "test_share": 0.2}
    sharded = ingest(
        source, tmp_path / "sharded", config=IngestConfig(shard_megabytes=1, **settings)
    )
    whole = ingest(source, tmp_path / "whole", config=IngestConfig(**settings))
    assert sharded.splits["train"].shards > 1
    assert whole.splits["train"].shards == 1
    assert sharded.fingerprint == whole.fingerprint
    assert sorted(ids(tmp_path / "sharded", "train")) == ids(tmp_path / "whole", "train")
    for file in (tmp_path / "sharded" / "train").iterdir():
        dataset = tf.data.TFRecordDataset(str(file), compression_type="GZIP")
        examples = [tf.train.Example.FromString(r.numpy()) for r in dataset]
        found = [value(example, "image/id")[0] for example in examples]
        assert found == sorted(found)


def test_nothing_is_rewritten_where_nothing_changed(flickr8k: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = ingest(flickr8k, out, config=IngestConfig())
    before = times(out)
    assert ingest(flickr8k, out, config=IngestConfig()) == first
    assert times(out) == before


def test_records_keep_their_times_when_only_the_files_times_changed(
    flickr8k: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ingest(flickr8k, out, config=IngestConfig())
    before = {path: time for path, time in times(out).items() if path.suffix == ".gz"}
    for image in (flickr8k / "Images").iterdir():
        image.write_bytes(image.read_bytes())
    (flickr8k / "Images" / "Thumbs.db").touch()
    info = ingest(flickr8k, out, config=IngestConfig())
    assert {path: time for path, time in times(out).items() if path.suffix == ".gz"} == before
    assert info.rejected == {"no_image_name": 1}
    assert rejected(out) == [("no_image_name", "Thumbs.db")]


def test_a_job_that_fails_while_it_renews_the_summary_is_made_good(
    flickr8k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    ingest(flickr8k, out, config=IngestConfig())
    (flickr8k / "Images" / "Thumbs.db").touch()
    to_json = DatasetInfo.to_json
    # What TensorFlow cannot write ends the job in the middle of dataset.json.
    monkeypatch.setattr(DatasetInfo, "to_json", lambda info: to_json(info)[:40] + "\ud800")
    with pytest.raises(UnicodeEncodeError):
        ingest(flickr8k, out, config=IngestConfig())
    monkeypatch.undo()
    info = ingest(flickr8k, out, config=IngestConfig())
    assert info.rejected == {"no_image_name": 1}
    assert DatasetInfo.read(str(out)) == info


def test_changed_caption_is_seen(flickr8k: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = ingest(flickr8k, out, config=IngestConfig())
    tokens = flickr8k / "Flickr8k.token.txt"
    tokens.write_text(tokens.read_text().replace("Caption 0 of e.jpg", "Another of e.jpg"))
    assert ingest(flickr8k, out, config=IngestConfig()).fingerprint != first.fingerprint
    (example,) = records(out, "test")
    assert value(example, "caption/text")[0] == b"Another of e.jpg ."
    assert sorted(path.name for path in tmp_path.iterdir()) == ["handmade", "out"]


def test_half_made_folder_of_a_killed_job_is_cleared_away(flickr8k: Path, tmp_path: Path) -> None:
    (tmp_path / ".out.partial" / "train").mkdir(parents=True)
    (tmp_path / ".out.partial" / "train" / "train-00007-of-00009.tfrecord.gz").touch()
    ingest(flickr8k, tmp_path / "out", config=IngestConfig())
    assert len(list((tmp_path / "out" / "train").iterdir())) == 1
    assert not (tmp_path / ".out.partial").exists()


def test_foreign_folder_is_left_alone(flickr8k: Path, tmp_path: Path) -> None:
    out = tmp_path / "home"
    out.mkdir()
    (out / "thesis.txt").write_text("precious")
    with pytest.raises(IngestError, match=r"holds other files and no dataset\.json"):
        ingest(flickr8k, out, config=IngestConfig())
    assert contents(out) == {"thesis.txt": b"precious"}


def test_remote_file_system(flickr8k: Path) -> None:
    """TensorFlow's in-memory file system stands for an object store: it has no folder renames."""
    for path in flickr8k.rglob("*"):
        if path.is_file():
            target = f"ram://bucket/handmade/{path.relative_to(flickr8k)}"
            tf.io.gfile.makedirs(target.rpartition("/")[0])
            tf.io.gfile.copy(str(path), target)
    info = ingest("ram://bucket/handmade", "ram://bucket/out", config=IngestConfig())
    assert ids("ram://bucket/out", "train") == datasets.NAMES["train"]
    assert ingest("ram://bucket/handmade", "ram://bucket/out", config=IngestConfig()) == info


def test_unknown_runner(flickr8k: Path, tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="Beam does not accept --runner=Nimbus"):
        ingest(
            flickr8k,
            tmp_path / "out",
            config=IngestConfig(),
            beam_pipeline_args=["--runner=Nimbus"],
        )


def test_generated_sample_is_ingested_whole(sample_records: Path) -> None:
    assert [len(ids(sample_records, split)) for split in SPLITS] == [48, 8, 12]
    assert (sample_records / "rejected.jsonl").read_text() == ""


@pytest.mark.slow(reason="3,223 photographs; the only ones in the tests that no test made")
@pytest.mark.shared_data
def test_real_photographs(shared: Path, tmp_path: Path) -> None:
    info = ingest(shared / "data" / "flickr8k-mini", tmp_path / "out", config=IngestConfig())
    assert info.format == "flickr8k"
    assert {split: size.images for split, size in info.splits.items()} == {
        "train": 2702,
        "val": 121,
        "test": 400,
    }
    assert sum(size.captions for size in info.splits.values()) == 9538
    assert info.splits["train"].captions_per_image.max == 5
    assert info.rejected == {"caption_repeated": 1}
    assert info.duplicates_across_splits == []
