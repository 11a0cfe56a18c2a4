"""Server-side batching, with a fake model that says what it was given."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from tfx_captioner.serving.config import BATCHING, BatchingParameters
from tfx_captioner.serving.local.scheduler import BatchScheduler, Task
from tfx_captioner.serving.local.status import StatusError, invalid_argument


class FakeServable:
    """Doubles its input; holds every run until `gate` is open; refuses negative numbers."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.batches: list[list[float]] = []

    def run(self, signature_name: str, inputs: Any, outputs: Any) -> Any:
        self.entered.set()
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


@pytest.fixture
def splitting(servable: FakeServable) -> Iterator[BatchScheduler]:
    """Runs four rows at once, of requests of up to ten."""
    scheduler = BatchScheduler(BatchingParameters(
        max_batch_size=10, max_enqueued_batches=3, num_batch_threads=1,
        enable_large_batch_splitting=True, max_execution_batch_size=4,
    ))  # fmt: skip
    yield scheduler
    servable.gate.set()
    scheduler.stop()


def _task(servable: Any, *values: float, deadline: float | None = None) -> Task:
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
    cancelled = _task(servable, 2)
    scheduler.submit(cancelled)
    cancelled.cancel()
    last = scheduler.submit(_task(servable, 3))
    servable.gate.set()

    with pytest.raises(StatusError, match="DEADLINE_EXCEEDED"):
        late.result(10)
    assert last.result(10)["y"].tolist() == [6]
    assert servable.batches == [[100], [3]]


def test_rows_of_a_request_fill_several_batches_and_come_back_in_order(splitting, servable) -> None:
    _busy(splitting, servable)
    results = [splitting.submit(_task(servable, *rows)) for rows in ([1, 2, 3, 4, 5], [6], [7, 8])]
    servable.gate.set()

    assert [result.result(10)["y"].tolist() for result in results] == [
        [2, 4, 6, 8, 10], [12], [14, 16],
    ]  # fmt: skip
    assert servable.batches == [[100], [1, 2, 3, 4], [5, 6, 7, 8]]


def test_parts_of_a_request_are_run_at_the_same_time() -> None:
    class Meeting(FakeServable):
        """Lets two runs go on when both are under way."""

        def __init__(self) -> None:
            super().__init__()
            self.gate.set()
            self._both = threading.Barrier(2, timeout=10)

        def run(self, signature_name: str, inputs: Any, outputs: Any) -> Any:
            self._both.wait()
            return super().run(signature_name, inputs, outputs)

    scheduler = BatchScheduler(BatchingParameters(
        max_batch_size=4, num_batch_threads=2,
        enable_large_batch_splitting=True, max_execution_batch_size=2,
    ))  # fmt: skip
    result = scheduler.submit(_task(Meeting(), 1, 2, 3, 4))
    assert result.result(20)["y"].tolist() == [2, 4, 6, 8]
    scheduler.stop()


def test_a_part_that_fails_fails_its_request_alone(splitting, servable) -> None:
    _busy(splitting, servable)
    good = splitting.submit(_task(servable, 1, 2))
    bad = splitting.submit(_task(servable, -3, 4, 5, 6, 7, 8, 9))
    servable.gate.set()

    assert good.result(10)["y"].tolist() == [2, 4]
    with pytest.raises(StatusError, match="INVALID_ARGUMENT: negative"):
        bad.result(10)
    splitting.stop()
    # Together, each alone, and nothing of what was left.
    assert servable.batches == [[100], [1, 2, -3, 4], [1, 2], [-3, 4]]


def test_what_is_left_of_a_request_is_not_run_for_nobody(splitting, servable) -> None:
    task = _task(servable, 1, 2, 3, 4, 5)
    result = splitting.submit(task)
    assert servable.entered.wait(10)
    task.cancel()
    assert not result.done(), "the version must stay until the graph has run"
    servable.gate.set()

    with pytest.raises(StatusError, match="CANCELLED"):
        result.result(10)
    assert servable.batches == [[1, 2, 3, 4]]


