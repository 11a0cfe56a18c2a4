"""The last blessed model as a measure: whether there is one, and whether it compares."""

from __future__ import annotations

from collections.abc import Sequence

from tfx.types import Artifact

from tfx_captioner.components.artifacts import SPLIT_FINGERPRINT
from tfx_captioner.components.caption_evaluator.blessing import Baseline, BaselineStatus
from tfx_captioner.components.caption_files import Generation


def describe_baseline(generation: Generation, blessings: Sequence[Artifact]) -> Baseline:
    """What may be said of a comparison with the baseline.

    A baseline that was blessed on another split is scored on this one and shown, but not held
    against the candidate: the images it is scored on may be among those it was trained on.

    Args:
      generation: How the baseline's captions were generated.
      blessings: Its blessing; empty where it is not connected.
    """
    if not generation.model_uri:
        return Baseline(BaselineStatus.NONE)
    if generation.failure:
        return Baseline(BaselineStatus.INCOMPARABLE, generation.failure)
    for blessing in blessings:
        judged_on = blessing.get_string_custom_property(SPLIT_FINGERPRINT)
        if judged_on and judged_on != generation.split_fingerprint:
            reason = (
                "it was blessed on other images or references: "
                f"split {judged_on}, this one is {generation.split_fingerprint}"
            )
            return Baseline(BaselineStatus.INCOMPARABLE, reason)
    return Baseline(BaselineStatus.COMPARABLE)
