"""Settings that cannot be right are refused, and what is allowed is named."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from tfx_captioner.components.caption_evaluator.config import BootstrapConfig, EvaluatorConfig


def test_no_threshold_is_an_error() -> None:
    with pytest.raises(ValidationError, match="at least one metric and its lowest value"):
        EvaluatorConfig(thresholds={})


def test_change_thresholds_alone_are_not_enough() -> None:
    with pytest.raises(ValidationError, match="thresholds"):
        EvaluatorConfig(change_thresholds={"bleu_4": 0.0})


@pytest.mark.parametrize(
    "changes",
    [
        {"thresholds": {"blue_4": 0.1}},
        {"change_thresholds": {"blue_4": 0.1}},
        {"not_significantly_worse": ("blue_4",)},
    ],
)
def test_unknown_metric_names_the_known(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=r"bleu_4.*cider_d.*got blue_4"):
        EvaluatorConfig(**{"thresholds": {"bleu_4": 0.1}, **changes})


def test_bound_must_be_finite() -> None:
    with pytest.raises(ValidationError, match="finite"):
        EvaluatorConfig(thresholds={"bleu_4": float("nan")})


def test_significance_needs_a_bootstrap() -> None:
    with pytest.raises(ValueError, match=r"needs `bootstrap.samples`"):
        EvaluatorConfig(
            thresholds={"bleu_4": 0.1},
            not_significantly_worse=("bleu_4",),
            bootstrap=BootstrapConfig(samples=0),
        )


def test_settings_survive_json() -> None:
    rules = {"people: yes": {"thresholds": {"bleu_4": 0.2}}}
    config = EvaluatorConfig(thresholds={"bleu_4": 0.1}, slice_rules=rules)
    adapter = TypeAdapter(EvaluatorConfig)
    assert adapter.validate_json(adapter.dump_json(config)) == config


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"people: yes": {}}, "at least one of `thresholds`"),
        ({"people: yes": {"thresholds": {"blue_4": 0.1}}}, r"bleu_4.*cider_d.*got blue_4"),
    ],
)
def test_rules_of_slices_are_checked(rules: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluatorConfig(thresholds={"bleu_4": 0.1}, slice_rules=rules)
