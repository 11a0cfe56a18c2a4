"""One writer of a folder at a time, on one machine or on several that share the folder."""

from __future__ import annotations

import _thread
import contextlib
import functools
import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import filelock
import psutil

# How long an owner on another host, which cannot be asked whether it lives, may show no sign of
# life. Long enough for a machine that swaps, and for a share that hangs for a while.
LEASE_SECONDS = 60.0


class LockedError(Exception):
    """Somebody else holds the lock, or took it over; the message says who, and what to do."""


@contextlib.contextmanager
def locked(path: Path, what: str, lease_seconds: float = LEASE_SECONDS) -> Iterator[None]:
    """Holds a lock for the time of a `with` block.

    The lock is a file that only one process can create, so it holds wherever the folder is mounted,
    whether or not the file system knows locks. It names its owner. An owner that died is succeeded
    at once on its own host; on another one, when its lease has run out: an owner renews it as long
    as it lives, and who waits watches that by a clock of its own. An owner that finds its lock
    taken over ends its block.

    >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder, "run.lock"), "the run"):
    ...     pass

    Args:
      path: The lock file; its folder is made where there is none.
      what: What the lock is for, as the error calls it.
      lease_seconds: Life of a lease; all who share a lock must agree on it.

    Raises:
      LockedError: Somebody else holds it, or has taken it over.
      OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lost: list[filelock.LeaseCompromise] = []

    def give_up(compromise: filelock.LeaseCompromise) -> None:
        lost.append(compromise)
        _thread.interrupt_main()

    lock = filelock.SoftFileLease(path, lease_duration=lease_seconds, on_compromise=give_up)
    _acquire(lock, path, what, lease_seconds)
    try:
        yield
    except KeyboardInterrupt:
        if not lost:
            raise
        raise LockedError(
            f"{what} is no longer this process's: {path} was taken over or removed, or could not "
            f"be renewed ({lost[0].reason})."
        ) from None
    finally:
        lock.release()


def _acquire(lock: filelock.SoftFileLease, path: Path, what: str, lease_seconds: float) -> None:
    seen = _renewal(path)
    while True:
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(timeout=0)
            return
        owner = lock.owner
        # An owner on this host would have been found dead. One elsewhere lives if it renews.
        renewed = seen is not None and _renewal(path) not in (seen, None)
        if owner is not None and (owner.hostname == _host() or renewed):
            raise LockedError(
                f"{what} is held by {_describe(owner)}. Wait for its end, or stop it. "
                f"The lock is {path}."
            )
        seen = _renewal(path) if owner is None or seen is None else seen
        time.sleep(min(1.0, lease_seconds / 10))


def _describe(owner: filelock.OwnerRecord) -> str:
    if owner.hostname != _host():
        return f"process {owner.pid} on {owner.hostname}"
    try:
        process = psutil.Process(owner.pid)
        began = process.create_time()
        command = shlex.join(process.cmdline())
    except psutil.Error:  # it ended meanwhile
        return f"process {owner.pid}"
    return (
        f"process {owner.pid} (`{command}`), since {datetime.fromtimestamp(began):%F %T}, for "
        f"{(time.time() - began) / 60:.0f} min"
    )


@functools.cache
def _host() -> str:
    """This host as the library calls it: its name, and the namespace of its process ids."""
    with tempfile.TemporaryDirectory() as folder:
        lock = filelock.SoftFileLease(Path(folder, "lock"))
        with lock:
            owner = lock.owner
    assert owner is not None
    return owner.hostname


def _renewal(path: Path) -> tuple[int, int] | None:
    """What changes when the owner renews the lock; None where there is no lock."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino
