"""Progress of a long loop, as log lines now and then."""

from __future__ import annotations

import logging
import time

_SECONDS_BETWEEN_LINES = 10.0


class ProgressLog:
    """Logs how far a loop is, at most every ten seconds, and at its end.

    Example:

    ```python
    progress = ProgressLog(LOG, "captions", "images")
    for batch in batches:
        ...
        progress.add(len(batch))
    progress.done()
    ```
    """

    def __init__(self, log: logging.Logger, what: str, unit: str) -> None:
        """Starts the clock.

        Args:
          log: Logger to write to.
          what: Name of the work, such as "captions".
          unit: Name of what is counted, such as "images".
        """
        self._log, self._what, self._unit = log, what, unit
        self._started = self._reported = time.monotonic()
        self._count = 0

    def add(self, count: int) -> None:
        """Counts what is finished."""
        self._count += count
        if time.monotonic() - self._reported >= _SECONDS_BETWEEN_LINES:
            self._reported = time.monotonic()
            self._report("")

    def done(self) -> None:
        """Logs the last line."""
        self._report(", done")

    def _report(self, suffix: str) -> None:
        rate = self._count / max(time.monotonic() - self._started, 1e-9)
        self._log.info("%s: %d %s, %.1f/s%s", self._what, self._count, self._unit, rate, suffix)
