"""The rules of the verdict, and the words it comes in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tfx.types import standard_artifacts

from tests.artifacts import make_artifact
from tfx_captioner.components.caption_evaluator.baseline import describe_baseline
from tfx_captioner.components.caption_evaluator.blessing import (
    Baseline,
    BaselineStatus,
    FailedThreshold,
    Interval,
    Measurements,
    Verdict,
    decide,
    write_blessing,
)
from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
from tfx_captioner.components.caption_files import Generation
from tfx_captioner.components.resolvers import PreviousBlessedModelStrategy

COMPARABLE = Baseline(BaselineStatus.COMPARABLE)
NONE = Baseline(BaselineStatus.NONE)
SCORES = {"all images": {"bleu_4": 0.2, "cider_d": 0.5}, "people: yes": {"bleu_4": 0.1}}


def verdict(
    baseline: Baseline = NONE,
    failures: tuple[FailedThreshold, ...] = (),
    differences: dict[str, dict[str, Interval]] | None = None,
    nearest: dict[str, float | None] | None = None,
    warning: str = "",
    **rules: Any,
) -> Verdict:
    config = EvaluatorConfig(**{"thresholds": {"bleu_4": 0.1}, **rules})
    measured = Measurements(
        SCORES, failures, differences or {}, {"meteor": "no Java"}, nearest or {}, warning
    )
    return decide(config, measured, baseline)


def words(result: Verdict) -> str:
    return " ".join(reason.text for reason in result.reasons)


def test_every_threshold_must_hold() -> None:
    failures = (FailedThreshold("all images", "cider_d", False),)
    result = verdict(failures=failures, thresholds={"bleu_4": 0.1, "cider_d": 0.6})
    assert not result.blessed
    assert "bleu_4 is 0.2000 and reaches 0.1." in words(result)
    assert "cider_d is 0.5000 and does not reach 0.6." in words(result)


def test_change_is_asked_of_a_comparable_baseline_only() -> None:
    rules: dict[str, Any] = {"change_thresholds": {"bleu_4": -0.01}}
    worse: dict[str, Any] = {
        "differences": {"all images": {"bleu_4": Interval(-0.05)}},
        "failures": (FailedThreshold("all images", "bleu_4", True),),
    }
    assert not verdict(COMPARABLE, **worse, **rules).blessed
    first = verdict(NONE, **rules)
    assert first.blessed
    assert "No earlier blessed model" in words(first)
    other = verdict(Baseline(BaselineStatus.INCOMPARABLE, "it is gone"), **rules)
    assert other.blessed
    assert "not comparable (it is gone): only the absolute thresholds" in words(other)


def test_what_makes_scores_worthless_is_said_first() -> None:
    result = verdict(warning="2 of 2 captions are in a script without spaces.")
    assert result.reasons[0].text == "2 of 2 captions are in a script without spaces."
    assert result.reasons[0].passed is None


def test_missing_metric_is_not_blessed_and_says_why() -> None:
    result = verdict(thresholds={"meteor": 0.1})
    assert not result.blessed
    assert "meteor was asked for (at least 0.1) but not computed: no Java." in words(result)


def test_change_of_a_metric_that_was_not_computed_is_not_blessed() -> None:
    assert not verdict(COMPARABLE, change_thresholds={"meteor": -0.01}).blessed


@pytest.mark.parametrize(
    ("interval", "blessed", "said"),
    [
        (Interval(-0.02, -0.03, -0.01), False, "significantly worse than"),
        (Interval(-0.02, -0.05, 0.01), True, "not significantly worse than"),
        (Interval(0.02, 0.01, 0.03), True, "significantly better than"),
        (Interval(-0.02), False, "No interval"),
    ],
)
def test_significance(interval: Interval, blessed: bool, said: str) -> None:
    result = verdict(
        COMPARABLE,
        differences={"all images": {"bleu_4": interval}},
        not_significantly_worse=("bleu_4",),
    )
    assert result.blessed is blessed
    assert said in words(result)


def test_a_slice_counts_only_where_it_is_named() -> None:
    failures = (FailedThreshold("people: yes", "bleu_4", False),)
    assert verdict(failures=failures).blessed
    rules: dict[str, Any] = {"slice_rules": {"people: yes": {"thresholds": {"bleu_4": 0.15}}}}
    result = verdict(failures=failures, **rules)
    assert not result.blessed
    assert "bleu_4 of `people: yes` is 0.1000 and does not reach 0.15." in words(result)
    assert verdict(**rules).blessed


def test_a_slice_is_compared_with_the_baseline_by_itself() -> None:
    rules: dict[str, Any] = {
        "slice_rules": {"people: yes": {"not_significantly_worse": ["bleu_4"]}}
    }
    worse = {"people: yes": {"bleu_4": Interval(-0.02, -0.03, -0.01)}}
    result = verdict(COMPARABLE, differences=worse, **rules)
    assert not result.blessed
    assert "bleu_4 of `people: yes` is significantly worse than the baseline's" in words(result)
    first = verdict(NONE, **rules)
    assert first.blessed
    changed = {"slice_rules": {"people: yes": {"change_thresholds": {"bleu_4": 0.0}}}}
    failures = (FailedThreshold("people: yes", "bleu_4", True),)
    assert not verdict(COMPARABLE, failures, worse, **changed).blessed


def test_a_slice_without_images_fails_its_rules() -> None:
    result = verdict(slice_rules={"animals: yes": {"thresholds": {"bleu_4": 0.0}}})
    assert not result.blessed
    assert "No image is in the slice `animals: yes`" in words(result)


@pytest.mark.parametrize(
    ("nearest", "said"),
    [
        ({"bleu_4": 0.2, "cider_d": 0.4}, "does not beat the nearest neighbour"),
        ({"bleu_4": 0.1, "cider_d": 0.4}, "in all of bleu_4, cider_d."),
    ],
)
def test_the_nearest_neighbour_is_told_of_and_not_a_rule(
    nearest: dict[str, float | None], said: str
) -> None:
    result = verdict(nearest=nearest)
    assert result.blessed
    assert said in words(result)


def test_without_captions_of_a_baseline_there_is_none() -> None:
    assert describe_baseline(Generation("test", "split"), []) == NONE


def test_a_baseline_that_failed_does_not_compare() -> None:
    generation = Generation("test", "split", model_uri="old", failure="it is gone")
    baseline = describe_baseline(generation, [])
    assert baseline == Baseline(BaselineStatus.INCOMPARABLE, "it is gone")


@pytest.mark.parametrize(
    ("judged_on", "status"),
    [("split", BaselineStatus.COMPARABLE), ("other", BaselineStatus.INCOMPARABLE)],
)
def test_baseline_compares_on_the_same_split(
    tmp_path: Path, judged_on: str, status: BaselineStatus
) -> None:
    blessing = make_artifact(standard_artifacts.ModelBlessing, tmp_path / "blessing")
    blessing.set_string_custom_property("split_fingerprint", judged_on)
    generation = Generation("test", "split", model_uri="old")
    assert describe_baseline(generation, [blessing]).status is status


@pytest.mark.parametrize("blessed", [True, False])
def test_resolver_finds_what_was_blessed(tmp_path: Path, blessed: bool) -> None:
    model = make_artifact(standard_artifacts.Model, tmp_path / "model", artifact_id=5)
    candidate = make_artifact(standard_artifacts.Model, tmp_path / "candidate", artifact_id=9)
    blessing = make_artifact(standard_artifacts.ModelBlessing, tmp_path / "blessing")
    (tmp_path / "blessing").mkdir()
    write_blessing(
        blessing,
        blessed=blessed,
        model=model,
        baseline=None,
        component_id="CaptionEvaluator.walls",
        split_fingerprint="split",
    )
    resolved = PreviousBlessedModelStrategy().resolve_artifacts(
        None,
        {
            "model": [model],
            "model_blessing": [blessing],
            "candidate": [candidate],
            "captions": [],
            "statistics": [],
        },
    )
    assert resolved["model"] == ([model] if blessed else [])
    assert blessing.get_string_custom_property("component_id") == "CaptionEvaluator.walls"
