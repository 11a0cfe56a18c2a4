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

from tests.pipeline.faults import LAST_NODE, STAGES, Faults, Trial, table

pytestmark = [
    pytest.mark.slow(reason="runs the first nodes many times"),
    pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler, `cc`"),
]
POINTS = int(os.environ.get("CAPTIONER_FAULTS", "8"))
SEED = int(os.environ.get("CAPTIONER_FAULT_SEED", "1"))
LONG = "CAPTIONER_FAULTS" in os.environ


@pytest.fixture(scope="module")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faults]:
    # The nodes up to this one take a tenth of the time of all.
    last = LAST_NODE if LONG else "ReferenceScorer"
    found = Faults(tmp_path_factory.mktemp("faults"), last)
    yield found
    found.close()


@pytest.mark.timeout(900 + 120 * POINTS)
def test_the_next_run_makes_good_what_a_fault_left(faults: Faults) -> None:
    draw = random.Random(SEED)
    results = [faults.attempt(faults.random_trial(draw, STAGES)) for _ in range(POINTS)]
    print(table(results))
    assert [result for result in results if result.wrong] == []
    assert sum(bool(result.fired) for result in results) > POINTS / 2


def test_a_killed_run_leaves_no_process(faults: Faults) -> None:
    """Once TFX packed its own source for each node that uses Beam, in a process of its own."""
    result = faults.attempt(Trial("kill", "StatisticsGen", faults.counts["StatisticsGen"] // 2))
    assert result.fired
    assert result.status == -9
    assert result.wrong == []
