"""Damaged results of an ingestion: seen before it says "up to date", and named."""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
from rich.console import Console

from tfx_captioner.checksums import CHECKSUMS, Damage, find_damage, sha256_of, write_checksums
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.job import ingest
from tfx_captioner.pipeline import local_runner
from tfx_captioner.pipeline.cli import main
from tfx_captioner.pipeline.configs import load_config
from tfx_captioner.pipeline.errors import UserError

SPLITS = ("train", "val", "test")
TRAIN, TEST = (f"{split}/{split}-00000-of-00001.tfrecord.gz" for split in ("train", "test"))


def flip_a_byte(out: Path) -> None:
    content = bytearray((out / TRAIN).read_bytes())
    content[len(content) // 2] ^= 1
    (out / TRAIN).write_bytes(content)


def cut(out: Path) -> None:
    (out / TRAIN).write_bytes((out / TRAIN).read_bytes()[:-20])


def remove(out: Path) -> None:
    (out / TRAIN).unlink()


def remove_split(out: Path) -> None:
    shutil.rmtree(out / "train")


def swap(out: Path) -> None:
    train, test = (out / TRAIN).read_bytes(), (out / TEST).read_bytes()
    (out / TRAIN).write_bytes(test)
    (out / TEST).write_bytes(train)


DAMAGES: dict[Callable[[Path], None], str] = {
    flip_a_byte: r"its SHA-256 must be [0-9a-f]{64}\. Received: [0-9a-f]{64}\.",
    cut: r"its SHA-256 must be [0-9a-f]{64}\. Received: [0-9a-f]{64}\.",
    remove: "it is missing",
    remove_split: "it is missing",
    swap: rf"its SHA-256 must be \w+\. Received: \w+, which is that of {TEST}",
}


@pytest.fixture
def out(flickr8k: Path, tmp_path: Path) -> Path:
    """A data set that was ingested."""
    ingest(flickr8k, tmp_path / "out", config=IngestConfig())
    return tmp_path / "out"


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_records_are_named_and_written_again(
    flickr8k: Path,
    out: Path,
    capfd: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
) -> None:
    good = {path: (out / path).read_bytes() for path in (TRAIN, TEST)}
    damage(out)
    assert main(["ingest", str(flickr8k), str(out)]) == 0
    said = capfd.readouterr().err
    assert re.search(rf"{out / TRAIN} is damaged: {DAMAGES[damage]}", said)
    assert "The data set is written again" in said
    assert {path: (out / path).read_bytes() for path in good} == good
    assert main(["ingest", str(flickr8k), str(out)]) == 0
    assert f"{out} is up to date" in capfd.readouterr().err


@pytest.mark.parametrize("content", [None, b"", b"\xff\n", b"0" * 64 + b"\n"])
def test_damaged_checksums_are_written_again(
    flickr8k: Path, out: Path, content: bytes | None
) -> None:
    good = (out / CHECKSUMS).read_bytes()
    (out / CHECKSUMS).unlink()
    if content is not None:
        (out / CHECKSUMS).write_bytes(content)
    assert find_damage(str(out), SPLITS).broken.keys() == {CHECKSUMS}
    ingest(flickr8k, out, config=IngestConfig())
    assert (out / CHECKSUMS).read_bytes() == good


@pytest.mark.parametrize("name", ["train/mine.tfrecord.gz", "val/.DS_Store"])
def test_files_of_others_among_the_records_stop_the_ingestion(
    flickr8k: Path, out: Path, name: str
) -> None:
    (out / name).write_text("precious")
    (flickr8k / "Images" / "Thumbs.db").touch()  # so that there would be something to write
    with pytest.raises(IngestError, match=rf"holds files that no ingestion wrote: {name} \(1 in"):
        ingest(flickr8k, out, config=IngestConfig())
    assert (out / name).read_text() == "precious"


def test_inputs_that_cannot_be_read_are_looked_at_again(flickr8k: Path, out: Path) -> None:
    before = (out / TRAIN).stat().st_mtime_ns
    (out / ".inputs.json").write_text("{")
    ingest(flickr8k, out, config=IngestConfig())
    assert json.loads((out / ".inputs.json").read_text())
    assert (out / TRAIN).stat().st_mtime_ns == before


def test_a_run_names_a_damaged_shard_before_its_first_node(
    flickr8k: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = {"run_root": str(tmp_path / "run"), "data.source": str(flickr8k)}
    config = load_config("sample", values=values)
    folders = local_runner.RunFolders(tmp_path / "run")
    local_runner._prepare_data(config, folders, Console())
    good = (folders.records / TRAIN).read_bytes()
    flip_a_byte(folders.records)
    with caplog.at_level(logging.WARNING):
        local_runner._prepare_data(config, folders, Console())
    assert f"{folders.records / TRAIN} is damaged" in caplog.text
    assert (folders.records / TRAIN).read_bytes() == good
    (folders.records / "train/other.tfrecord.gz").touch()
    with pytest.raises(UserError, match=r"no ingestion wrote: train/other\.tfrecord\.gz"):
        local_runner._prepare_data(config, folders, Console())


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_checksums_can_be_looked_at_by_hand(out: Path) -> None:
    command = ["sha256sum", "--check", "--strict", CHECKSUMS]
    assert subprocess.run(command, cwd=out, check=False).returncode == 0
    flip_a_byte(out)
    assert subprocess.run(command, cwd=out, check=False).returncode == 1


def test_files_on_a_remote_file_system() -> None:
    for name in ("a", "b", "c"):
        tf.io.gfile.makedirs("ram://checked/train")
        with tf.io.gfile.GFile(f"ram://checked/train/{name}", "w") as file:
            file.write(name)
    digests = {f"train/{name}": sha256_of(f"ram://checked/train/{name}") for name in ("a", "b")}
    write_checksums("ram://checked", digests | {"train/b": "0" * 64, "val/d": "1" * 64})
    assert find_damage("ram://checked", ["train", "val"]) == Damage(
        {
            "train/b": f"its SHA-256 must be {'0' * 64}. Received: {digests['train/b']}",
            "val/d": "it is missing",
        },
        ["train/c"],
    )
