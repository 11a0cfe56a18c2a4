"""Whether a model may be shipped, and why, in words."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tfx.components.evaluator import constants
from tfx.types import Artifact
from tfx.utils import io_utils

from tfx_captioner.components.artifacts import SPLIT_FINGERPRINT
from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
from tfx_captioner.components.scores import OVERALL, RANKING_METRICS


class BaselineStatus(str, enum.Enum):
    """What there is to compare a candidate with."""

    NONE = "none"
    INCOMPARABLE = "incomparable"
    COMPARABLE = "comparable"


@dataclass(frozen=True)
class Baseline:
    """The last blessed model, and what may be said of it.

    Attributes:
      status: Whether its scores count.
      reason: Why they do not; empty where they do.
    """

    status: BaselineStatus
    reason: str = ""


@dataclass(frozen=True)
class Interval:
    """A value and its bootstrap interval; the bounds are None where none was computed."""

    value: float
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Reason:
    """One sentence of a verdict.

    Attributes:
      text: The sentence.
      passed: Whether the rule was met; None where it tells what was not asked.
    """

    text: str
    passed: bool | None


@dataclass(frozen=True)
class Verdict:
    """Blessed or not, with every rule that was asked."""

    blessed: bool
    reasons: tuple[Reason, ...]


class FailedThreshold(NamedTuple):
    """A bound that TFMA's validation found not to be reached.

    Attributes:
      slice_name: Name of the slice, `scores.OVERALL` for all images.
      metric: Metric.
      is_change: Whether it is the bound of the difference to the baseline.
    """

    slice_name: str
    metric: str
    is_change: bool


@dataclass(frozen=True)
class Measurements:
    """What the rules are applied to.

    Attributes:
      scores: Slice to metric to the candidate's score.
      failures: Thresholds that were not reached.
      differences: Slice to metric to candidate minus baseline; empty without a comparable baseline.
      unavailable: Metric to why it was not computed.
      nearest: Metrics of the nearest neighbour's captions; empty without encoder features.
      warning: What makes the scores worthless; empty where nothing is known to.
    """

    scores: Mapping[str, Mapping[str, float]]
    failures: Collection[FailedThreshold]
    differences: Mapping[str, Mapping[str, Interval]]
    unavailable: Mapping[str, str]
    nearest: Mapping[str, float | None]
    warning: str = ""


def decide(config: EvaluatorConfig, measured: Measurements, baseline: Baseline) -> Verdict:
    """Applies the rules.

    Args:
      config: The rules: absolute, change and significance, of all images and of slices.
      measured: Scores and differences.
      baseline: Whether there is something to compare with.
    """
    compare = baseline.status is BaselineStatus.COMPARABLE
    reasons = [Reason(measured.warning, None)] if measured.warning else []
    for name, rules in {OVERALL: config, **config.slice_rules}.items():
        if name not in measured.scores:
            reasons.append(Reason(f"No image is in the slice `{name}`, which has rules.", False))
            continue
        reasons += [
            _absolute(name, metric, bound, measured)
            for metric, bound in sorted(rules.thresholds.items())
        ]
        if compare:
            reasons += [
                _change(name, metric, bound, measured)
                for metric, bound in sorted(rules.change_thresholds.items())
            ]
            reasons += [
                _significance(name, metric, measured) for metric in rules.not_significantly_worse
            ]
    if not compare:
        reasons.append(Reason(_not_compared(baseline), None))
    if measured.nearest:
        reasons.append(Reason(_against_nearest(measured), None))
    return Verdict(all(reason.passed is not False for reason in reasons), tuple(reasons))


def _named(name: str, metric: str) -> str:
    """The subject of a sentence about a metric."""
    return metric if name == OVERALL else f"{metric} of `{name}`"


def _absolute(name: str, metric: str, bound: float, measured: Measurements) -> Reason:
    subject = _named(name, metric)
    if metric not in measured.scores[name]:
        why = f": {measured.unavailable[metric]}" if metric in measured.unavailable else ""
        return Reason(f"{subject} was asked for (at least {bound:g}) but not computed{why}.", False)
    passed = FailedThreshold(name, metric, False) not in measured.failures
    relation = "reaches" if passed else "does not reach"
    return Reason(
        f"{subject} is {measured.scores[name][metric]:.4f} and {relation} {bound:g}.", passed
    )


def _change(name: str, metric: str, bound: float, measured: Measurements) -> Reason:
    subject, difference = _named(name, metric), measured.differences.get(name, {}).get(metric)
    if difference is None:
        return Reason(f"{subject} was to be compared with the baseline but not computed.", False)
    passed = FailedThreshold(name, metric, True) not in measured.failures
    verb = "allowed" if passed else "not allowed"
    return Reason(
        f"{subject} differs from the baseline by {difference.value:+.4f}, "
        f"which is {verb}: the lowest difference allowed is {bound:+g}.",
        passed,
    )


def _significance(name: str, metric: str, measured: Measurements) -> Reason:
    subject, difference = _named(name, metric), measured.differences.get(name, {}).get(metric)
    if difference is None or difference.lower is None or difference.upper is None:
        return Reason(f"No interval of the difference in {subject} was computed.", False)
    span = f"[{difference.lower:+.4f}, {difference.upper:+.4f}]"
    if difference.upper < 0:
        return Reason(f"{subject} is significantly worse than the baseline's: {span}.", False)
    word = "significantly better than" if difference.lower > 0 else "not significantly worse than"
    return Reason(f"{subject} is {word} the baseline's: {span}.", True)


def _not_compared(baseline: Baseline) -> str:
    if baseline.status is BaselineStatus.NONE:
        return "No earlier blessed model: only the absolute thresholds were asked."
    return (
        f"The baseline is not comparable ({baseline.reason}): "
        "only the absolute thresholds were asked."
    )


def _against_nearest(measured: Measurements) -> str:
    """Whether the model beats a captioner that only repeats (Devlin et al., arXiv:1505.04467)."""
    scores = measured.scores[OVERALL]
    both = {
        metric: (scores[metric], value)
        for metric in RANKING_METRICS
        if metric in scores and (value := measured.nearest.get(metric)) is not None
    }
    lost = [metric for metric, (score, value) in both.items() if not score > value]
    if not lost:
        return (
            "It beats the nearest neighbour, the caption of the most similar training image, in "
            f"all of {', '.join(both)}."
        )
    return (
        "It does not beat the nearest neighbour: repeating the caption of the most similar "
        f"training image scores as high or higher in {', '.join(lost)}."
    )


def write_blessing(
    blessing: Artifact,
    *,
    blessed: bool,
    model: Artifact,
    baseline: Artifact | None,
    component_id: str | None,
    split_fingerprint: str,
) -> None:
    """Fills a ModelBlessing the way TFX's own Evaluator does, for resolvers and the Pusher.

    Args:
      blessing: The artifact to fill.
      blessed: The verdict.
      model: The model judged.
      baseline: The model it was compared with, if any.
      component_id: Node id of the evaluator, where the orchestrator tells it.
      split_fingerprint: Fingerprint of the split that the verdict is based on, so that a later
        evaluation can tell whether this model was judged on the same images and references.
    """
    blessing.set_string_custom_property(
        constants.ARTIFACT_PROPERTY_CURRENT_MODEL_URI_KEY, model.uri
    )
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY, model.id)
    if baseline is not None:
        blessing.set_string_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_URI_KEY, baseline.uri
        )
        blessing.set_int_custom_property(
            constants.ARTIFACT_PROPERTY_BASELINE_MODEL_ID_KEY, baseline.id
        )
    if component_id is not None:
        blessing.set_string_custom_property("component_id", component_id)
    blessing.set_string_custom_property(SPLIT_FINGERPRINT, split_fingerprint)
    name, value = (
        (constants.BLESSED_FILE_NAME, constants.BLESSED_VALUE)
        if blessed
        else (constants.NOT_BLESSED_FILE_NAME, constants.NOT_BLESSED_VALUE)
    )
    io_utils.write_string_file(f"{blessing.uri}/{name}", "")
    blessing.set_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY, value)
