"""Server-side batching: a bounded queue, and threads that run what waits in it together.

The rules and words are those of TF Serving's batching_session.cc and TensorFlow's
shared_batch_scheduler.h. Other than there all signatures share one queue, and batches form when a
thread is free for them, not when a request comes. With batching off a batch is one request,
whatever it holds.
"""

from __future__ import annotations

import collections
import logging
import math
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from tfx_captioner.serving.config import BatchingParameters
from tfx_captioner.serving.local.servable import Inputs, Outputs, Servable
from tfx_captioner.serving.local.status import (
    Code,
    StatusError,
    failed_precondition,
    invalid_argument,
)

_LOG = logging.getLogger("captioner.serving")

# With batching off, where TF Serving runs as many as come.
_UNBATCHED_THREADS = 2
_UNBATCHED_WAITING = 256


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
      arrival: `time.monotonic()` when it came.
      unwanted: Set when nobody waits for the answer any more.
    """

    servable: Servable
    signature_name: str
    inputs: Inputs
    outputs: tuple[str, ...]
    deadline: float | None
    result: Future[Outputs] = field(default_factory=Future)
    arrival: float = field(default_factory=time.monotonic)
    unwanted: threading.Event = field(default_factory=threading.Event)

    @property
    def size(self) -> int | None:
        """Number of rows, the common 0-th dimension; None if there is none."""
        sizes = {array.shape[0] if array.ndim else None for array in self.inputs.values()}
        return sizes.pop() if len(sizes) == 1 else None

    def batch_key(self) -> Hashable:
        """Tasks with the same key may be run as one."""
        shapes = tuple(
            (alias, array.shape[1:], array.dtype.str)
            for alias, array in sorted(self.inputs.items())
        )
        return id(self.servable), self.signature_name, self.outputs, shapes

    def cancel(self) -> None:
        """Nobody waits for the answer: what of it is not being run will not be."""
        self.unwanted.set()
        self.result.cancel()


@dataclass(eq=False)
class _Progress:
    """How far a task has come; changed under the scheduler's lock.

    Attributes:
      task: The task.
      size: Its rows; 1 with batching off.
      taken: Rows that are not in the queue any more.
      running: Parts of it in batches that have not ended.
      begun: Whether one of them was about to be run.
      answers: Outputs of the parts that have, by first row.
      error: Why it fails.
    """

    task: Task
    size: int
    taken: int = 0
    running: int = 0
    begun: bool = False
    answers: dict[int, Outputs] = field(default_factory=dict)
    error: StatusError | None = None

    def conclude(self) -> None:
        """Hands over the answer; nothing of the task waits or runs."""
        result = self.task.result
        if result.cancelled():
            return
        if self.error:
            result.set_exception(self.error)
            return
        try:
            result.set_result(_join([self.answers[start] for start in sorted(self.answers)]))
        except ValueError as error:  # rows of one batch and of another are of different shapes
            result.set_exception(_status_of(error))


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows of a task, from `start` to before `stop`, that are run in one batch."""

    progress: _Progress
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    @property
    def inputs(self) -> Inputs:
        inputs = self.progress.task.inputs
        if self.size == self.progress.size:
            return inputs
        return {alias: array[self.start : self.stop] for alias, array in inputs.items()}


