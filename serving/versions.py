"""Versions of a pushed model, `<base>/<version>/`, and which of them are whole.

A version is whole when its `saved_model.pb` is there and, where it has a manifest, each file of the
manifest in its size. The Pusher writes the manifest (`assets.extra/pushed.json`, which TF Serving
ignores) and after it the graph, last of all. A version that others put there has none: then the
graph alone is the mark, as it is for TF Serving.

Paths are local ones, or URIs that TensorFlow opens.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

GRAPH = "saved_model.pb"
MANIFEST = "assets.extra/pushed.json"
# Larger ones are no versions to TF Serving.
_MAX_VERSION = 2**63 - 1
_CHUNK = 1 << 20


class FileContent(NamedTuple):
    """Size in bytes and SHA-256 of a file."""

    size: int
    sha256: str


Content: TypeAlias = dict[str, FileContent]  # by path within the version, with slashes


def is_uri(path: str) -> bool:
    """Whether a path names something in a store that only TensorFlow opens."""
    return "://" in path


def numbered(base: str) -> dict[int, str]:
    """Everything below a base folder that has the name of a version, whole or not.

    Args:
      base: Folder of one model; need not exist.

    Returns:
      Paths by version. Leading zeros are allowed, as by TF Serving.
    """
    names = (name.strip("/") for name in _list(base))
    return {
        int(name): posixpath.join(base, name)
        for name in names
        if name.isascii() and name.isdigit() and int(name) <= _MAX_VERSION
    }


def whole_versions(base: str) -> dict[int, str]:
    """The whole versions below a base folder: paths by version, oldest first."""
    found = numbered(base)
    return {version: found[version] for version in sorted(found) if is_whole(found[version])}


def is_whole(folder: str) -> bool:
    """Whether a folder holds a whole SavedModel, as far as names and sizes tell."""
    if _size(posixpath.join(folder, GRAPH)) is None:
        return False
    if not has_manifest(folder):
        return True
    try:
        content = read_manifest(folder)
    except ValueError:
        return False
    return all(_size(posixpath.join(folder, name)) == file.size for name, file in content.items())


def has_manifest(folder: str) -> bool:
    """Whether a version tells what is in it."""
    return _size(posixpath.join(folder, MANIFEST)) is not None


def read_manifest(folder: str) -> Content:
    """What the Pusher put into a version.

    Raises:
      ValueError: The manifest is missing, or is none.
    """
    path = posixpath.join(folder, MANIFEST)
    try:
        with _opened(path) as file:
            files = json.loads(file.read())["files"]
        return {name: FileContent(int(size), str(sha256)) for name, (size, sha256) in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no manifest of a version: {error!r}") from error


def manifest_text(content: Content) -> str:
    """The manifest of a content."""
    return json.dumps({"files": content}, indent=1, sort_keys=True)


def content_of(folder: str) -> Content:
    """Reads every file of a SavedModel; a manifest is not counted in.

    Args:
      folder: Folder of the SavedModel.

    Raises:
      OSError: A file cannot be read.
    """
    return {name: read_content(posixpath.join(folder, name)) for name in _walk(folder)}


def read_content(path: str) -> FileContent:
    """Reads one file.

    Raises:
      OSError: It cannot be read.
    """
    size, digest = 0, hashlib.sha256()
    with _opened(path) as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            digest.update(chunk)
    return FileContent(size, digest.hexdigest())


def digest_of(content: Content) -> str:
    """One SHA-256 of the names and contents of all files."""
    return hashlib.sha256(manifest_text(content).encode()).hexdigest()


def damage(folder: str, content: Mapping[str, FileContent] | None = None) -> list[str]:
    """What in a folder is not as it should be, in words; nothing is good news.

    Args:
      folder: Folder of a version.
      content: What should be in it; by default what its manifest says, if it has one.
    """
    if content is None:
        if not has_manifest(folder):
            return []
        try:
            content = read_manifest(folder)
        except ValueError as error:
            return [str(error)]
    problems = []
    for name, wanted in sorted(content.items()):
        path = posixpath.join(folder, name)
        try:
            found = read_content(path)
        except OSError as error:
            problems.append(f"{path} cannot be read: {error}")
            continue
        if found != wanted:
            problems.append(
                f"{path} must have {wanted.size} bytes with SHA-256 {wanted.sha256}. "
                f"Received: {found.size} bytes with SHA-256 {found.sha256}"
            )
    return problems


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """A file to read bytes from; whatever goes wrong is an OSError."""
    if not is_uri(path):
        with open(path, "rb") as file:
            yield file
        return
    import tensorflow as tf  # for stores alone: `captioner serve` and others start without it

    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            yield file
    except tf.errors.OpError as error:
        raise OSError(error.message) from error


def _list(folder: str) -> list[str]:
    """Names in a folder; none where it does not exist."""
    if not is_uri(folder):
        try:
            return os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
    import tensorflow as tf

    return tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []


def _size(path: str) -> int | None:
    """Size of a file in bytes, None where there is none."""
    if not is_uri(path):
        return os.stat(path).st_size if os.path.isfile(path) else None
    import tensorflow as tf

    if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
        return None
    return tf.io.gfile.stat(path).length


def _walk(folder: str) -> list[str]:
    """All files below a folder, by their path in it; a manifest is left out."""
    if is_uri(folder):
        import tensorflow as tf

        walked = tf.io.gfile.walk(folder)
    else:
        walked = os.walk(folder)
    names = []
    for where, _, files in walked:
        inside = where.rstrip("/")[len(folder.rstrip("/")) :].strip("/")
        names += [posixpath.join(inside, name) for name in files]
    return sorted(name for name in names if name != MANIFEST)
