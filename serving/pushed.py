"""Where runs pushed their models: `<run root>/serving/<model name>/<version>/`."""

from __future__ import annotations

from pathlib import Path

from tfx_captioner.serving import versions

RUNS = Path("runs")


def newest_serving_dir(runs: Path = RUNS) -> Path:
    """The serving directory that was pushed to last.

    Args:
      runs: Folder of run roots.

    Raises:
      ValueError: No run has pushed anything.
    """
    pushed = [
        (Path(path, versions.GRAPH).stat().st_mtime, base.parent)
        for base in runs.glob("*/serving/*")
        for path in versions.whole_versions(str(base)).values()
    ]
    if not pushed:
        raise ValueError(
            f"No model was pushed below {runs.absolute()}. `captioner run` makes one; name another "
            "place with --serving-dir."
        )
    return max(pushed)[1]


def find_saved_model(path: Path) -> Path:
    """The SavedModel at a path: the directory itself, or its newest whole version.

    Raises:
      ValueError: There is none.
    """
    if versions.is_whole(str(path)):
        return path
    whole = versions.whole_versions(str(path))
    if not whole:
        raise ValueError(
            f"{path} holds no SavedModel, and no <version>/{versions.GRAPH}, that is whole."
        )
    return Path(whole[max(whole)])
