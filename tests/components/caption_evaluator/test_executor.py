"""The whole node on tiny models: what it writes, and its verdicts on worse and better ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tensorflow_model_analysis as tfma
from tfx.components.evaluator import constants
from tfx.components.util import model_utils
from tfx.types import standard_artifacts

from tests.artifacts import make_artifact
from tests.components.walls import (
    COLOURS,
    GOOD,
    Bench,
    Evaluated,
    png,
    references,
    settings,
)
from tfx_captioner.components.caption_files import read_captions, read_references
from tfx_captioner.components.examples import fingerprint_of


@pytest.fixture(scope="module")
def first(bench: Bench) -> Evaluated:
    """The evaluation of a first model."""
    return bench.evaluate(bench.model("good"), settings(thresholds={"bleu_1": 0.5}))


def test_first_model_is_blessed_by_absolute_thresholds(first: Evaluated) -> None:
    assert model_utils.is_model_blessed(first.blessing)
    assert (Path(first.blessing.uri) / constants.BLESSED_FILE_NAME).exists()
    assert "and reaches 0.5." in first.reasons
    assert "No earlier blessed model" in first.reasons


def test_hostile_images_are_counted_and_neighbours_answered(first: Evaluated) -> None:
    assert set(first.verdict["undecodable"]) == {"broken.jpg", "nothing.jpg"}
    assert first.verdict["refused"] == ["refused.png"]
    assert first.verdict["empty"] == ["refused.png", "silent.png"]
    assert first.verdict["image_count"] == len(COLOURS) + 2
    captions = read_captions(first.evaluation.uri)
    assert captions["blue.png"] == GOOD[png("blue")]
    assert captions["refused.png"] == ""
    # Two of eight captions are missing, which the brevity penalty of BLEU must show.
    assert 0.5 < first.verdict["scores"]["all images"]["bleu_1"] < 0.9


def test_files_are_in_the_formats_others_read(first: Evaluated) -> None:
    folder = Path(first.evaluation.uri)
    rows = json.loads((folder / "captions.json").read_text())
    assert {tuple(row) for row in rows} == {("image_id", "caption")}
    assert read_references(str(folder))["red.png"] == tuple(references("red"))
    slices = tfma.load_eval_result(str(folder)).get_metrics_for_all_slices()
    scores = first.verdict["scores"]
    assert slices[()]["bleu_4"]["doubleValue"] == scores["all images"]["bleu_4"]
    assert slices[(("brightness", "bright"),)]["example_count"]["doubleValue"] == 2
    assert first.verdict["slice_sizes"]["brightness: bright"] == 2


def test_the_data_is_named_by_fingerprints(first: Evaluated) -> None:
    training = {f"train{i}.png": ["a grey wall"] for i in (2, 0, 1)}
    assert first.verdict["train_fingerprint"] == fingerprint_of(training)
    assert fingerprint_of({**training, "train1.png": ["a wall"]}) != fingerprint_of(training)


@pytest.mark.slow(reason="three more runs of TFMA, of which each has seconds of Beam overhead")
@pytest.mark.parametrize(
    ("candidate", "baseline", "blessed"),
    [("bad", "fair", False), ("fair", "fair", True), ("good", "fair", True)],
    ids=["worse", "equal", "better"],
)
def test_change_against_the_baseline(
    bench: Bench, candidate: str, baseline: str, blessed: bool
) -> None:
    baseline_model = make_artifact(
        standard_artifacts.Model, Path(bench.model(baseline).uri), artifact_id=77
    )
    model = bench.model(candidate)
    if candidate == baseline:
        model = bench.copy(model)
    result = bench.evaluate(
        model, settings(change_thresholds={"bleu_1": -0.01}), baseline_model=baseline_model
    )
    assert model_utils.is_model_blessed(result.blessing) is blessed
    assert result.verdict["baseline"]["status"] == "comparable"
    assert result.blessing.get_int_custom_property("baseline_model_id") == 77


@pytest.mark.slow(reason="a run of TFMA")
def test_baseline_that_cannot_be_loaded_is_told_and_not_held_against(bench: Bench) -> None:
    gone = make_artifact(standard_artifacts.Model, bench.root / "gone")
    result = bench.evaluate(
        bench.model("good"), settings(change_thresholds={"bleu_4": 0.5}), baseline_model=gone
    )
    assert result.verdict["baseline"]["status"] == "incomparable"
    assert "cannot be loaded" in result.reasons
    assert model_utils.is_model_blessed(result.blessing)


@pytest.mark.slow(reason="a run of TFMA")
def test_baseline_judged_on_other_references_is_shown_but_not_held_against(
    bench: Bench, first: Evaluated
) -> None:
    blessing = make_artifact(standard_artifacts.ModelBlessing, bench.root / "another")
    blessing.set_string_custom_property("split_fingerprint", "another")
    result = bench.evaluate(
        bench.model("bad"),
        settings(change_thresholds={"bleu_1": 0.0}),
        baseline_model=bench.model("good"),
        baseline_blessing=blessing,
    )
    assert result.verdict["baseline"]["status"] == "incomparable"
    assert "other images or references" in result.reasons
    earlier = first.verdict["scores"]["all images"]["bleu_4"]
    assert result.verdict["baseline_scores"]["all images"]["bleu_4"] == pytest.approx(
        earlier, abs=1e-12
    )
    assert model_utils.is_model_blessed(result.blessing)


@pytest.mark.slow(reason="a run of TFMA")
def test_metric_that_was_not_computed_is_not_blessed(bench: Bench) -> None:
    result = bench.evaluate(bench.model("good"), settings(thresholds={"meteor": 0.1}))
    assert not model_utils.is_model_blessed(result.blessing)
    assert (Path(result.blessing.uri) / constants.NOT_BLESSED_FILE_NAME).exists()
    assert "meteor was asked for (at least 0.1) but not computed" in result.reasons
    assert "switched off by `evaluation.meteor`" in result.reasons


def test_captions_counted_in_other_words_are_refused(bench: Bench) -> None:
    with pytest.raises(ValueError, match="`statistics` must be counted in the words of the ref"):
        bench.evaluate(
            bench.model("good"), settings(), scored_against=bench.references(language="zh")
        )
