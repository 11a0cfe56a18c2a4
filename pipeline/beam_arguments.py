"""What Beam's arguments say. Light: imports no Beam."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

# As Beam does, in lower case: it takes a runner's name in any.
_LOCAL_RUNNERS = ("directrunner", "fnapirunner", "prismrunner")


def runs_elsewhere(arguments: Sequence[str]) -> bool:
    """Whether Beam's workers are on other machines.

    >>> runs_elsewhere(["--runner", "DataflowRunner"])
    True

    Args:
      arguments: Beam's flags; of several runners the last counts.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--runner", default=_LOCAL_RUNNERS[0])
    runner: str = parser.parse_known_args(list(arguments))[0].runner
    return runner.rpartition(".")[2].lower() not in _LOCAL_RUNNERS


def without_package(arguments: Sequence[str]) -> list[str]:
    """The arguments, with one by which TFX ships no package where all runs on this machine.

    For each node that uses Beam, TFX packs its own source for workers on other machines
    (`dependency_utils.make_beam_dependency_flags`: seconds, and a process that outlives a killed
    run), unless an argument says what image the workers have. Local runners have no use for that.

    Args:
      arguments: Beam's flags.
    """
    if runs_elsewhere(arguments):
        return list(arguments)
    return [*arguments, "--sdk_container_image=none"]
