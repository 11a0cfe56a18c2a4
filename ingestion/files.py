"""File access on any file system TensorFlow knows, local or remote."""

from __future__ import annotations

import os
import posixpath
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import tensorflow as tf

from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.names import is_image_name, printable

join = posixpath.join

# A listing on an object store is one request per file.
_LISTING_THREADS = 16

# What macOS puts into archives beside what was meant to be there.
_FOREIGN_FOLDERS = ("__MACOSX",)


@dataclass(frozen=True)
class FileStamp:
    """What can be known of a file without reading it.

    Attributes:
      size: In bytes.
      modified: Time of the last change, in nanoseconds.
    """

    size: int
    modified: int


@dataclass
class Listing:
    """What lies in a folder and the folders below it.

    Attributes:
      files: Files by path, relative to the folder.
      unusable: Why a file or folder cannot be read, by path: a dangling link, a name that is not
        UTF-8, a pipe, a folder that may not be entered.
    """

    files: dict[str, FileStamp] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)


def absolute(path: str | os.PathLike[str]) -> str:
    """The path as a worker with another working folder understands it.

    Raises:
      IngestError: It is no UTF-8, which TensorFlow's file systems need.
    """
    text = os.fspath(path)
    if printable(text) != text:
        raise IngestError(f"Names of folders must be UTF-8. Received: {printable(text)}.")
    return text if "://" in text else os.path.abspath(text)


def exists(path: str) -> bool:
    """Whether there is a file or folder of this name."""
    return tf.io.gfile.exists(path)


def is_folder(path: str) -> bool:
    """Whether there is a folder of this name."""
    return tf.io.gfile.isdir(path)


def names_in(folder: str) -> list[str]:
    """Sorted names of all files and folders in a folder; none where there is no such folder.

    Names that are not UTF-8 are left out; `list_files` tells of them.
    """
    if not is_folder(folder):
        return []
    return sorted(name for name in _names(folder) if printable(name) == name)


def folders_in(folder: str) -> list[str]:
    """Sorted names of the folders in a folder; hidden ones and names of pictures are left out."""
    names = [name for name in names_in(folder) if not (is_hidden(name) or is_image_name(name))]
    return [name for name in names if is_folder(join(folder, name))]


def list_files(folder: str) -> Listing:
    """Lists a folder and all below it, but hidden folders. Links are followed.

    No name ends a listing: what cannot be read is told in `Listing.unusable`.
    """
    listing = Listing()
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    with ThreadPoolExecutor(_LISTING_THREADS) as pool:
        while pending:
            relative, above = pending.pop()
            here = join(folder, relative) if relative else folder
            try:
                identity = _identity(here)
                names = sorted(_names(here))
            except (OSError, tf.errors.OpError) as error:
                listing.unusable[relative] = _why(error)
                continue
            if identity and identity in above:
                listing.unusable[relative] = "a link to a folder that it lies in"
                continue
            paths = []
            for path in (join(relative, name) for name in names):
                if printable(path) == path:
                    paths.append(path)
                else:
                    listing.unusable[printable(path)] = "the name is not UTF-8"
            below = above | {identity} if identity else above
            full = [join(folder, path) for path in paths]
            for path, status in zip(paths, pool.map(_status, full), strict=True):
                if isinstance(status, FileStamp):
                    listing.files[path] = status
                elif status is not None:
                    listing.unusable[path] = status
                elif not is_hidden(path):
                    pending.append((path, below))
    return listing


def is_hidden(path: str) -> bool:
    """Whether a file or folder is none that a person put there."""
    name = posixpath.basename(path)
    return name.startswith(".") or name in _FOREIGN_FOLDERS


def read_bytes(path: str) -> bytes:
    """The whole content of a file."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()


def read_range(path: str, offset: int, size: int) -> bytes:
    """Some bytes of a file, or fewer where it ends before."""
    with tf.io.gfile.GFile(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def stamp(path: str) -> FileStamp | None:
    """The stamp of a file; None where there is no file."""
    status = _status(path)
    return status if isinstance(status, FileStamp) else None


def read_text(path: str) -> str:
    """The whole content of a UTF-8 file."""
    return read_bytes(path).decode("utf-8")


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 file, whole or not at all."""
    partial = f"{path}.partial"
    with tf.io.gfile.GFile(partial, "wb") as file:
        file.write(text.encode("utf-8"))
    tf.io.gfile.rename(partial, path, overwrite=True)


def _is_remote(path: str) -> bool:
    return "://" in path


def _names(folder: str) -> list[str]:
    # TensorFlow's listing ends with an exception at the first name that is not UTF-8.
    if not _is_remote(folder):
        return os.listdir(folder)
    return [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]


def _identity(folder: str) -> tuple[int, int] | None:
    """What tells a folder from others, by whatever path it is reached; None on remote stores."""
    if _is_remote(folder):
        return None
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _status(path: str) -> FileStamp | str | None:
    """The stamp of a file, None for a folder, or why it can be neither read nor entered."""
    try:
        if _is_remote(path):
            remote = tf.io.gfile.stat(path)
            return None if remote.is_directory else FileStamp(remote.length, remote.mtime_nsec)
        local = os.stat(path)
    except (OSError, tf.errors.OpError) as error:
        return _why(error)
    if stat.S_ISDIR(local.st_mode):
        return None
    if stat.S_ISREG(local.st_mode):
        return FileStamp(local.st_size, local.st_mtime_ns)
    return "neither a file nor a folder"


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError | tf.errors.NotFoundError):
        return "a link to what is not there"
    return str(getattr(error, "strerror", None) or getattr(error, "message", None) or error)
