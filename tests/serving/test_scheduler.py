"""Server-side batching, with a fake model that says what it was given."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from serving.config import BATCHING, BatchingParameters
from serving.local.scheduler import BatchScheduler, Task
from serving.local.status import StatusError, invalid_argument


class FakeServable:
    """Doubles its input; holds every run until `gate` is open; refuses negative numbers."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[float]] = []

    def run(self, signature_name: str, inputs: Any, outputs: Any) -> Any:
        self.gate.wait(10)
        x = inputs["x"]
        self.batches.append(x.tolist())
        if (x < 0).any():
            raise invalid_argument("negative")
        return {"y": 2 * x}


@pytest.fixture
def servable() -> FakeServable:
    return FakeServable()


@pytest.fixture
def scheduler(servable: FakeServable) -> Iterator[BatchScheduler]:
    scheduler = BatchScheduler(BatchingParameters(
        max_batch_size=4, batch_timeout_micros=0, max_enqueued_batches=2, num_batch_threads=1
    ))  # fmt: skip
    yield scheduler
    servable.gate.set()
    scheduler.stop()


def _task(servable: FakeServable, *values: float, deadline: float | None = None) -> Task:
    return Task(servable, "serving_default", {"x": np.float32(values)}, ("y",), deadline)


def _busy(scheduler: BatchScheduler, servable: FakeServable) -> None:
    """Occupies the only thread, so that what comes now has to wait."""
    scheduler.submit(_task(servable, 100.0))
    while scheduler._queue:
        time.sleep(0.001)


def test_waiting_requests_share_batches_and_get_their_own_rows(scheduler, servable) -> None:
    _busy(scheduler, servable)
    results = [scheduler.submit(_task(servable, *rows)) for rows in ([1], [2, 3], [4, 5], [6])]
    servable.gate.set()

    assert [result.result(10)["y"].tolist() for result in results] == [[2], [4, 6], [8, 10], [12]]
    assert servable.batches == [[100], [1, 2, 3, 6], [4, 5]]


def test_a_bad_request_fails_alone(scheduler, servable) -> None:
    _busy(scheduler, servable)
    good, bad, other = (scheduler.submit(_task(servable, value)) for value in (1, -1, 2))
    servable.gate.set()

    assert good.result(10)["y"].tolist() == [2]
    assert other.result(10)["y"].tolist() == [4]
    with pytest.raises(StatusError, match="negative"):
        bad.result(10)


def test_the_queue_is_bounded(scheduler, servable) -> None:
    _busy(scheduler, servable)
    waiting = [scheduler.submit(_task(servable, 1)) for _ in range(8)]
    with pytest.raises(StatusError, match=r"UNAVAILABLE: .*is full"):
        scheduler.submit(_task(servable, 1))
    servable.gate.set()
    assert all(result.result(10) for result in waiting)


def test_nobody_computes_what_nobody_waits_for(scheduler, servable) -> None:
    _busy(scheduler, servable)
    late = scheduler.submit(_task(servable, 1, deadline=time.monotonic() - 1))
    cancelled = scheduler.submit(_task(servable, 2))
    assert cancelled.cancel()
    last = scheduler.submit(_task(servable, 3))
    servable.gate.set()

    with pytest.raises(StatusError, match="DEADLINE_EXCEEDED"):
        late.result(10)
    assert last.result(10)["y"].tolist() == [6]
    assert servable.batches == [[100], [3]]


def test_the_wait_of_what_was_dequeued_is_told(servable) -> None:
    told: list[float] = []
    scheduler = BatchScheduler(BatchingParameters(num_batch_threads=1), on_dequeue=told.append)
    _busy(scheduler, servable)
    late = scheduler.submit(_task(servable, 1, deadline=time.monotonic() - 1))
    assert scheduler.submit(_task(servable, 2)).cancel()
    scheduler.submit(_task(servable, 3))
    servable.gate.set()
    scheduler.stop()

    assert late.done()
    assert len(told) == 3, "the one that kept it busy, the late one and the last"
    assert all(seconds >= 0 for seconds in told)


def test_stopping_finishes_the_queue(servable) -> None:
    scheduler = BatchScheduler(BatchingParameters(num_batch_threads=1))
    results = [scheduler.submit(_task(servable, value)) for value in range(5)]
    servable.gate.set()
    scheduler.stop()
    assert [result.result(0)["y"].tolist() for result in results] == [[0], [2], [4], [6], [8]]
    with pytest.raises(StatusError, match="shutting down"):
        scheduler.submit(_task(servable, 1))


def test_parameters_survive_their_text_form() -> None:
    assert BatchingParameters.from_text(BATCHING.to_text()) == BATCHING
    assert BatchingParameters.from_text("# max_batch_size { value: 3 }\n") == BatchingParameters()
    with pytest.raises(ValueError, match=r'no field named "speed"\. Known are: max_batch_size'):
        BatchingParameters.from_text("speed { value: 3 }")
    with pytest.raises(ValueError, match="cannot be read"):
        BatchingParameters.from_text("max_batch_size: 8")
    with pytest.raises(ValueError, match="`max_batch_size` must be at least 1"):
        BatchingParameters(max_batch_size=0)