def test_larger_requests_are_refused(scheduler, splitting, servable) -> None:
    with pytest.raises(
        StatusError,
        match="INVALID_ARGUMENT: Task size 5 is larger than maximum input batch size 4",
    ):
        scheduler.submit(_task(servable, *range(5)))
    with pytest.raises(StatusError, match="size 11 is larger than maximum input batch size 10"):
        splitting.submit(_task(servable, *range(11)))


def test_a_queue_without_room_for_all_rows_takes_none(splitting, servable) -> None:
    _busy(splitting, servable)
    waiting = splitting.submit(_task(servable, *range(10)))
    with pytest.raises(StatusError) as refused:
        splitting.submit(_task(servable, 1, 2, 3))
    assert str(refused.value) == (
        "UNAVAILABLE: The batch scheduling queue to which this task was submitted is full; task "
        "size is 3 but scheduling capacity is only 2 (num_enqueued_batches=3, "
        "max_enqueued_batches=3, open_batch_size=2, max_execution_batch_size=4)"
    )
    fits = splitting.submit(_task(servable, 1, 2))
    servable.gate.set()
    assert len(waiting.result(10)["y"]) == 10
    assert fits.result(10)["y"].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"x": np.float32(1)}, "input tensors must have at least one dimension"),
        (
            {"x": np.float32([1]), "z": np.float32([1, 2])},
            "input tensors must have equal 0th-dimension size",
        ),
        ({}, "must have at least one input tensor"),
    ],
)
def test_what_has_no_rows_is_no_batch(
    inputs: dict[str, Any], words: str, scheduler, servable
) -> None:
    with pytest.raises(StatusError, match=rf"INVALID_ARGUMENT: Batching Run\(\) {words}"):
        scheduler.submit(Task(servable, "serving_default", inputs, ("y",), None))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (np.float32(1), "Batched output tensor has 0 dimensions"),
        (np.float32([1]), "Batched output tensor's 0th dimension does not equal the sum of"),
    ],
)
def test_an_answer_that_is_not_by_rows_is_none_of_a_batch(
    output: Any, words: str, scheduler
) -> None:
    class Constant:
        def run(self, signature_name: str, inputs: Any, outputs: Any) -> Any:
            return {"y": output}

    with pytest.raises(StatusError, match=f"FAILED_PRECONDITION: {words}"):
        scheduler.submit(_task(Constant(), 1, 2)).result(10)


def test_without_batching_anything_is_run_as_it_comes(servable) -> None:
    servable.gate.set()
    scheduler = BatchScheduler(None)

    def run(x: Any) -> Future[Any]:
        return scheduler.submit(Task(servable, "serving_default", {"x": x}, ("y",), None))

    assert run(np.float32(3)).result(10)["y"] == 6
    assert len(run(np.zeros(5000, np.float32)).result(10)["y"]) == 5000
    scheduler.stop()


def test_the_wait_of_what_was_dequeued_is_told(servable) -> None:
    told: list[float] = []
    scheduler = BatchScheduler(BatchingParameters(num_batch_threads=1), on_dequeue=told.append)
    _busy(scheduler, servable)
    late = scheduler.submit(_task(servable, 1, deadline=time.monotonic() - 1))
    cancelled = _task(servable, 2)
    scheduler.submit(cancelled)
    cancelled.cancel()
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
    assert BatchingParameters.from_text(BatchingParameters().to_text()) == BatchingParameters()
    with pytest.raises(ValueError, match=r'no field named "speed"\. Known are: max_batch_size'):
        BatchingParameters.from_text("speed { value: 3 }")
    with pytest.raises(ValueError, match="cannot be read"):
        BatchingParameters.from_text("max_batch_size: 8")
    with pytest.raises(ValueError, match="`max_batch_size` must be at least 1"):
        BatchingParameters(max_batch_size=0)
    with pytest.raises(ValueError, match=r"at least `max_execution_batch_size`. Received: 4, 8."):
        BatchingParameters(
            max_batch_size=4, enable_large_batch_splitting=True, max_execution_batch_size=8
        )


def test_what_is_run_at_once_is_another_size_only_where_requests_are_split() -> None:
    assert BatchingParameters(max_batch_size=4, max_execution_batch_size=8).execution_size == 4
    assert BatchingParameters(enable_large_batch_splitting=True).execution_size == 1000
    assert BATCHING.execution_size < BATCHING.max_batch_size
