"""Where the evaluations of a local run lie. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import UserError

RUNS = Path("runs")
# Written by the CaptionEvaluator into the folder of each evaluation, last of all but the report.
_MARK = "verdict.json"
_NODE = "CaptionEvaluator."


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


def evaluations(root: Path) -> dict[str, Path]:
    """The newest evaluation of each model of a run, by model name.

    Args:
      root: Run root; artifacts are in `artifacts/CaptionEvaluator.<model>/evaluation/<id>/`.
    """
    found: dict[str, Path] = {}
    for mark in root.glob(f"artifacts/{_NODE}*/evaluation/*/{_MARK}"):
        folder = mark.parent
        name = folder.parent.parent.name.removeprefix(_NODE)
        if name not in found or _age(folder) > _age(found[name]):
            found[name] = folder
    return dict(sorted(found.items()))


def comparison(root: Path) -> Path | None:
    """The newest page of a run that compares its models; None where there is none."""
    pages = list(root.glob("artifacts/ModelSelector/blessing/*/comparison.html"))
    return max(pages, key=lambda page: page.stat().st_mtime, default=None)


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
