"""`captioner sample` and `captioner ingest`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tfx_captioner.pipeline.cli import main


def test_sample_then_ingest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenes, out = str(tmp_path / "scenes"), str(tmp_path / "records")
    assert main(["sample", scenes, "--train", "4", "--val", "2", "--test", "2"]) == 0
    assert main(["ingest", scenes, out, "--source-name", "toys"]) == 0
    printed = capsys.readouterr().out
    assert "read as flickr8k" in printed
    assert "images: 8 of toys" in printed
    assert "nothing was set aside" in printed
    content = json.loads((tmp_path / "records" / "dataset.json").read_text())
    assert content["splits"]["train"]["images"] == 4


def test_photographs_of_several_data_sets(
    flickr8k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = ["--sources", "left=[ab]*", "--sources", "right=c.*"]
    assert main(["ingest", *sources, str(flickr8k), str(tmp_path / "out")]) == 0
    assert "2 of handmade, 2 of left, 1 of right" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["ingest", "--sources", "left", str(flickr8k), str(tmp_path / "out")])
    assert "must be NAME=PATTERN. Received: left" in capsys.readouterr().err


def test_beam_options_stand_behind_two_dashes(flickr8k: Path, tmp_path: Path) -> None:
    arguments = ["ingest", "--min-side", "20", str(flickr8k), str(tmp_path / "out")]
    assert main([*arguments, "--", "--runner=FnApiRunner"]) == 0
    assert main([*arguments, "--", "--runner=Nimbus"]) == 0, "up to date, so no runner is asked"


def test_table_shows_what_was_set_aside(
    flickr8k: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (flickr8k / "Images" / "Thumbs.db").touch()
    assert main(["ingest", str(flickr8k), str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "set aside, see rejected.jsonl" in printed
    assert "no_image_name" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max-pixels", "0"], "--max-pixels: "),
        (["--val-share", "0.6", "--test-share", "0.6"], "must add up to less than 1"),
        (["--format", "coco"], "captions_train2014.json"),
    ],
)
def test_errors_are_for_people(
    flickr8k: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    assert main(["ingest", str(flickr8k), str(tmp_path / "out"), *options]) == 2
    assert message in capsys.readouterr().err


def test_sample_of_no_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(tmp_path / "out"), "--test", "0"]) == 2
    assert "`test` must be at least 1. Received: 0." in capsys.readouterr().err
