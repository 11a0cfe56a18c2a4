"""Becomes a program that is told to end when its parent dies, however that dies. Linux only.

    python die_with_parent.py PARENT_PID PROGRAM ARGUMENT...

A script of its own, and no `preexec_fn`: that is not safe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(parent: int, argv: list[str]) -> None:
    """Replaces this process.

    Args:
      parent: Process id of the parent.
      argv: Program and its arguments.

    Raises:
      OSError: The kernel refuses, or there is no such program.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(f"the parent, process {parent}, died before {argv[0]} was started")
    # Python ignores these two, and a program inherits what is ignored.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
