"""Where runs pushed their models: `<run root>/serving/<model name>/<version>/`."""

from __future__ import annotations

from pathlib import Path

RUNS = Path("runs")


def newest_serving_dir(runs: Path = RUNS) -> Path:
    """The serving directory that was pushed to last.

    Args:
      runs: Folder of run roots.

    Raises:
      ValueError: No run has pushed anything.
    """
    pushed = [
        (graph.stat().st_mtime, graph.parents[2])
        for graph in runs.glob("*/serving/*/*/saved_model.pb")
    ]
    if not pushed:
        raise ValueError(
            f"No model was pushed below {runs.absolute()}. `captioner run` makes one; name another "
            "place with --serving-dir."
        )
    return max(pushed)[1]


def find_saved_model(path: Path) -> Path:
    """The SavedModel at a path: the directory itself, or its newest version.

    Raises:
      ValueError: There is none.
    """
    if (path / "saved_model.pb").is_file():
        return path
    versions = [
        child
        for child in (path.iterdir() if path.is_dir() else ())
        if child.name.isdigit() and (child / "saved_model.pb").is_file()
    ]
    if not versions:
        raise ValueError(f"{path} holds no SavedModel, and no <version>/saved_model.pb.")
    return max(versions, key=lambda child: int(child.name))
