"""File access on any file system TensorFlow knows, local or remote."""

from __future__ import annotations

import os
import posixpath
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import tensorflow as tf

join = posixpath.join

# A listing on an object store is one request per file.
_LISTING_THREADS = 16


@dataclass(frozen=True)
class FileStamp:
    """What can be known of a file without reading it.

    Attributes:
      size: In bytes.
      modified: Time of the last change, in nanoseconds.
    """

    size: int
    modified: int


def absolute(path: str | os.PathLike[str]) -> str:
    """The path as a worker with another working folder understands it."""
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)


def exists(path: str) -> bool:
    """Whether there is a file or folder of this name."""
    return tf.io.gfile.exists(path)


def is_folder(path: str) -> bool:
    """Whether there is a folder of this name."""
    return tf.io.gfile.isdir(path)


def names_in(folder: str) -> list[str]:
    """Sorted names of all files and folders in a folder; none where there is no such folder."""
    if not is_folder(folder):
        return []
    return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))


def stamps_in(folder: str) -> dict[str, FileStamp]:
    """Files of a folder, folders left out, by name in sorted order."""

    def stamp(name: str) -> FileStamp | None:
        status = tf.io.gfile.stat(join(folder, name))
        return None if status.is_directory else FileStamp(status.length, status.mtime_nsec)

    names = names_in(folder)
    with ThreadPoolExecutor(_LISTING_THREADS) as pool:
        return {
            name: found
            for name, found in zip(names, pool.map(stamp, names), strict=True)
            if found is not None
        }


def read_bytes(path: str) -> bytes:
    """The whole content of a file."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def read_text(path: str) -> str:
    """The whole content of a UTF-8 file."""
    return read_bytes(path).decode("utf-8")


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 file."""
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(text.encode("utf-8"))
