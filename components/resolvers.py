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

from tfx_captioner.components.artifacts import MODEL_ID, STATISTICS_ID

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

    Input keys: `model`, `model_blessing`, `captions` and `statistics` (all there are of this
    model's name) and `candidate` (one artifact). `captions` and `statistics` resolve to those of
    the blessed model, from runs before the candidate was made. Where no older model is blessed, all
    but `candidate` are empty.
    """

    def resolve_artifacts(self, store: MetadataStore, input_dict: ArtifactDict) -> ArtifactDict:
        candidate = input_dict["candidate"]
        blessings = {
            blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_CURRENT_MODEL_ID_KEY): (
                blessing
            )
            for blessing in input_dict["model_blessing"]
            if blessing.get_int_custom_property(constants.ARTIFACT_PROPERTY_BLESSED_KEY) == 1
        }
        blessed = [
            model for model in _older(input_dict["model"], candidate) if model.id in blessings
        ][-1:]
        ids = {model.id for model in blessed}
        made_by_it = {
            key: [
                artifact
                for artifact in _older(input_dict[key], candidate)
                if artifact.get_int_custom_property(MODEL_ID) in ids
            ]
            for key in ("captions", "statistics")
        }
        return {
            "model": blessed,
            "model_blessing": [blessings[model.id] for model in blessed],
            "candidate": candidate,
            **made_by_it,
        }


def _older(artifacts: list[Artifact], than: list[Artifact]) -> list[Artifact]:
    """Artifacts older than the oldest of `than`, oldest first; ids grow with time."""
    limit = min((artifact.id for artifact in than), default=0)
    return sorted(
        (artifact for artifact in artifacts if artifact.id < limit),
        key=lambda artifact: artifact.id,
    )
