"""Progress of long loops, as log lines now and then.

Every room may use it. It is none of the rooms whose code is part of a node's fingerprint
(`pipeline.fingerprint`): what is logged changes no output.
"""

from __future__ import annotations

import logging
import time

_SECONDS_BETWEEN_LINES = 10.0


class Throttle:
    """Says when it is time for another line.

    >>> throttle = Throttle(seconds=3600)
    >>> throttle.is_due()
    False
    """

    def __init__(self, seconds: float = _SECONDS_BETWEEN_LINES) -> None:
        """Starts the clock.

        Args:
          seconds: Least seconds between two lines.
        """
        self._seconds = seconds
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether the time has passed since this was last true, or since the beginning."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


class ProgressLog:
    """Logs how far a loop is, now and then and at its end.

    Example:

    ```python
    progress = ProgressLog(LOG, "captions", "images")
    for batch in batches:
        ...
        progress.add(len(batch))
    progress.done()
    ```
    """

    def __init__(self, log: logging.Logger, what: str, unit: str, total: int | None = None) -> None:
        """Starts the clock.

        Args:
          log: Logger to write to.
          what: Name of the work, such as "captions".
          unit: Name of what is counted, such as "images".
          total: Count at the end; None where it is not known.
        """
        self._log, self._what, self._unit = log, what, unit
        self._of = "" if total is None else f"/{total}"
        self._started = time.monotonic()
        self._throttle = Throttle()
        self._count = 0

    def add(self, count: int) -> None:
        """Counts what is finished."""
        self._count += count
        if self._throttle.is_due():
            self._report("")

    def done(self) -> None:
        """Logs the last line."""
        self._report(", done")

    def _report(self, suffix: str) -> None:
        rate = self._count / max(time.monotonic() - self._started, 1e-9)
        self._log.info(
            "%s: %d%s %s, %.1f/s%s", self._what, self._count, self._of, self._unit, rate, suffix
        )
