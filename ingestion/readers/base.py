"""What all readers share."""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError


class Reader(abc.ABC):
    """Reads data sets of one form.

    Attributes:
      name: Value of `--format` that forces this form.
      has_splits: Whether the form itself says which image is in which split.
      looked_for: What makes a folder be of this form, for people.
    """

    name: str
    has_splits: bool
    looked_for: str

    @abc.abstractmethod
    def recognises(self, source: str) -> bool:
        """Whether the files of a folder are of this form."""

    @abc.abstractmethod
    def read(self, source: str, config: IngestConfig) -> Annotations:
        """Reads captions and splits, but no image.

        Raises:
          IngestError: The files are of this form, but cannot be used.
        """


def find(source: str, candidates: Sequence[str]) -> str | None:
    """The first of several relative paths that exists."""
    return next((path for path in candidates if files.exists(files.join(source, path))), None)


def find_image_folder(source: str, candidates: Sequence[str]) -> str:
    """The first of several relative paths that is a folder.

    Raises:
      IngestError: There is none; lists what was looked for.
    """
    for candidate in candidates:
        if files.is_folder(files.join(source, candidate)):
            return candidate
    raise IngestError(f"No folder of images in {source}. Looked for: {', '.join(candidates)}.")


def lines_of(source: str, path: str) -> Iterator[tuple[str, str, str | None]]:
    """Lines of a text file that are not blank.

    Bytes are split before they are decoded, so that one bad line costs one line, and so that only
    line feeds and carriage returns end a line.

    Yields:
      Where the line stands (`path:number`), its text, and what is wrong with its encoding or None.
    """
    content = files.read_bytes(files.join(source, path)).removeprefix(b"\xef\xbb\xbf")
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield f"{path}:{number}", line.decode("utf-8"), None
        except UnicodeDecodeError as error:
            yield f"{path}:{number}", line.decode("utf-8", "replace"), f"no UTF-8: {error.reason}"


def add_captions(
    found: Annotations,
    lines: Iterable[tuple[str, str, str | None]],
    parse: Callable[[str], tuple[str, int, str]],
) -> None:
    """Keeps the captions of a text file, and sets the lines aside that cannot be parsed.

    Args:
      found: Where they go.
      lines: As `lines_of` yields them.
      parse: Image, number and text of a line; raises ValueError where it is of another form.
    """
    for where, line, problem in lines:
        try:
            if problem:
                raise ValueError(problem)
            image, number, text = parse(line)
        except ValueError as error:
            found.reject_line(line, where, str(error))
        else:
            found.add_caption(image, number, text, where)


def read_json(source: str, path: str) -> dict[str, Any]:
    """A JSON file that holds an object.

    Raises:
      IngestError: It does not.
    """
    try:
        content = json.loads(files.read_bytes(files.join(source, path)))
    except ValueError as error:
        raise IngestError(f"{path} is no valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise IngestError(f"{path} must hold an object. Received: {type(content).__name__}.")
    return content


def list_in(content: dict[str, Any], key: str, path: str) -> list[dict[str, Any]]:
    """A list of objects in a JSON file.

    Raises:
      IngestError: There is no list of objects under this key.
    """
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise IngestError(f"{path} must hold a list of objects under `{key}`.")
    return entries


def hashed_share(image: str) -> float:
    """A number in [0, 1) that depends on the image id alone, evenly spread."""
    return int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "big") / 2**64
