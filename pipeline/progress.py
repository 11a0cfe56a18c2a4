"""What a person sees of a run: nodes and their progress on the screen, all else in a log file."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console

# Messages of TFX, before formatting: the launcher and the runner tell by them what goes on.
_NODE_STARTED = "Component %s is running."
_NODE_FINISHED = "Component %s is finished."
_NODE_CACHED = "A cached execution %d is used."
_SAMPLE_SECONDS = 0.2


@dataclass(frozen=True)
class NodeRun:
    """How one node went.

    Attributes:
      node: Node id.
      cached: Whether an earlier execution was used.
      seconds: Wall clock.
      peak_bytes: Largest resident memory of this process and its children while it ran.
    """

    node: str
    cached: bool
    seconds: float
    peak_bytes: int


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[Console]:
    """Sends all that this process and its libraries print to a file.

    TensorFlow, Beam and their C++ parts write to the file descriptors, not to `sys.stderr`, so
    these are redirected, and given back at the end.

    Args:
      log: File to append to.

    Yields:
      A console that still writes to the real standard output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {1: os.dup(1), 2: os.dup(2)}
    screen = os.fdopen(os.dup(kept[1]), "w", buffering=1, encoding="utf-8")
    with open(log, "a", encoding="utf-8") as sink:
        for number in kept:
            os.dup2(sink.fileno(), number)
        try:
            yield Console(file=screen, soft_wrap=True, highlight=False)
        finally:
            # Under a test's capture, sys.stdout may be no real file.
            # What is left of the log may find a full disk.
            with contextlib.suppress(io.UnsupportedOperation, OSError):
                sys.stdout.flush()
            for number, original in kept.items():
                os.dup2(original, number)
                os.close(original)
            screen.close()


class RunMonitor(logging.Handler):
    """Shows nodes as they start and end, and the project's own progress lines between.

    Attributes:
      finished: One entry per node that ended, in order.
      node: Id of the node that started last.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.finished: list[NodeRun] = []
        self._console = console
        self.node = ""
        self._cached = False
        self._started = 0.0
        self._peak = 0
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample_memory, daemon=True)

    @contextlib.contextmanager
    def watching(self) -> Iterator[RunMonitor]:
        """Listens to TFX's and the project's loggers for the time of a `with` block."""
        from absl import logging as absl_logging

        absl_logging.set_verbosity(absl_logging.INFO)
        ours = logging.getLogger("captioner")
        ours.setLevel(logging.INFO)
        loggers = [logging.getLogger("absl"), ours]
        for logger in loggers:
            logger.addHandler(self)
        self._sampler.start()
        try:
            yield self
        finally:
            self._stop.set()
            for logger in loggers:
                logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Turns a log record into a line on the screen, or leaves it to the log file."""
        arguments = record.args if isinstance(record.args, tuple) else ()
        if record.name.startswith("captioner"):
            self._console.print(f"    {record.getMessage()}", markup=False, style="dim")
        elif record.msg == _NODE_STARTED:
            self.node, self._cached = str(arguments[0]), False
            self._started, self._peak = time.monotonic(), 0
            self._console.print(f"▸ {self.node}", markup=False)
        elif record.msg == _NODE_CACHED:
            self._cached = True
        elif record.msg == _NODE_FINISHED:
            self._finish()

    def _finish(self) -> None:
        run = NodeRun(
            self.node,
            self._cached,
            round(time.monotonic() - self._started, 1),
            max(self._peak, _resident_bytes()),
        )
        self.finished.append(run)
        state = "cached" if run.cached else "done"
        self._console.print(
            f"  {state}, {run.seconds:.1f} s, peak {run.peak_bytes / 2**30:.2f} GiB", style="green"
        )

    def _sample_memory(self) -> None:
        while not self._stop.wait(_SAMPLE_SECONDS):
            self._peak = max(self._peak, _resident_bytes())


def _resident_bytes() -> int:
    """Resident memory of this process and its children."""
    process = psutil.Process()
    total = process.memory_info().rss
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended while being asked
            total += child.memory_info().rss
    return total
