"""Server-side batching: a bounded queue, and threads that run what waits in it together.

With batching off a batch is one request; everything else is the same.
"""

from __future__ import annotations

import collections
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from serving.config import BatchingParameters
from serving.local.servable import Inputs, Outputs, Servable
from serving.local.status import Code, StatusError

_LOG = logging.getLogger("captioner.serving")


@dataclass(frozen=True, eq=False)
class Task:
    """A request that waits to be run.

    Attributes:
      servable: What runs it; kept from being unloaded by the caller until `result` is done.
      signature_name: Signature of it.
      inputs: Arrays by alias.
      outputs: Output aliases wanted.
      deadline: `time.monotonic()` after which nobody waits for the answer any more; None for never.
      result: Where the arrays by output alias, or a StatusError, go.
    """

    servable: Servable
    signature_name: str
    inputs: Inputs
    outputs: tuple[str, ...]
    deadline: float | None
    result: Future[Outputs] = field(default_factory=Future)
    arrival: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int | None:
        """Number of rows, the common 0-th dimension; None if the task cannot share a batch."""
        sizes = {array.shape[0] if array.ndim else None for array in self.inputs.values()}
        return sizes.pop() if len(sizes) == 1 else None

    def batch_key(self) -> Hashable:
        """Tasks with the same key may be run as one."""
        shapes = tuple(
            (alias, array.shape[1:], array.dtype.str)
            for alias, array in sorted(self.inputs.items())
        )
        return id(self.servable), self.signature_name, self.outputs, shapes


class BatchScheduler:
    """Runs tasks in the order of their arrival, those that fit together as one batch."""

    def __init__(
        self,
        parameters: BatchingParameters,
        on_dequeue: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """Starts the threads.

        Args:
          parameters: Sizes and times, by TF Serving's names.
          on_dequeue: Is given for every task that is run or has expired the seconds it waited.
        """
        self._parameters = parameters
        self._on_dequeue = on_dequeue
        self._capacity = parameters.max_enqueued_batches * parameters.max_batch_size
        self._queue: collections.deque[Task] = collections.deque()
        lock = threading.Lock()
        self._idle = threading.Condition(lock)  # threads without a batch: one is woken by a task
        self._arrival = threading.Condition(lock)  # threads that wait for more for their batch
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True)
            for index in range(parameters.num_batch_threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task) -> Future[Outputs]:
        """Enqueues a task.

        Returns:
          Its `result`; cancelling it takes the task out of the queue.

        Raises:
          StatusError: UNAVAILABLE; the queue is full or closed.
        """
        with self._idle:
            if self._stopped:
                raise StatusError(Code.UNAVAILABLE, "The server is shutting down")
            if len(self._queue) >= self._capacity:
                raise StatusError(
                    Code.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full",
                )
            self._queue.append(task)
            self._arrival.notify_all()
            self._idle.notify()
        return task.result

    def stop(self) -> None:
        """Finishes what is in the queue and ends the threads."""
        with self._idle:
            self._stopped = True
            self._arrival.notify_all()
            self._idle.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._idle:
                while not self._queue:
                    if self._stopped:
                        return
                    self._idle.wait()
                batch = self._take_batch()
            now = time.monotonic()
            for task in batch:
                if not task.result.cancelled():
                    self._on_dequeue(now - task.arrival)
            _run(batch)

    def _take_batch(self) -> list[Task]:
        """Takes the oldest task and what may run with it; called with the lock held."""
        first = self._queue.popleft()
        batch, size = [first], first.size
        if size is None or self._parameters.max_batch_size == 1:
            return batch
        key = first.batch_key()
        give_up = first.arrival + self._parameters.batch_timeout_micros / 1e6
        while True:
            size += self._take_fitting(key, self._parameters.max_batch_size - size, batch)
            remaining = give_up - time.monotonic()
            if size >= self._parameters.max_batch_size or remaining <= 0 or self._stopped:
                return batch
            self._arrival.wait(remaining)

    def _take_fitting(self, key: Hashable, room: int, batch: list[Task]) -> int:
        taken = 0
        for task in list(self._queue):
            size = task.size
            if size is not None and taken + size <= room and task.batch_key() == key:
                self._queue.remove(task)
                batch.append(task)
                taken += size
        return taken


def _run(batch: Sequence[Task]) -> None:
    """Runs a batch; when it fails, each of its tasks alone, so that one answers for itself."""
    live = [task for task in batch if _begin(task)]
    if not live:
        return
    try:
        outputs = _run_together(live)
    except Exception as error:
        if len(live) == 1:
            live[0].result.set_exception(_status_of(error))
            return
        for task in live:
            try:
                task.result.set_result(_run_together([task])[0])
            except Exception as own_error:
                task.result.set_exception(_status_of(own_error))
        return
    for task, output in zip(live, outputs, strict=True):
        task.result.set_result(output)


def _begin(task: Task) -> bool:
    if not task.result.set_running_or_notify_cancel():
        return False
    if task.deadline is not None and time.monotonic() >= task.deadline:
        task.result.set_exception(
            StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded while waiting in the queue")
        )
        return False
    return True


def _run_together(tasks: Sequence[Task]) -> list[Outputs]:
    first = tasks[0]
    if len(tasks) == 1:
        inputs: Inputs = first.inputs
    else:
        inputs = {
            alias: np.concatenate([task.inputs[alias] for task in tasks]) for alias in first.inputs
        }
    outputs = first.servable.run(first.signature_name, inputs, first.outputs)
    if len(tasks) == 1:
        return [outputs]
    return _split(outputs, [task.size or 0 for task in tasks])


def _split(outputs: Outputs, sizes: Sequence[int]) -> list[Outputs]:
    total = sum(sizes)
    for alias, array in outputs.items():
        if not array.ndim or array.shape[0] != total:
            raise StatusError(
                Code.FAILED_PRECONDITION,
                f"Batched output tensor's 0th dimension does not equal the sum of the 0th "
                f"dimension sizes of the input tensors: {alias}",
            )
    ends = np.cumsum(sizes)
    return [
        {alias: array[end - size : end] for alias, array in outputs.items()}
        for size, end in zip(sizes, ends, strict=True)
    ]


def _status_of(error: Exception) -> StatusError:
    if isinstance(error, StatusError):
        return error
    _LOG.error("a request failed inside the server", exc_info=error)
    return StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}")
