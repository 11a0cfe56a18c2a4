"""The rule by itself."""

from __future__ import annotations

import pytest

from tfx_captioner.components.model_selector.selection import Candidate, select

NAN = float("nan")


@pytest.mark.parametrize(
    ("candidates", "chosen", "reason"),
    [
        ([("a", True, 0.1), ("b", True, 0.2)], "b", "scores best of the blessed"),
        ([("a", True, 0.1), ("b", False, 0.9)], "a", "the only blessed"),
        ([("a", False, 0.1), ("b", False, 0.2)], "b", "nothing is to be pushed"),
        ([("a", True, 0.2), ("b", True, 0.2)], "a", "first named"),
        ([("a", True, NAN), ("b", True, 0.0)], "b", "scores best of the blessed"),
        ([("a", True, None), ("b", True, 0.0)], "b", "not a number"),
        ([("a", True, NAN), ("b", True, None)], "a", "first named"),
        ([("a", True, 0.3)], "a", "the only blessed"),
    ],
)
def test_who_is_chosen(
    candidates: list[tuple[str, bool, float | None]], chosen: str, reason: str
) -> None:
    selection = select([Candidate(*candidate) for candidate in candidates], "bleu_4")
    assert selection.chosen.name == chosen
    assert reason in selection.reason
