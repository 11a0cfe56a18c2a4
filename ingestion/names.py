"""Names of files as annotation files have them: where they lead, and which file they mean.

One place joins such a name to a folder, for all readers, so that no data set reads files of the
machine that are not its own.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".avif",
    ".heic", ".heif",  # set aside by what is said of them, not as captions of nothing
)  # fmt: skip

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FETCHED_URL = re.compile(r"https?://", re.IGNORECASE)
_SHOWN = 3  # files that an ambiguous name is told to match


class RefusedNameError(ValueError):
    """A name that must not be read; the message says why."""


def path_inside(folder: str, name: str) -> str:
    """Joins the name of a file to a folder of the data set.

    Args:
      folder: Relative to the data set's folder, which "" is.
      name: As an annotation file has it.

    Returns:
      Path relative to the data set's folder, without `.` and `..`.

    Raises:
      RefusedNameError: The name leads out of the data set, or can be no file's name.

    >>> path_inside("Images", "part0/1.jpg")
    'Images/part0/1.jpg'
    >>> path_inside("Images", "../../secret.jpg")
    Traceback (most recent call last):
    tfx_captioner.ingestion.names.RefusedNameError: the path leads out of the data set
    """
    if printable(name) != name:
        raise RefusedNameError("the name is not UTF-8")
    if "\0" in name:
        raise RefusedNameError("the name holds a NUL")
    joined = posixpath.join(folder, name)
    if _URL.match(name) or _URL.match(folder):
        raise RefusedNameError("the name is a URL; only tables may have them, of http and https")
    if posixpath.isabs(joined):
        raise RefusedNameError("the path is absolute; it has to be relative to the data set")
    path = posixpath.normpath(joined)
    if path == ".." or path.startswith("../"):
        raise RefusedNameError("the path leads out of the data set")
    return "" if path == "." else path


def is_url(name: str) -> bool:
    """Whether a name is a URL that can be fetched.

    >>> is_url("https://example.com/1.jpg"), is_url("file:///etc/passwd")
    (True, False)
    """
    return _FETCHED_URL.match(name) is not None


def printable(text: str) -> str:
    r"""The text, with escapes for what UTF-8 cannot write: half surrogate pairs, foreign bytes.

    >>> printable("caf\udce9.jpg")
    'caf\\xe9.jpg'
    """
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "backslashreplace")
    return data.decode("utf-8", "backslashreplace")


def is_image_name(name: str) -> bool:
    """Whether a name ends as those of pictures do."""
    return name.lower().endswith(IMAGE_SUFFIXES)


@dataclass
class Matches:
    """Files that were meant by names that no file has exactly.

    Attributes:
      paths: File that is meant, by image id.
      differences: What the name differs in, by image id.
      problems: Why no file was taken although some would match, by image id.
    """

    paths: dict[str, str] = field(default_factory=dict)
    differences: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


class FileIndex:
    """Finds files by names that differ from theirs in spelling only."""

    def __init__(self, paths: Iterable[str], folders: Collection[str], source_name: str) -> None:
        """Indexes the files of a data set.

        Args:
          paths: Files, relative to the data set's folder.
          folders: Its folders of images, likewise.
          source_name: Name of the data set's folder.
        """
        self._folders = sorted(folders, key=len, reverse=True)
        parts = {part for folder in folders for part in folder.split("/")} | {source_name}
        self._folder_names = {_folded(part) for part in parts}
        self._by_path: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_name_stem: dict[str, list[str]] = defaultdict(list)
        for path in paths:
            key, name = _folded(path), _folded(posixpath.basename(path))
            self._by_path[key].append(path)
            self._by_name[name].append(path)
            if is_image_name(path):
                self._by_stem[posixpath.splitext(key)[0]].append(path)
                self._by_name_stem[posixpath.splitext(name)[0]].append(path)

    def find(self, path: str) -> tuple[list[str], str]:
        """Files that a name means, and what it differs in from the first of them.

        Differences in backslashes, a leading folder that is said twice, Unicode normalisation,
        case, a missing suffix, or a missing subfolder are overlooked.
        """
        differences = ["backslashes"] if "\\" in path else []
        folder, name = self._split(path.replace("\\", "/"))
        shorter = self._without_leading_folders(name)
        if shorter != name:
            differences.append("leading folder")
        wanted = posixpath.join(folder, shorter)
        lacks_suffix = not is_image_name(wanted)
        tries = [(self._by_path, wanted, False, ""), (self._by_stem, wanted, False, "suffix")]
        if "/" not in shorter:
            tries += [
                (self._by_name, shorter, True, "subfolder"),
                (self._by_name_stem, shorter, True, "subfolder and suffix"),
            ]
        for index, text, by_name, missing in tries:
            if "suffix" in missing and not lacks_suffix:
                continue
            found = index.get(_folded(text), [])
            if by_name and folder:  # the same name in a folder of another split is another picture
                found = [hit for hit in found if hit.startswith(f"{folder}/")]
            if not found:
                continue
            spelt = {hit: _spelt(hit, by_name, "suffix" in missing) for hit in found}
            found = [hit for hit in found if _normal(spelt[hit]) == _normal(text)] or found
            differences += _spelling(text, spelt[found[0]])
            differences += [f"missing {missing}"] if missing else []
            return found, ", ".join(differences)
        return [], ""

    def _split(self, path: str) -> tuple[str, str]:
        """The folder of images a path begins with, and the rest."""
        for folder in self._folders:
            if folder and path.startswith(f"{folder}/"):
                return folder, path[len(folder) + 1 :]
        return "", path

    def _without_leading_folders(self, name: str) -> str:
        *parents, last = name.split("/")
        while parents and _folded(parents[0]) in self._folder_names:
            parents.pop(0)
        return "/".join([*parents, last])


def match_files(
    wanted: Mapping[str, str], paths: Collection[str], folders: Collection[str], source_name: str
) -> Matches:
    """Finds the files that images mean whose names no file has exactly.

    A file is taken where exactly one would match and no other image has it.

    Args:
      wanted: Path of each image's file as the annotations have it, by image id.
      paths: Files that are there.
      folders: Folders of images.
      source_name: Name of the data set's folder.
    """
    matches = Matches()
    missing = {image: path for image, path in wanted.items() if path not in paths}
    if not missing:
        return matches
    owners: dict[str, list[str]] = defaultdict(list)
    for image, path in wanted.items():
        if image not in missing:
            owners[path].append(image)
    index = FileIndex(paths, folders, source_name)
    for image, path in missing.items():
        found, difference = index.find(path)
        if len(found) == 1:
            matches.paths[image] = found[0]
            matches.differences[image] = difference
            owners[found[0]].append(image)
        elif found:
            matches.problems[image] = f"would match {_some(found)}, so none was taken"
    for image, path in list(matches.paths.items()):
        others = [other for other in owners[path] if other != image]
        if others:
            del matches.paths[image], matches.differences[image]
            matches.problems[image] = f"would match {path}, which {_some(others)} matches too"
    return matches


def _some(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _folded(text: str) -> str:
    return _normal(_normal(text).casefold())


def _spelt(path: str, by_name: bool, without_suffix: bool) -> str:
    """The part of a path that a name was compared with."""
    text = posixpath.basename(path) if by_name else path
    return posixpath.splitext(text)[0] if without_suffix else text


def _spelling(wanted: str, found: str) -> list[str]:
    """What two names differ in that mean the same file."""
    if wanted == found:
        return []
    if _normal(wanted) == _normal(found):
        return ["Unicode normalisation"]
    if wanted.casefold() == found.casefold():
        return ["case"]
    return ["Unicode normalisation", "case"]
