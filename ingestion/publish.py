"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def published(out: Path) -> Iterator[Path]:
    """Gives a folder to fill, which takes the place of `out` when the block ends well.

    The folder lies beside `out`, so that the last step is a rename within one file system. A job
    that is killed leaves it behind under a fixed name, and the next one clears it away.

    Args:
      out: Folder to write; one that exists is replaced.

    Yields:
      The empty folder to write into.
    """
    partial = out.with_name(f".{out.name}.partial")
    _remove(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        _remove(partial)
        raise
    if out.exists():
        # A folder cannot be renamed over a full one, so the old one steps aside first.
        retired = out.with_name(f".{out.name}.retired")
        _remove(retired)
        os.rename(out, retired)
        os.rename(partial, out)
        _remove(retired)
    else:
        os.rename(partial, out)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
