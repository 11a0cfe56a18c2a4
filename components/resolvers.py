"""Resolver strategies for "what was there before".

TFX's own strategies answer "the latest", which after a first run is the very artifact that run
made: a second, unchanged run would see another baseline than the first, and run again what should
be cached. These answer "the latest that is older than the current one", which never changes for a
given current artifact.
"""

from __future__ import annotations

from ml_metadata import MetadataStore
from tfx.components.evaluator import constants
from tfx.dsl.components.common.resolver import ResolverStrategy
from tfx.types import Artifact

from tfx_captioner.components.artifacts import STATISTICS_ID

ArtifactDict = dict[str, list[Artifact]]


class PreviousApprovedStatisticsStrategy(ResolverStrategy):
    """Resolves `statistics` to the latest approved ones made before those in `current`.

    What the DataGate refused is no measure of drift: two runs on the same bad data would otherwise
    be all it takes to get that data through.

    Input keys: `statistics` and `approval` (all there are) and `current` (one artifact). Where no
    older statistics are approved, `statistics` and `approval` are empty.
    """

    def resolve_artifacts(self, store: MetadataStore, input_dict: ArtifactDict) -> ArtifactDict:
        approvals = {
            approval.get_int_custom_property(STATISTICS_ID): approval
            for approval in input_dict["approval"]
        }
        approved = [
            statistics
            for statistics in _older(input_dict["statistics"], input_dict["current"])
            if statistics.id in approvals
        ][-1:]
        return {
            "statistics": approved,
            "approval": [approvals[statistics.id] for statistics in approved],
            "current": input_dict["current"],
        }


class PreviousBlessedModelStrategy(ResolverStrategy):
    """Resolves `model` to the latest blessed model made before the one in `candidate`.

    Input keys: `model` and `model_blessing` (all there are of this model's name) and `candidate`
    (one artifact). Where no older model is blessed, `model` and `model_blessing` are empty.
    """

    def resolve_artifacts(self, store: MetadataStore, input_dict: ArtifactDict) -> ArtifactDict:
        blessings = {
            blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY): (
                blessing
            )
            for blessing in input_dict["model_blessing"]
            if blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
        }
        blessed = [
            model
            for model in _older(input_dict["model"], input_dict["candidate"])
            if model.id in blessings
        ][-1:]
        return {
            "model": blessed,
            "model_blessing": [blessings[model.id] for model in blessed],
            "candidate": input_dict["candidate"],
        }


def _older(artifacts: list[Artifact], than: list[Artifact]) -> list[Artifact]:
    """Artifacts older than the oldest of `than`, oldest first; ids grow with time."""
    limit = min((artifact.id for artifact in than), default=0)
    return sorted(
        (artifact for artifact in artifacts if artifact.id < limit),
        key=lambda artifact: artifact.id,
    )