class BatchScheduler:
    """Runs tasks in the order of their arrival, those that fit together as one batch."""

    def __init__(
        self,
        parameters: BatchingParameters | None,
        on_dequeue: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """Starts the threads.

        Args:
          parameters: Sizes and times, by TF Serving's names; None for no batching.
          on_dequeue: Is given for every task, or part of one, that is run or has expired the
            seconds it waited.
        """
        self._parameters = parameters
        self._on_dequeue = on_dequeue
        self._queue: collections.deque[_Progress] = collections.deque()
        self._waiting = 0  # rows in the queue; with batching off, tasks
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)  # threads without a batch
        self._arrival = threading.Condition(self._lock)  # threads that wait for more for theirs
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, name=f"batch-{index}", daemon=True)
            for index in range(parameters.num_batch_threads if parameters else _UNBATCHED_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task) -> Future[Outputs]:
        """Enqueues a task.

        Returns:
          Its `result`.

        Raises:
          StatusError: INVALID_ARGUMENT; with batching on, it has no rows, or more than allowed.
            UNAVAILABLE; the queue is full or closed.
        """
        progress = _Progress(task, self._size_of(task))
        with self._lock:
            if self._stopped:
                raise StatusError(Code.UNAVAILABLE, "The server is shutting down")
            self._require_room(progress.size)
            self._queue.append(progress)
            self._waiting += progress.size
            self._arrival.notify_all()
            self._idle.notify()
        return task.result

    def stop(self) -> None:
        """Finishes what is in the queue and ends the threads."""
        with self._lock:
            self._stopped = True
            self._arrival.notify_all()
            self._idle.notify_all()
        for thread in self._threads:
            thread.join()

    def _size_of(self, task: Task) -> int:
        if self._parameters is None:
            return 1
        size = _batch_size(task.inputs)
        if size > self._parameters.max_batch_size:
            raise invalid_argument(
                f"Task size {size} is larger than maximum input batch size "
                f"{self._parameters.max_batch_size}"
            )
        return size

    def _require_room(self, size: int) -> None:
        full = "The batch scheduling queue to which this task was submitted is full"
        if self._parameters is None:
            if self._waiting >= _UNBATCHED_WAITING:
                raise StatusError(Code.UNAVAILABLE, full)
            return
        allowed, batch_size = self._parameters.max_enqueued_batches, self._parameters.execution_size
        capacity = allowed * batch_size - self._waiting
        if size <= capacity:
            return
        batches = max(1, math.ceil(self._waiting / batch_size))
        if not self._parameters.enable_large_batch_splitting:
            raise StatusError(
                Code.UNAVAILABLE,
                f"{full}; currently {batches} batches enqueued and max_enqueued_batches is "
                f"{allowed}",
            )
        raise StatusError(
            Code.UNAVAILABLE,
            f"{full}; task size is {size} but scheduling capacity is only {capacity} "
            f"(num_enqueued_batches={batches}, max_enqueued_batches={allowed}, "
            f"open_batch_size={self._waiting - (batches - 1) * batch_size}, "
            f"max_execution_batch_size={batch_size})",
        )

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._queue:
                    if self._stopped:
                        return
                    self._idle.wait()
                batch = self._take_batch()
                if self._queue:
                    self._idle.notify()  # a task wakes one thread, and may be work for several
            self._run(batch)

    def _take_batch(self) -> list[_Part]:
        """Takes the oldest task and what may run with it; called with the lock held."""
        if self._parameters is None:
            return [self._take(self._queue[0], 1)]
        room = self._parameters.execution_size
        batch = [self._take(self._queue[0], room)]
        room -= batch[0].size
        task = batch[0].progress.task
        key = task.batch_key()
        give_up = task.arrival + self._parameters.batch_timeout_micros / 1e6
        while True:
            room -= self._take_fitting(key, room, batch)
            remaining = give_up - time.monotonic()
            if room <= 0 or remaining <= 0 or self._stopped:
                return batch
            self._arrival.wait(remaining)

    def _take_fitting(self, key: Hashable, room: int, batch: list[_Part]) -> int:
        split = self._parameters is not None and self._parameters.enable_large_batch_splitting
        taken = 0
        for progress in list(self._queue):
            free = room - taken
            fits = progress.size - progress.taken <= free or (split and free > 0)
            if fits and progress.task.batch_key() == key:
                batch.append(self._take(progress, free))
                taken += batch[-1].size
        return taken

    def _take(self, progress: _Progress, room: int) -> _Part:
        """Takes rows out of the queue, all that are left of a task or as many as there is room."""
        start = progress.taken
        part = _Part(progress, start, min(progress.size, start + room))
        progress.running += 1
        self._remove(progress, part.size)
        return part

    def _remove(self, progress: _Progress, rows: int) -> None:
        progress.taken += rows
        self._waiting -= rows
        if progress.taken == progress.size:
            self._queue.remove(progress)

    def _run(self, batch: Sequence[_Part]) -> None:
        """Runs a batch; when it fails, each of its parts alone, so that one answers for itself."""
        live = []
        for part in batch:
            error = self._begin(part)
            if error:
                self._end(part, error)
            else:
                live.append(part)
        if not live:
            return
        try:
            answers: list[Outputs | StatusError] = [*self._run_together(live)]
        except Exception as error:
            if len(live) == 1:
                answers = [_status_of(error)]
            else:
                answers = [self._run_alone(part) for part in live]
        for part, answer in zip(live, answers, strict=True):
            self._end(part, answer)

    def _begin(self, part: _Part) -> StatusError | None:
        """Why a part is not to be run."""
        progress, task = part.progress, part.progress.task
        with self._lock:
            if not progress.begun:
                progress.begun = True
                task.result.set_running_or_notify_cancel()
        if task.result.cancelled():
            return StatusError(Code.CANCELLED, "Cancelled while waiting in the queue")
        now = time.monotonic()
        self._on_dequeue(now - task.arrival)
        if task.unwanted.is_set():
            return StatusError(Code.CANCELLED, "Cancelled while waiting in the queue")
        if task.deadline is not None and now >= task.deadline:
            return StatusError(
                Code.DEADLINE_EXCEEDED, "Deadline exceeded while waiting in the queue"
            )
        return progress.error

    def _end(self, part: _Part, answer: Outputs | StatusError) -> None:
        progress = part.progress
        with self._lock:
            progress.running -= 1
            if isinstance(answer, StatusError):
                progress.error = progress.error or answer
                if progress.taken < progress.size:  # no use for the rest
                    self._remove(progress, progress.size - progress.taken)
            else:
                progress.answers[part.start] = answer
            if progress.running or progress.taken < progress.size:
                return
        progress.conclude()

    def _run_alone(self, part: _Part) -> Outputs | StatusError:
        try:
            return self._run_together([part])[0]
        except Exception as error:
            return _status_of(error)

    def _run_together(self, parts: Sequence[_Part]) -> list[Outputs]:
        task = parts[0].progress.task
        inputs = _join([part.inputs for part in parts])
        outputs = task.servable.run(task.signature_name, inputs, task.outputs)
        if self._parameters is None:
            return [outputs]
        return _split(outputs, [part.size for part in parts])


def _batch_size(inputs: Inputs) -> int:
    """The common 0-th dimension, which batching cannot do without."""
    sizes: list[int] = []
    for _, array in sorted(inputs.items()):
        if not array.ndim:
            raise invalid_argument("Batching Run() input tensors must have at least one dimension")
        sizes.append(array.shape[0])
        if sizes[0] != sizes[-1]:
            raise invalid_argument(
                "Batching Run() input tensors must have equal 0th-dimension size"
            )
    if not sizes:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    return sizes[0]


def _join(arrays: Sequence[Inputs]) -> dict[str, np.ndarray]:
    """Rows of several requests, or of several batches of one, below one another."""
    if len(arrays) == 1:
        return dict(arrays[0])
    return {alias: np.concatenate([item[alias] for item in arrays]) for alias in arrays[0]}


def _split(outputs: Outputs, sizes: Sequence[int]) -> list[Outputs]:
    total = sum(sizes)
    for array in outputs.values():
        if not array.ndim:
            raise failed_precondition("Batched output tensor has 0 dimensions")
        if array.shape[0] != total:
            raise failed_precondition(
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
                "sizes of the input tensors"
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
