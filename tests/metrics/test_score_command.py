"""`captioner score`: what it prints, writes and refuses, and that the base install is enough."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.metrics.systems import HYPOTHESES, REFERENCES, SCORES
from tfx_captioner import spice_jars
from tfx_captioner.metrics import meteor, spice
from tfx_captioner.pipeline.commands import score as command
from tfx_captioner.pipeline.errors import UserError


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def references(tmp_path: Path) -> Path:
    return write(tmp_path / "references.json", REFERENCES)


def run_command(*arguments: str | Path) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(argument) for argument in arguments]))


def test_command_prints_and_writes_the_scores(
    tmp_path: Path, references: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hypotheses = write(tmp_path / "hypotheses.json", HYPOTHESES)
    out = tmp_path / "scores.json"
    status = run_command(
        *("--references", references, "--hypotheses", hypotheses, "--json", out, "--no-meteor")
    )
    assert status == 0
    printed = capsys.readouterr().out
    assert "Bleu_4" in printed
    assert "51.53" in printed
    written = json.loads(out.read_text())
    assert written["CIDEr"] == pytest.approx(SCORES["cider_d"], rel=1e-12)
    assert written["ROUGE_L"] == pytest.approx(SCORES["rouge_l"], rel=1e-12)
    assert written["Bleu_1"] == pytest.approx(SCORES["bleu_1"], rel=1e-12)
    assert (written["images"], written["references"]) == (4, 8)
    assert written["unavailable"] == {"METEOR": "left out by --no-meteor"}


def test_command_says_why_meteor_is_missing(
    tmp_path: Path,
    references: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(meteor, "unavailable_reason", lambda language: "there is no Java")
    hypotheses = write(tmp_path / "hypotheses.json", HYPOTHESES)
    assert run_command("--references", references, "--hypotheses", hypotheses) == 0
    assert "METEOR is not available: there is no Java." in capsys.readouterr().out


@pytest.fixture
def spice_program(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In place of SPICE's program and what it needs; what happened."""
    happened: list[str] = []
    monkeypatch.setattr(spice, "check_program", lambda: None)
    monkeypatch.setattr(spice, "unavailable_reason", lambda language: None)
    monkeypatch.setattr(spice_jars, "fetch", lambda say: happened.append("fetched"))

    def score(images: Any) -> np.ndarray:
        happened.append("scored")
        return np.full(len(images), 0.25)

    monkeypatch.setattr(spice, "image_scores", score)
    return happened


def test_spice_where_it_is_asked_for(
    tmp_path: Path,
    references: Path,
    capsys: pytest.CaptureFixture[str],
    spice_program: list[str],
) -> None:
    hypotheses, out = write(tmp_path / "hypotheses.json", HYPOTHESES), tmp_path / "scores.json"
    arguments = ("--references", references, "--hypotheses", hypotheses, "--no-meteor")
    assert run_command(*arguments) == 0
    assert "SPICE" not in capsys.readouterr().out
    assert spice_program == []
    assert run_command(*arguments, "--spice", "--json", out) == 0
    assert "25.00" in capsys.readouterr().out
    assert json.loads(out.read_text())["SPICE"] == 0.25
    assert spice_program == ["fetched", "scored"]


