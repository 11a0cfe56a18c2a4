"""The last blessed model as a measure: whether there is one, and whether it compares."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from tfx.types import Artifact
from tfx.utils import path_utils

from tfx_captioner.components.caption_evaluator.blessing import (
    SPLIT_FINGERPRINT,
    Baseline,
    BaselineStatus,
)
from tfx_captioner.components.caption_evaluator.captioning import Captions, UnusableModelError

LOG = logging.getLogger("captioner.caption_evaluator")

NO_BASELINE = Baseline(BaselineStatus.NONE)


def find_baseline(
    models: Sequence[Artifact],
    blessings: Sequence[Artifact],
    candidate: Artifact,
    split_fingerprint: str,
) -> tuple[Artifact | None, Baseline]:
    """The artifact to compare with, and what may be said of the comparison.

    A baseline that was blessed on another split is scored on this one and shown, but not held
    against the candidate: the images it is scored on may be among those it was trained on.

    Args:
      models: The resolved baseline; empty, or one model.
      blessings: Its blessing; empty where it is not connected.
      candidate: The model to evaluate; it is no baseline of its own.
      split_fingerprint: Of the split that is evaluated now.
    """
    model = next((model for model in models if model.uri != candidate.uri), None)
    if model is None:
        return None, NO_BASELINE
    for blessing in blessings:
        judged_on = blessing.get_string_custom_property(SPLIT_FINGERPRINT)
        if judged_on and judged_on != split_fingerprint:
            reason = (
                "it was blessed on other images or references: "
                f"split {judged_on}, this one is {split_fingerprint}"
            )
            return model, Baseline(BaselineStatus.INCOMPARABLE, reason)
    return model, Baseline(BaselineStatus.COMPARABLE)


def caption_by_baseline(
    model: Artifact, baseline: Baseline, caption: Callable[[str], Captions]
) -> tuple[Captions | None, Baseline]:
    """Captions by the baseline, or none and the reason why.

    A baseline that is gone or does not answer does not stop a new model from being evaluated.

    Args:
      model: The baseline's artifact.
      baseline: What `find_baseline` said of it.
      caption: Captions the split with the SavedModel in a folder.
    """
    try:
        return caption(path_utils.serving_model_path(model.uri)), baseline
    except UnusableModelError as error:
        LOG.warning("no comparison with the baseline: %s", error)
        return None, Baseline(BaselineStatus.INCOMPARABLE, str(error))
