"""What a reader finds in the annotation files of a data set."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from tfx_captioner.ingestion.errors import IngestError

SPLITS = ("train", "val", "test")


class Reason(str, enum.Enum):
    """Why something was set aside."""

    CAPTION_UNPARSABLE = "caption_unparsable"
    CAPTION_EMPTY = "caption_empty"
    IMAGE_MISSING = "image_missing"
    IMAGE_EMPTY = "image_empty"
    IMAGE_TRUNCATED = "image_truncated"
    IMAGE_UNREADABLE = "image_unreadable"
    IMAGE_TOO_LARGE = "image_too_large"
    IMAGE_TOO_SMALL = "image_too_small"
    IMAGE_WITHOUT_CAPTIONS = "image_without_captions"
    IMAGE_WITHOUT_SPLIT = "image_without_split"
    NO_IMAGE_NAME = "no_image_name"


@dataclass(frozen=True)
class Rejection:
    """One thing that was set aside.

    Attributes:
      reason: Why.
      what: The image id or caption line.
      where: File, and line where there is one, relative to the data set's folder.
      detail: What exactly was wrong with it.
    """

    reason: Reason
    what: str
    where: str
    detail: str = ""


@dataclass
class Annotations:
    """Captions, splits and places of images, as a reader collects them.

    Attributes:
      files: Annotation files that were read, relative to the data set's folder.
      image_folders: Folders that hold the images, likewise.
      split_rule: How images came to their splits, for people.
      captions: Captions of each image id, each with the number that orders them.
      splits: Split of each image id.
      paths: File of each image id, relative to the data set's folder.
      rejected: What was set aside.
      caption_lines: Caption lines seen, good or bad.
    """

    files: list[str] = field(default_factory=list)
    image_folders: list[str] = field(default_factory=list)
    split_rule: str = ""
    captions: dict[str, list[tuple[int, str]]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)
    caption_lines: int = 0

    def add_caption(self, image: str, number: int, text: str, where: str) -> None:
        """Keeps a caption, or sets it aside when there is no word in it."""
        self.caption_lines += 1
        kept = self.captions.setdefault(image, [])
        if any(character.isalnum() for character in text):
            kept.append((number, text.strip()))
        else:
            self.reject(Reason.CAPTION_EMPTY, image, where)

    def reject_line(self, line: str, where: str, detail: str) -> None:
        """Sets a caption line aside that cannot be understood."""
        self.caption_lines += 1
        self.reject(Reason.CAPTION_UNPARSABLE, line[:200], where, detail)

    def reject(self, reason: Reason, what: str, where: str, detail: str = "") -> None:
        """Sets something aside."""
        self.rejected.append(Rejection(reason, what, where, detail))

    def assign(self, image: str, split: str, where: str) -> None:
        """Puts an image into a split.

        Raises:
          IngestError: It is in another one already.
        """
        known = self.splits.setdefault(image, split)
        if known != split:
            raise IngestError(
                f"An image must be in one split only. {image} is in {known} and in {split} "
                f"({where})."
            )

    def ordered_captions(self, image: str) -> list[str]:
        """Captions of an image, in an order that does not depend on the order of the lines."""
        return [text for _, text in sorted(self.captions.get(image, []))]
