"""How a version comes to where servers look for it: whole, or not at all.

On file systems it is copied aside, to a name that is no version, and gets its number by one rename.
Buckets have no such rename: there it is copied to where it belongs, and `saved_model.pb`, without
which nothing is a version, comes last of all, when the rest has been read back and found right.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import posixpath
import time
from collections.abc import Iterator

from tfx.dsl.io import fileio

from tfx_captioner.serving import versions

LOG = logging.getLogger("captioner.pusher")

ASIDE = ".pushing-"  # and the version's number
_LOCK = ".push.lock"
# Where it cannot be known whether somebody still is at it: a push that began so long ago is dead.
_DEAD_SECONDS = 24 * 60 * 60
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def publish(source: str, content: versions.Content, base: str) -> tuple[int, str]:
    """Makes a SavedModel the newest version below a base folder.

    Versions are seconds since 1970, or the number after the highest there is. What killed pushes
    left is removed. Where the newest version is this very model, it stays as it is.

    Args:
      source: Folder of the SavedModel.
      content: What is in it.
      base: Folder of the versions; a local path or a URI.

    Returns:
      The version and its path.

    Raises:
      OSError: It cannot be written, or what was written is not what was to be.
    """
    fileio.makedirs(base)
    with _alone(base) as alone:
        _remove_leftovers(base, alone)
        newest = max(versions.whole_versions(base).items(), default=None)
        if newest and _is_the_same(newest[1], content):
            LOG.info("version %d is this model already", newest[0])
            return newest
        version, folder = _claim(base)
        path = posixpath.join(base, str(version))
        try:
            _write(source, content, folder)
            if folder != path:
                for where, _, names in os.walk(folder):
                    _sync(*(os.path.join(where, name) for name in names), where)
                os.rename(folder, path)
                _sync(base)
        except BaseException:
            _remove(folder)
            raise
    LOG.info("version %d: %s", version, path)
    return version, path


def _is_bucket(base: str) -> bool:
    """Whether a folder is not renamed at once; `/gcs` is where Vertex AI mounts buckets."""
    return versions.is_uri(base) or base.startswith("/gcs/")


@contextlib.contextmanager
def _alone(base: str) -> Iterator[bool]:
    """Waits until nobody else pushes here; whether it is known that nobody does.

    The lock is let go of by the operating system, however the process ends.
    """
    if _is_bucket(base):
        yield False
        return
    with open(posixpath.join(base, _LOCK), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            LOG.warning("waiting for another push to %s", base)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            yield False
            return
        yield True


def _remove_leftovers(base: str, alone: bool) -> None:
    """Removes what killed pushes left; the number says when each began."""
    if _is_bucket(base):
        leftovers = {
            version: path
            for version, path in versions.numbered(base).items()
            if not versions.is_whole(path)
        }
    else:
        leftovers = _asides(base)
    for began, path in leftovers.items():
        if alone or time.time() - began > _DEAD_SECONDS:
            LOG.warning("removing %s, which a push that was killed left", path)
            _remove(path)


def _asides(base: str) -> dict[int, str]:
    return {
        int(name.removeprefix(ASIDE)): posixpath.join(base, name)
        for name in os.listdir(base)
        if name.startswith(ASIDE) and name.removeprefix(ASIDE).isdecimal()
    }


def _is_the_same(path: str, content: versions.Content) -> bool:
    return versions.has_manifest(path) and (
        versions.read_manifest(path) == content and not versions.damage(path)
    )


def _claim(base: str) -> tuple[int, str]:
    """The next version, and the folder to write it to."""
    version = max([int(time.time()), *(number + 1 for number in versions.numbered(base))])
    if _is_bucket(base):
        return version, posixpath.join(base, str(version))
    while True:
        folder = posixpath.join(base, f"{ASIDE}{version}")
        try:
            os.mkdir(folder)  # of two who try it at one moment, one succeeds
        except FileExistsError:
            version += 1
        else:
            return version, folder


def _write(source: str, content: versions.Content, folder: str) -> None:
    """Copies a SavedModel, its graph last, and reads it back."""
    rest = {name: file for name, file in content.items() if name != versions.GRAPH}
    for name in rest:
        _copy(source, folder, name)
    manifest = posixpath.join(folder, versions.MANIFEST)
    fileio.makedirs(posixpath.dirname(manifest))
    with fileio.open(manifest, "w") as file:
        file.write(versions.manifest_text(content))
    if versions.read_manifest(folder) != content:
        raise OSError(f"{manifest} is not on disk what was written.")
    _check(folder, rest)
    _copy(source, folder, versions.GRAPH)
    _check(folder, {versions.GRAPH: content[versions.GRAPH]})


def _copy(source: str, folder: str, name: str) -> None:
    target = posixpath.join(folder, name)
    fileio.makedirs(posixpath.dirname(target))
    fileio.copy(posixpath.join(source, name), target)


def _check(folder: str, content: versions.Content) -> None:
    problems = versions.damage(folder, content)
    if problems:
        raise OSError(f"The model is not on disk what was validated. {'; '.join(problems)}.")


def _sync(*paths: str) -> None:
    """Has the disk keep what was written, before a name says that it is whole."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(folder: str) -> None:
    if fileio.exists(folder):
        fileio.rmtree(folder)
