"""A run that was disturbed at a write is made good by the next one.

`CAPTIONER_FAULTS=1000` tries so many random writes, each with ENOSPC, EIO, a kill or a hang;
`CAPTIONER_FAULT_SEED` draws others. `pytest -s` shows the table of what was tried.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator

import pytest

from tests.pipeline.faults import STAGES, Faults, Trial, table

pytestmark = [
    pytest.mark.slow(reason="runs the whole pipeline, and parts of it many times"),
    pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler, `cc`"),
]
POINTS = int(os.environ.get("CAPTIONER_FAULTS", "8"))
SEED = int(os.environ.get("CAPTIONER_FAULT_SEED", "1"))
# Stages that take a second or two, of which each kind of fault sees some in the short pass.
QUICK = ("data", "ImportExampleGen", "DataGate", "ReferenceScorer", "ModelSelector", "end")


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    found = Faults(tmp_path_factory.mktemp("faults"))
    yield found
    found.close()


@pytest.mark.timeout(60 + 120 * POINTS)
def test_the_next_run_makes_good_what_a_fault_left(faults: Faults) -> None:
    draw = random.Random(SEED)
    long = "CAPTIONER_FAULTS" in os.environ
    stages = STAGES if long else dict.fromkeys(QUICK, 1.0)
    results = [faults.attempt(faults.random_trial(draw, stages)) for _ in range(POINTS)]
    print(table(results))
    assert [result for result in results if result.wrong] == []
    assert sum(bool(result.fired) for result in results) > POINTS / 2


def test_a_killed_run_leaves_no_process(faults: Faults) -> None:
    """Once TFX packed its own source for each node that uses Beam, in a process of its own."""
    result = faults.attempt(Trial("kill", "StatisticsGen", faults.counts["StatisticsGen"] // 2))
    assert result.fired
    assert result.status == -9
    assert result.wrong == []
