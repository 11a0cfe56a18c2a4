"""The rule by which a champion is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Beside the blessing of the ModelSelector.
SELECTION_FILE = "selection.json"


@dataclass(frozen=True)
class Candidate:
    """A model in the running.

    Attributes:
      name: Such as `resnet_gru`.
      blessed: Verdict of its evaluation.
      score: Value of the metric compared, over all images; None where it is not a number.
    """

    name: str
    blessed: bool
    score: float | None


@dataclass(frozen=True)
class Selection:
    """The chosen candidate and why."""

    chosen: Candidate
    reason: str


def select(candidates: Sequence[Candidate], metric: str) -> Selection:
    """Chooses the best blessed candidate, or the best of all where none is blessed.

    A score that is not a number loses against every number; of equal scores the first named wins.

    Args:
      candidates: Models in the running, at least one.
      metric: Name of the metric, for the reason.
    """
    blessed = [candidate for candidate in candidates if candidate.blessed]
    running = blessed or candidates
    chosen = max(running, key=_rank)  # `max` keeps the first of equals
    others = [candidate for candidate in running if candidate is not chosen]
    if not blessed:
        why = "no candidate is blessed, so nothing is to be pushed; it scores best"
    elif not others:
        why = "it is the only blessed candidate"
    elif any(_rank(other) == _rank(chosen) for other in others):
        why = "it is the first named of the blessed candidates that score best"
    else:
        why = "it scores best of the blessed candidates"
    scores = ", ".join(f"{candidate.name} {_text(candidate)}" for candidate in candidates)
    return Selection(chosen, f"{chosen.name} was chosen: {why}. {metric}: {scores}.")


def _rank(candidate: Candidate) -> float:
    score = candidate.score
    return -math.inf if score is None or math.isnan(score) else score


def _text(candidate: Candidate) -> str:
    score = "not a number" if _rank(candidate) == -math.inf else f"{candidate.score:.4f}"
    return score if candidate.blessed else f"{score} (not blessed)"