def test_without_its_jars_spice_is_not_available_and_the_rest_is(
    tmp_path: Path,
    references: Path,
    capsys: pytest.CaptureFixture[str],
    spice_program: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(say: Any) -> None:
        raise spice_jars.SpiceJarsError("https://x/models.jar cannot be fetched: timed out")

    monkeypatch.setattr(spice_jars, "fetch", fail)
    hypotheses, out = write(tmp_path / "hypotheses.json", HYPOTHESES), tmp_path / "scores.json"
    arguments = ("--references", references, "--hypotheses", hypotheses, "--no-meteor")
    assert run_command(*arguments, "--spice", "--json", out) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "SPICE is not available: https://x/models.jar cannot be fetched: timed out." in printed
    written = json.loads(out.read_text())
    assert "SPICE" not in written
    assert written["CIDEr"] == pytest.approx(SCORES["cider_d"], rel=1e-12)
    assert spice_program == []


def test_nothing_is_fetched_for_a_language_without_spice(
    tmp_path: Path,
    references: Path,
    capsys: pytest.CaptureFixture[str],
    spice_program: list[str],
) -> None:
    hypotheses = write(tmp_path / "hypotheses.json", HYPOTHESES)
    arguments = ("--references", references, "--hypotheses", hypotheses, "--no-meteor")
    assert run_command(*arguments, "--spice", "--language", "de") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "SPICE is not available: SPICE's program has parser and synonyms of English" in printed
    assert spice_program == []


@pytest.mark.parametrize(
    ("hypotheses", "message"),
    [
        ({"0": "a dog"}, "h.json: every image needs a caption. Without one: 1, 2, 3."),
        ({**HYPOTHESES, "9": "a dog"}, "Not so: 9."),
    ],
)
def test_command_refuses(
    tmp_path: Path, references: Path, hypotheses: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run_command(
            "--references", references, "--hypotheses", write(tmp_path / "h.json", hypotheses)
        )


def test_command_names_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json cannot be read: No such file or directory\."):
        run_command("--references", tmp_path / "none.json", "--hypotheses", tmp_path / "h.json")


def test_a_subset_is_what_the_hypotheses_name(
    tmp_path: Path, references: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = {image: HYPOTHESES[image] for image in ("0", "2")}
    hypotheses = write(tmp_path / "h.json", some)
    arguments = ("--references", references, "--hypotheses", hypotheses, "--no-meteor")
    with pytest.raises(UserError, match=r"Without one: 1, 3\. --subset scores only"):
        run_command(*arguments)
    assert run_command(*arguments, "--subset") == 0
    assert "2 images, 3 references" in capsys.readouterr().out
    write(tmp_path / "h.json", {**some, "9": "x"})
    with pytest.raises(UserError, match=r"with references. Not so: 9\.$"):
        run_command(*arguments, "--subset")


def test_a_split_of_karpathys_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [
        {
            "filename": image,
            "split": "test" if image in "01" else "train",
            "sentences": [{"raw": text} for text in texts],
        }
        for image, texts in REFERENCES.items()
    ]
    references = write(tmp_path / "dataset_flickr8k.json", {"images": images})
    hypotheses = tmp_path / "captions.jsonl"
    lines = [{"photo": f"album/{image}", "caption": HYPOTHESES[image]} for image in "01"]
    hypotheses.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    arguments = ("--references", references, "--hypotheses", hypotheses, "--no-meteor")
    assert run_command(*arguments, "--split", "test") == 0
    assert "2 images, 5 references" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"has the splits test, train. Received: dev\."):
        run_command(*arguments, "--split", "dev")


def test_cider_of_one_image_comes_with_a_note(
    tmp_path: Path, references: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hypotheses, out = write(tmp_path / "h.json", {"0": "a dog"}), tmp_path / "scores.json"
    run_command(
        *("--references", references, "--hypotheses", hypotheses, "--subset", "--no-meteor"),
        *("--json", out),
    )
    assert "Note: CIDEr of one image is 0 by definition" in capsys.readouterr().out
    assert json.loads(out.read_text())["notes"][0].startswith("CIDEr of one image is 0")


def test_ids_and_captions_are_no_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(images: Any) -> None:
        raise meteor.MeteorImageError(0, "METEOR's program ended")

    monkeypatch.setattr(meteor, "unavailable_reason", lambda language: None)
    monkeypatch.setattr(meteor, "image_counts", fail)
    references = write(tmp_path / "r.json", {"[/b]:dog:": ["a dog [/b]"]})
    hypotheses = write(tmp_path / "h.json", {"[/b]:dog:": "a dog [/b]"})
    assert run_command("--references", references, "--hypotheses", hypotheses) == 0
    printed = capsys.readouterr().out
    assert "METEOR's program ended at image [/b]:dog:" in printed
    assert "Bleu_4" in printed


CHINESE = {"1": ["一只狗在草地上奔跑"], "2": ["一个男人在骑车"]}
NEARLY = {"1": "一只狗在草地上跑", "2": "一个男人骑车"}


def test_a_language_without_spaces_is_scored_by_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--references", write(tmp_path / "r.json", CHINESE))
    files += ("--hypotheses", write(tmp_path / "h.json", NEARLY), "--json", tmp_path / "out.json")
    assert run_command(*files, "--language", "zh") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "2 images, 2 references; language zh, counted in characters" in printed
    assert "English alone, and the language is `zh`." in printed
    assert "WARNING" not in printed
    written = json.loads((tmp_path / "out.json").read_text())
    assert written["Bleu_4"] > 0.6
    assert written["ROUGE_L"] > 0.9
    assert written["CIDEr"] > 5
    assert "METEOR" not in written
    assert (written["language"], written["segmentation"]) == ("zh", "characters")


def test_no_caption_without_spaces_scores_0_silently(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--references", write(tmp_path / "r.json", CHINESE))
    files += ("--hypotheses", write(tmp_path / "h.json", NEARLY), "--json", tmp_path / "out.json")
    assert run_command(*files, "--no-meteor") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "WARNING: 4 of 4 captions are in a script without spaces" in printed
    assert "one of ja, km, lo, my, th, zh, by --language." in printed
    assert "counted in Penn Treebank words" in printed
    written = json.loads((tmp_path / "out.json").read_text())
    assert len(written["warnings"]) == 1


def test_an_unknown_language_is_refused(tmp_path: Path, references: Path) -> None:
    with pytest.raises(UserError, match=r"--language: .* Received: 'xx'\."):
        run_command("--references", references, "--hypotheses", references, "--language", "xx")


# Imports as they are where only the base install is.
BASE_ONLY = """\
import sys
from importlib.abc import MetaPathFinder

class BaseInstall(MetaPathFinder):
    allowed = {"numpy", "rich", "yaml", "pygments", "markdown_it", "mdurl", "tfx_captioner"}

    def find_spec(self, name, path, target=None):
        top = name.partition(".")[0]
        if top not in self.allowed | sys.stdlib_module_names:
            raise ImportError(f"{name} is not in the base install")

sys.meta_path.insert(0, BaseInstall())
from tfx_captioner.pipeline.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_the_base_install_is_enough(tmp_path: Path, references: Path) -> None:
    hypotheses = write(tmp_path / "hypotheses.json", HYPOTHESES)
    arguments = ("score", "--references", references, "--hypotheses", hypotheses, "--no-meteor")
    done = subprocess.run(
        [sys.executable, "-c", BASE_ONLY, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "51.53" in done.stdout
