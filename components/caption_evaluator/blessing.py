"""Whether a model may be shipped, and why, in words."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from tfx.components.evaluator import constants
from tfx.types import Artifact
from tfx.utils import io_utils

from components.caption_evaluator.config import EvaluatorConfig

# The split's fingerprint travels with the blessing, so that a later evaluation can tell whether
# this model was judged on the same images and references.
SPLIT_FINGERPRINT = "split_fingerprint"


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


def decide(
    config: EvaluatorConfig,
    scores: Mapping[str, float],
    failures: Mapping[tuple[str, bool], str],
    baseline: Baseline,
    differences: Mapping[str, Interval],
    unavailable: Mapping[str, str],
) -> Verdict:
    """Applies the rules.

    Args:
      config: The rules: absolute, change and significance.
      scores: Metric to the candidate's score over all images.
      failures: What TFMA's validation found wanting: `evaluation.failed_thresholds`.
      baseline: Whether there is something to compare with.
      differences: Metric to candidate minus baseline; empty without a comparable baseline.
      unavailable: Metric to why it was not computed.
    """
    reasons = [
        _absolute(metric, bound, scores, failures, unavailable)
        for metric, bound in sorted(config.thresholds.items())
    ]
    if baseline.status is BaselineStatus.COMPARABLE:
        reasons += [
            _change(metric, bound, differences, failures)
            for metric, bound in sorted(config.change_thresholds.items())
        ]
        reasons += [_significance(metric, differences) for metric in config.not_significantly_worse]
    else:
        reasons.append(Reason(_not_compared(baseline), None))
    return Verdict(all(reason.passed is not False for reason in reasons), tuple(reasons))


def _absolute(
    metric: str,
    bound: float,
    scores: Mapping[str, float],
    failures: Mapping[tuple[str, bool], str],
    unavailable: Mapping[str, str],
) -> Reason:
    if metric not in scores:
        why = f": {unavailable[metric]}" if metric in unavailable else ""
        return Reason(f"{metric} was asked for (at least {bound:g}) but not computed{why}.", False)
    passed = (metric, False) not in failures
    relation = "reaches" if passed else "does not reach"
    return Reason(f"{metric} is {scores[metric]:.4f} and {relation} {bound:g}.", passed)


def _change(
    metric: str,
    bound: float,
    differences: Mapping[str, Interval],
    failures: Mapping[tuple[str, bool], str],
) -> Reason:
    if metric not in differences:
        return Reason(f"{metric} was to be compared with the baseline but not computed.", False)
    passed = (metric, True) not in failures
    verb = "allowed" if passed else "not allowed"
    return Reason(
        f"{metric} differs from the baseline by {differences[metric].value:+.4f}, "
        f"which is {verb}: the lowest difference allowed is {bound:+g}.",
        passed,
    )


def _significance(metric: str, differences: Mapping[str, Interval]) -> Reason:
    difference = differences.get(metric)
    if difference is None or difference.lower is None or difference.upper is None:
        return Reason(f"No interval of the difference in {metric} was computed.", False)
    span = f"[{difference.lower:+.4f}, {difference.upper:+.4f}]"
    if difference.upper < 0:
        return Reason(f"{metric} is significantly worse than the baseline's: {span}.", False)
    word = "significantly better than" if difference.lower > 0 else "not significantly worse than"
    return Reason(f"{metric} is {word} the baseline's: {span}.", True)


def _not_compared(baseline: Baseline) -> str:
    if baseline.status is BaselineStatus.NONE:
        return "No earlier blessed model: only the absolute thresholds were asked."
    return (
        f"The baseline is not comparable ({baseline.reason}): "
        "only the absolute thresholds were asked."
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
      split_fingerprint: `EvaluatedSplit.fingerprint` the verdict is based on.
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
