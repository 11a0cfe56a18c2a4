"""Typed settings of the CaptionEvaluator.

They travel as JSON in an execution property, so every value is plain data.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Annotated

from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass

from tfx_captioner.components.scores import RANKING_METRICS

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=STRICT)
class BootstrapConfig:
    """Resampling of test images, for intervals and for the comparison with the baseline.

    Attributes:
      samples: Resampled test sets; 0 computes no intervals and tests no significance.
      confidence: Share of the resampled scores that an interval holds.
      seed: Seeds the resampling.
    """

    samples: Annotated[int, Field(ge=0)] = 1000
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    seed: int = 1


@dataclass(frozen=True, config=STRICT)
class Rules:
    """What it takes to be blessed.

    Attributes:
      thresholds: Metric to the lowest value that is blessed.
      change_thresholds: Metric to the lowest difference to the baseline model that is blessed,
        such as -0.01. Without a comparable baseline they are not asked.
      not_significantly_worse: Metrics in which the whole bootstrap interval of the difference to
        the baseline must not lie below zero. Without a comparable baseline they are not asked.
    """

    thresholds: dict[str, float] = dataclasses.field(default_factory=dict)
    change_thresholds: dict[str, float] = dataclasses.field(default_factory=dict)
    not_significantly_worse: tuple[str, ...] = ()

    @field_validator("thresholds", "change_thresholds")
    @classmethod
    def _finite(cls, thresholds: dict[str, float]) -> dict[str, float]:
        for metric, bound in thresholds.items():
            if not math.isfinite(bound):
                raise ValueError(f"the bound of `{metric}` must be a finite number, got {bound}")
        return thresholds

    @field_validator("thresholds", "change_thresholds", "not_significantly_worse")
    @classmethod
    def _known_metrics(cls, metrics: Iterable[str]) -> Iterable[str]:
        unknown = sorted(set(metrics) - set(RANKING_METRICS))
        if unknown:
            raise ValueError(
                f"metrics must be among {', '.join(RANKING_METRICS)}, got {', '.join(unknown)}"
            )
        return metrics


@dataclass(frozen=True, config=STRICT)
class SliceRules(Rules):
    """What is asked of one slice: at least one rule."""

    def __post_init__(self) -> None:
        if not (self.thresholds or self.change_thresholds or self.not_significantly_worse):
            raise ValueError(
                "a slice must have at least one of `thresholds`, `change_thresholds` and "
                "`not_significantly_worse`. Received: none."
            )


@dataclass(frozen=True, config=STRICT)
class EvaluatorConfig(Rules):
    """What it takes to be blessed, and how sure the scores are.

    Attributes:
      thresholds: Metric to the lowest value that is blessed, over all images. At least one; a
        blessing that asks for nothing says nothing.
      slice_rules: Slice, named as in the report (`people: yes`), to rules of its own: those of
        this class are asked of all images only. A slice without an image fails its rules.
      bootstrap: Confidence intervals.
    """

    thresholds: dict[str, float]
    slice_rules: dict[str, SliceRules] = dataclasses.field(default_factory=dict)
    bootstrap: BootstrapConfig = BootstrapConfig()

    @field_validator("thresholds")
    @classmethod
    def _some_threshold(cls, thresholds: dict[str, float]) -> dict[str, float]:
        if not thresholds:
            raise ValueError(
                "must name at least one metric and its lowest value, such as bleu_4: 0.1; "
                "a model is never blessed against nothing"
            )
        return thresholds

    def __post_init__(self) -> None:
        asked = [self, *self.slice_rules.values()]
        if any(rules.not_significantly_worse for rules in asked) and not self.bootstrap.samples:
            raise ValueError(
                "`not_significantly_worse` needs `bootstrap.samples` of at least 1. Received: 0."
            )
