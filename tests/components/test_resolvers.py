"""What was there before, for a given current artifact, never changes."""

import pytest
from tfx.types import Artifact, standard_artifacts

from tfx_captioner.components.artifacts import (
    CaptionStatistics,
    DataApproval,
    GeneratedCaptions,
)
from tfx_captioner.components.resolvers import (
    PreviousApprovedStatisticsStrategy,
    PreviousBlessedModelStrategy,
)


def artifact(kind: type[Artifact], artifact_id: int, **properties: int) -> Artifact:
    made = kind()
    made.id = artifact_id
    for name, value in properties.items():
        made.set_int_custom_property(name, value)
    return made


def models(*ids: int) -> list[Artifact]:
    return [artifact(standard_artifacts.Model, number) for number in ids]


def blessing(artifact_id: int, model: int, blessed: int) -> Artifact:
    return artifact(
        standard_artifacts.ModelBlessing, artifact_id, blessed=blessed, current_model_id=model
    )


def resolve_baseline(candidate: int, ids: list[int], blessings: list[Artifact]) -> list[int]:
    resolved = PreviousBlessedModelStrategy().resolve_artifacts(
        None,
        {
            "model": models(*ids),
            "model_blessing": blessings,
            "candidate": models(candidate),
            "captions": [],
            "statistics": [],
        },
    )
    assert [found.id for found in resolved["candidate"]] == [candidate]
    assert len(resolved["model"]) == len(resolved["model_blessing"])
    return [found.id for found in resolved["model"]]


def test_a_first_model_has_no_baseline_even_after_it_was_blessed() -> None:
    assert resolve_baseline(1, [1], []) == []
    assert resolve_baseline(1, [1], [blessing(2, model=1, blessed=1)]) == []


def test_the_baseline_is_the_latest_blessed_model_before_the_candidate() -> None:
    blessings = [
        blessing(10, model=1, blessed=1),
        blessing(11, model=3, blessed=1),
        blessing(12, model=5, blessed=0),
        blessing(13, model=9, blessed=1),
    ]
    assert resolve_baseline(7, [9, 5, 3, 1, 7], blessings) == [3]


def test_captions_and_statistics_are_those_of_the_baseline_from_earlier_runs() -> None:
    """What the candidate's own run generates for the baseline must not change what is resolved."""
    resolved = PreviousBlessedModelStrategy().resolve_artifacts(
        None,
        {
            "model": models(1, 5, 9),
            "model_blessing": [blessing(4, model=1, blessed=1), blessing(8, model=5, blessed=1)],
            "candidate": models(9),
            "captions": [
                artifact(GeneratedCaptions, 2, model_id=1),
                artifact(GeneratedCaptions, 6, model_id=5),
                artifact(GeneratedCaptions, 10, model_id=9),
                artifact(GeneratedCaptions, 11, model_id=5),
            ],
            "statistics": [
                artifact(CaptionStatistics, 7, model_id=5),
                artifact(CaptionStatistics, 12, model_id=5),
            ],
        },
    )
    assert [found.id for found in resolved["model"]] == [5]
    assert [found.id for found in resolved["captions"]] == [6]
    assert [found.id for found in resolved["statistics"]] == [7]


@pytest.mark.parametrize(
    ("current", "approved", "expected"),
    [
        (2, [2], []),
        (5, [2], [2]),
        (8, [2, 5], [5]),
        (8, [2, 5, 8], [5]),
        (8, [2], [2]),
        (8, [], []),
    ],
)
def test_previous_statistics_are_the_latest_approved_before_the_current(
    current: int, approved: list[int], expected: list[int]
) -> None:
    kind = standard_artifacts.ExampleStatistics
    resolved = PreviousApprovedStatisticsStrategy().resolve_artifacts(
        None,
        {
            "statistics": [artifact(kind, number) for number in (8, 2, 5)],
            "approval": [
                artifact(DataApproval, 20 + number, statistics_id=number) for number in approved
            ],
            "current": [artifact(kind, current)],
        },
    )
    assert [found.id for found in resolved["statistics"]] == expected
    assert [found.id - 20 for found in resolved["approval"]] == expected
    assert [found.id for found in resolved["current"]] == [current]
