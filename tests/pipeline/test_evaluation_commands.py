"""`captioner report` and `captioner compare`, on the folders a run leaves."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from tfx_captioner.components.caption_evaluator.blessing import (
    Baseline,
    BaselineStatus,
    Reason,
    Verdict,
)
from tfx_captioner.components.caption_evaluator.summary import EvaluationSummary, write_summary
from tfx_captioner.components.caption_files import write_captions, write_json, write_references
from tfx_captioner.components.evaluation_report.gallery import write_gallery
from tfx_captioner.components.statistics_files import write_statistics
from tfx_captioner.metrics.languages import segmentation
from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import image_statistics
from tfx_captioner.pipeline.cli import main


def evaluated(
    root: Path,
    model: str,
    execution: int,
    bleu_4: float,
    split: str = "same",
    said: str = "a dog",
    language: str = "en",
) -> Path:
    """An evaluation where a run of the pipeline puts it; a later execution is younger."""
    folder = root / "artifacts" / f"CaptionEvaluator.{model}" / "evaluation" / str(execution)
    summary = EvaluationSummary(
        model_name=model,
        split="test",
        split_fingerprint=split,
        image_count=1,
        verdict=Verdict(True, (Reason("bleu_4 reaches 0.1.", True),)),
        baseline=Baseline(BaselineStatus.NONE),
        scores={"all images": {"bleu_4": bleu_4}},
        language=language,
        segmentation=segmentation(language),
    )
    write_summary(str(folder), summary)
    captions, references = {"1.jpg": said}, {"1.jpg": ["a dog runs"]}
    write_captions(str(folder), captions)
    write_references(str(folder), references)
    tokenised = TokenizedReferences.of(references, language=language)
    write_statistics(str(folder), image_statistics(tokenised, captions, with_meteor=False))
    os.utime(folder / "verdict.json", (execution, execution))
    return folder


def reported(evaluation: Path, execution: int) -> Path:
    """The report of an evaluation, where the pipeline puts it."""
    node = evaluation.parent.parent
    model = node.name.removeprefix("CaptionEvaluator.")
    folder = node.parent / "EvaluationReport" / "pages" / str(execution) / model
    write_json(str(folder), "evaluation.json", {"evaluation": str(evaluation.absolute())})
    write_gallery(str(folder), [])
    (folder / "report.html").touch()
    return folder


def test_report_prints_the_newest_of_each_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    reported(evaluated(Path("runs/older"), "cnn_lstm", 3, 0.1), 4)
    evaluated(Path("runs/newer"), "cnn_lstm", 9, 0.1)
    newest = evaluated(Path("runs/newer"), "cnn_lstm", 12, 0.1)
    other = evaluated(Path("runs/newer"), "resnet_gru", 7, 0.1)
    reports = [reported(folder, 15) for folder in (newest, other)]
    compared = Path("runs/newer/artifacts/EvaluationReport/pages/15/comparison.html")
    compared.touch()
    assert main(["report"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(compared),
        *(str(folder / "report.html") for folder in reports),
    ]
    assert main(["report", "runs/older"]) == 0
    assert "older" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["report"], ["report", "nowhere"]])
def test_report_without_an_evaluation_says_what_makes_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert "`captioner run` makes one" in capsys.readouterr().err


def test_compare_prints_scores_and_writes_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(tmp_path / "a", "cnn_lstm", 1, 0.25)
    second = evaluated(tmp_path / "b", "resnet_gru", 1, 0.3, said="a dog runs")
    page = tmp_path / "page.html"
    assert main(["compare", str(tmp_path / "a"), str(second), "--out", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "25.0" in printed
    assert "30.0" in printed
    # By the captions: both words of the first one's are right, and one is missing.
    assert f"{100 * (math.exp(-0.5) - 1):.1f}" in printed
    assert "cnn_lstm and resnet_gru" in page.read_text()


def test_compare_of_scores_in_other_words_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = evaluated(tmp_path / "a", "cnn_lstm", 1, 0.25)
    second = evaluated(tmp_path / "b", "cnn_lstm", 1, 0.25, language="zh")
    assert main(["compare", str(first), str(second)]) == 2
    error = capsys.readouterr().err
    assert "not comparable" in error
    assert f"{first} in Penn Treebank words, {second} in characters" in error


def test_compare_of_other_images_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluated(tmp_path / "a", "cnn_lstm", 1, 0.25)
    evaluated(tmp_path / "b", "cnn_lstm", 1, 0.3, split="other")
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "same images and references" in capsys.readouterr().err
