"""Where the evaluations of a local run lie. Imports nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tfx_captioner.pipeline.errors import UserError

RUNS = Path("runs")
# Written by the CaptionEvaluator into the folder of each evaluation, last of all.
_MARK = "verdict.json"
_NODE = "CaptionEvaluator."
_PAGES = "EvaluationReport/pages/*"


def newest_run(runs: Path = RUNS) -> Path:
    """The run root in which an evaluation was made last.

    Args:
      runs: Folder of run roots.

    Raises:
      UserError: No run has one.
    """
    roots = [root for root in runs.glob("*") if evaluations(root)]
    if not roots:
        raise UserError(
            f"No evaluation was found under {runs.absolute()}. `captioner run` makes one, and a "
            "run that lies elsewhere can be named."
        )
    return max(roots, key=lambda root: max(map(_age, evaluations(root).values())))


def history(root: Path) -> dict[str, list[Path]]:
    """All evaluations of each model of a run root, the earliest first, by model name.

    Args:
      root: Run root; artifacts are in `artifacts/CaptionEvaluator.<model>/evaluation/<id>/`.
    """
    found: dict[str, list[Path]] = {}
    for mark in sorted(root.glob(f"artifacts/{_NODE}*/evaluation/*/{_MARK}")):
        folder = mark.parent
        found.setdefault(folder.parent.parent.name.removeprefix(_NODE), []).append(folder)
    return {name: sorted(folders, key=_age) for name, folders in found.items()}


def evaluations(root: Path) -> dict[str, Path]:
    """The newest evaluation of each model of a run root, by model name."""
    return {name: folders[-1] for name, folders in history(root).items()}


def read_verdict(folder: Path) -> dict[str, Any]:
    """What an evaluation found, as plain data; `summary.EvaluationSummary` says what is in it.

    Raises:
      FileNotFoundError: The folder holds no evaluation, or no longer.
    """
    content: dict[str, Any] = json.loads((folder / _MARK).read_text(encoding="utf-8"))
    return content


def comparison(root: Path) -> Path | None:
    """The newest page of a run that compares its models; None where there is none."""
    pages = list(root.glob(f"artifacts/{_PAGES}/comparison.html"))
    return max(pages, key=lambda page: page.stat().st_mtime, default=None)


def report_folder(evaluation: Path) -> Path | None:
    """The newest report of an evaluation, a folder with `report.html`; None where there is none.

    Args:
      evaluation: Folder of the evaluation, within the artifacts of its run.
    """
    node = evaluation.parent.parent
    found = [
        source.parent
        for source in node.parent.glob(f"{_PAGES}/{node.name.removeprefix(_NODE)}/evaluation.json")
        # The run may have been moved since: the end of the path says which one it is.
        if Path(json.loads(source.read_text(encoding="utf-8"))["evaluation"]).parts[-3:]
        == evaluation.absolute().parts[-3:]
    ]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=None)


def evaluation_folders(path: Path) -> list[Path]:
    """The evaluations that a path names: one itself, or the newest of each model of a run.

    Raises:
      UserError: There is none.
    """
    if (path / _MARK).is_file():
        return [path]
    found = list(evaluations(path).values())
    if not found:
        raise UserError(
            f"{path} must be a run root (such as runs/sample) that has finished an evaluation, or "
            f"the folder of an evaluation with its {_MARK}."
        )
    return found


def _age(folder: Path) -> float:
    return (folder / _MARK).stat().st_mtime
