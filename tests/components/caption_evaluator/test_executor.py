"""Verdicts on tiny models, through TFMA, with all that is written down."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tfx.components.evaluator import constants
from tfx.components.util import model_utils
from tfx.types import standard_artifacts

from components.caption_evaluator.captioning import UnusableModelError
from components.caption_evaluator.summary import read_captions, read_references
from tests.components.caption_evaluator.walls import (
    BAD,
    COLOURS,
    FAIR,
    GOOD,
    Bench,
    png,
    references,
    settings,
    wall,
)


def test_first_model_is_blessed_by_absolute_thresholds(bench: Bench) -> None:
    result = bench.evaluate(bench.model("good", GOOD), settings(thresholds={"bleu_4": 0.9}))
    assert model_utils.is_model_blessed(result.blessing)
    assert (Path(result.blessing.uri) / constants.BLESSED_FILE_NAME).exists()
    assert "bleu_4 is 1.0000 and reaches 0.9." in result.reasons
    assert "No earlier blessed model" in result.reasons


def test_threshold_not_reached(bench: Bench) -> None:
    result = bench.evaluate(bench.model("fair", FAIR), settings(thresholds={"bleu_1": 0.999}))
    assert not model_utils.is_model_blessed(result.blessing)
    assert (Path(result.blessing.uri) / constants.NOT_BLESSED_FILE_NAME).exists()
    assert "does not reach 0.999" in result.reasons


@pytest.mark.parametrize(
    ("candidate", "baseline", "blessed"),
    [(BAD, FAIR, False), (FAIR, FAIR, True), (GOOD, FAIR, True), (FAIR, GOOD, False)],
    ids=["worse", "equal", "better", "slightly worse"],
)
def test_change_against_the_baseline(
    bench: Bench, candidate: dict[bytes, str], baseline: dict[bytes, str], blessed: bool
) -> None:
    baseline_model = bench.model("baseline", baseline)
    result = bench.evaluate(
        bench.model("candidate", candidate),
        settings(change_thresholds={"bleu_4": -0.01}),
        baseline_model=baseline_model,
    )
    assert model_utils.is_model_blessed(result.blessing) is blessed
    assert result.verdict["baseline"]["status"] == "comparable"
    assert result.blessing.get_int_custom_property("baseline_model_id") == baseline_model.id


def test_the_model_itself_is_no_baseline(bench: Bench) -> None:
    model = bench.model("bad", BAD)
    result = bench.evaluate(
        model, settings(change_thresholds={"bleu_4": 0.5}), baseline_model=model
    )
    assert result.verdict["baseline"]["status"] == "none"
    assert model_utils.is_model_blessed(result.blessing)


def test_baseline_that_cannot_be_loaded_is_told_and_not_held_against(bench: Bench) -> None:
    gone = standard_artifacts.Model()
    gone.uri = str(bench.root / "gone")
    result = bench.evaluate(
        bench.model("good", GOOD), settings(change_thresholds={"bleu_4": 0.5}), baseline_model=gone
    )
    assert result.verdict["baseline"]["status"] == "incomparable"
    assert "cannot be loaded" in result.reasons
    assert model_utils.is_model_blessed(result.blessing)


def test_baseline_judged_on_other_references_is_shown_but_not_held_against(bench: Bench) -> None:
    good = bench.model("good", GOOD)
    earlier = bench.evaluate(good, settings())
    earlier.blessing.set_string_custom_property("split_fingerprint", "another")
    result = bench.evaluate(
        bench.model("bad", BAD),
        settings(change_thresholds={"bleu_4": 0.0}),
        baseline_model=good,
        baseline_blessing=earlier.blessing,
    )
    assert result.verdict["baseline"]["status"] == "incomparable"
    assert "other images or references" in result.reasons
    assert result.verdict["baseline_scores"]["bleu_4"] > 0.9
    assert model_utils.is_model_blessed(result.blessing)


def test_metric_that_was_not_computed_is_not_blessed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.caption_evaluator.metrics import specs

    others = [spec for spec in specs.metrics_spec() if '"bleu_4"' not in spec.config]
    monkeypatch.setattr(specs, "metrics_spec", lambda *_, **__: others)
    result = bench.evaluate(bench.model("good", GOOD), settings(thresholds={"bleu_4": 0.1}))
    assert not model_utils.is_model_blessed(result.blessing)
    assert "bleu_4 was asked for (at least 0.1) but not computed" in result.reasons


def test_hostile_images_are_counted_and_neighbours_answered(
    make_bench: Callable[..., Bench],
) -> None:
    # The model refuses bytes that end in `refuse`; the picture itself is sound.
    refused = png("red") + b"refuse"
    bench = make_bench(
        wall("broken.jpg", b"\xff\xd8\xff not a photograph", references("red")),
        wall("empty.jpg", b"", references("red")),
        wall("refused.png", refused, references("red")),
        wall("silent.png", png("red", size=(8, 12)), references("red")),
    )
    result = bench.evaluate(bench.model("good", GOOD), settings())
    assert set(result.verdict["undecodable"]) == {"broken.jpg", "empty.jpg"}
    assert result.verdict["refused"] == ["refused.png"]
    assert result.verdict["empty"] == ["refused.png", "silent.png"]
    assert result.verdict["image_count"] == len(COLOURS) + 2
    captions = read_captions(result.evaluation.uri)
    assert captions["blue.png"] == GOOD[png("blue")]
    assert captions["refused.png"] == ""
    assert result.verdict["scores"]["all images"]["bleu_1"] < 0.9


def test_files_are_in_the_formats_others_read(bench: Bench) -> None:
    result = bench.evaluate(bench.model("good", GOOD), settings())
    folder = Path(result.evaluation.uri)
    rows = json.loads((folder / "captions.json").read_text())
    assert {tuple(row) for row in rows} == {("image_id", "caption")}
    assert read_references(str(folder))["red.png"] == tuple(references("red"))
    loaded = tfma.load_eval_result(str(folder))
    slices = loaded.get_metrics_for_all_slices()
    assert slices[()]["bleu_4"]["doubleValue"] == result.verdict["scores"]["all images"]["bleu_4"]
    assert slices[(("brightness", "dark"),)]["example_count"]["doubleValue"] == 4


def test_model_without_the_signature_is_named(bench: Bench) -> None:
    folder = bench.root / "other"
    tf.saved_model.save(tf.Module(), str(folder / "Format-Serving"))
    model = standard_artifacts.Model()
    model.uri = str(folder)
    with pytest.raises(UnusableModelError, match="must have the signature `serving_default`"):
        bench.evaluate(model, settings())


def test_unknown_split_names_those_there_are(bench: Bench) -> None:
    with pytest.raises(ValueError, match=r"one of train, test\. Received: 'eval'"):
        bench.evaluate(bench.model("good", GOOD), settings(split="eval"))
