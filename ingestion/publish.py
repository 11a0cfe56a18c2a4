"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import posixpath
import shutil
from types import TracebackType


class Staging:
    """A folder beside the final one, to be filled and then published in its place.

    As a context manager it clears away what was not published. A job that is killed leaves the
    folder behind under a fixed name, where the next one finds and clears it.

    Attributes:
      folder: The empty folder to write into.
    """

    def __init__(self, out: str) -> None:
        """Makes the staging folder of `out`, a local path or one with a scheme, like gs://."""
        self._out = out.rstrip("/")
        self.folder = self._beside("partial")

    def __enter__(self) -> Staging:
        _remove(self.folder)
        _make(self.folder)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _remove(self.folder)

    def publish(self, last: str) -> None:
        """Puts the folder in the place of the final one, which it replaces.

        Args:
          last: Name of the file that marks a complete folder. On an object store, where folders
            cannot be renamed, it is taken away first and put in place last.
        """
        if _is_remote(self._out):
            _move_files(self.folder, self._out, last)
        elif os.path.exists(self._out):
            # A folder cannot be renamed over a full one, so the old one steps aside first.
            retired = self._beside("retired")
            _remove(retired)
            os.rename(self._out, retired)
            os.rename(self.folder, self._out)
            _remove(retired)
        else:
            os.rename(self.folder, self._out)

    def _beside(self, suffix: str) -> str:
        parent, name = posixpath.split(self._out)
        return posixpath.join(parent, f".{name}.{suffix}")


def _is_remote(path: str) -> bool:
    return "://" in path


def _remove(folder: str) -> None:
    if not _is_remote(folder):
        if os.path.exists(folder):
            shutil.rmtree(folder)
        return
    from tensorflow.io import gfile

    if gfile.exists(folder):
        gfile.rmtree(folder)


def _make(folder: str) -> None:
    if not _is_remote(folder):
        os.makedirs(folder)
        return
    from tensorflow.io import gfile

    gfile.makedirs(folder)


def _move_files(source: str, target: str, last: str) -> None:
    from tensorflow.io import gfile

    _remove(target)
    files = [
        posixpath.join(folder, name)[len(source) + 1 :]
        for folder, _, names in gfile.walk(source)
        for name in names
    ]
    for file in sorted(files, key=lambda file: (file == last, file)):
        destination = posixpath.join(target, file)
        gfile.makedirs(posixpath.dirname(destination))
        gfile.rename(posixpath.join(source, file), destination, overwrite=True)
