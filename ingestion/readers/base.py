"""What all readers share."""

from __future__ import annotations

import abc
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError

_SHOWN_NAMES = 12  # of a folder, in errors


class Reader(abc.ABC):
    """Reads data sets of one form.

    Attributes:
      name: Value of `--format` that forces this form.
      has_splits: Whether the form itself says which image is in which split.
      is_general: Whether the form is so general that files of any other form come first.
      looked_for: What makes a folder be of this form, for people.
    """

    name: str
    has_splits: bool
    is_general: bool = False
    looked_for: str

    @abc.abstractmethod
    def recognises(self, source: str, columns: Mapping[str, str] | None = None) -> bool:
        """Whether the files of a folder are of this form.

        Args:
          source: The folder.
          columns: `IngestConfig.columns`, for forms that are tables.
        """

    def near_miss(self, source: str) -> str:
        """What keeps a folder from being of this form that has some of its files; else empty."""
        return ""

    def refusal(self, source: str) -> str:
        """Error for a folder that is read as this form and is not of it."""
        near = self.near_miss(source)
        return (
            f"{source} is not of the form {self.name}: needs {self.looked_for}."
            f"{f' But {near}.' if near else ''}"
        )

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
    raise no_image_folder(source, candidates)


def no_image_folder(source: str, candidates: Sequence[str]) -> IngestError:
    """The error for a data set without a folder of images."""
    return IngestError(
        f"No folder of images in {source}. Looked for: {', '.join(candidates)}. It holds: "
        f"{holdings(source)}."
    )


def holdings(source: str) -> str:
    """The first names in a folder, for errors."""
    names = files.names_in(source)
    shown = ", ".join(names[:_SHOWN_NAMES]) or "nothing"
    more = len(names) - _SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def read_json(source: str, path: str) -> dict[str, Any]:
    """A JSON file that holds an object.

    Bytes that are not UTF-8 become half surrogate pairs, so that they cost the one caption or name
    they stand in.

    Raises:
      IngestError: It does not.
    """
    content = files.read_bytes(files.join(source, path))
    try:
        value = json.loads(content.decode(json.detect_encoding(content), "surrogateescape"))
    except ValueError as error:
        raise IngestError(f"{path} is no valid JSON: {error}") from error
    except RecursionError as error:
        raise IngestError(f"{path} is nested too deeply.") from error
    if not isinstance(value, dict):
        raise IngestError(f"{path} must hold an object. Received: {type(value).__name__}.")
    return value


def entries_in(
    content: dict[str, Any], key: str, path: str, found: Annotations
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where each object of a list in a JSON file stands, and the object.

    What is no object is set aside, unless nothing else is there.

    Raises:
      IngestError: There is no list of objects under this key.
    """
    entries = content.get(key)
    if not isinstance(entries, list) or (
        entries and not any(isinstance(entry, dict) for entry in entries)
    ):
        raise IngestError(f"{path} must hold a list of objects under `{key}`.")
    for number, entry in enumerate(entries):
        where = f"{path}:{key}[{number}]"
        if isinstance(entry, dict):
            yield where, entry
        else:
            found.reject_line(str(entry), where, "no object")


def split_by_hash(found: Annotations, config: IngestConfig, folder: str) -> None:
    """Assigns every captioned image by a hash of its id, so that additions move no other image.

    Args:
      found: Captions; ids are names of files.
      config: Shares of the splits.
      folder: Folder of the images.
    """
    for image in found.captions:
        found.add_image(image, hashed_split(image, config), folder, image, "hash of the image id")
    found.split_rule = hash_rule(config)


def hash_rule(config: IngestConfig) -> str:
    """How `hashed_split` splits, for people."""
    return f"by a hash of the image id: val {config.val_share:g}, test {config.test_share:g}"


def hashed_split(image: str, config: IngestConfig) -> str:
    """The split of an image by a hash of its id."""
    share = hashed_share(image)
    if share < config.test_share:
        return "test"
    return "val" if share < config.test_share + config.val_share else "train"


def hashed_share(image: str) -> float:
    """A number in [0, 1) that depends on the image id alone, evenly spread."""
    return int.from_bytes(hashlib.sha256(image.encode()).digest()[:8], "big") / 2**64
