"""What a reader finds in the annotation files of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tfx_captioner.ingestion.captions import UnusableCaptionError, clean_caption, same_words
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.names import RefusedNameError, is_url, path_inside, printable
from tfx_captioner.ingestion.reasons import Reason

SPLITS = ("train", "val", "test")

_LONGEST_QUOTE = 200  # characters of a bad line that a rejection repeats


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

    def __str__(self) -> str:
        detail = f", {self.detail}" if self.detail else ""
        return f"{self.reason.value}: {self.what} ({self.where}{detail})"


@dataclass(frozen=True)
class ArchiveMember:
    """A picture in an archive.

    Attributes:
      archive: Path of the archive, relative to the data set's folder.
      offset: First byte of the picture in it.
      size: Number of its bytes.
    """

    archive: str
    offset: int
    size: int


@dataclass
class Annotations:
    """Captions, splits and places of images, as a reader collects them.

    Attributes:
      max_caption_words: Captions of more words are set aside.
      files: Annotation files that were read, relative to the data set's folder.
      archives: Archives that hold images, likewise.
      image_folders: Folders that hold the images, likewise.
      split_rule: How images came to their splits, for people.
      captions: Captions of each image id, each with the number that orders them, by what they say.
      splits: Split of each image id.
      paths: File of each image id, relative to the data set's folder.
      members: Pictures in archives, by the path `ARCHIVE/NAME`.
      takes_urls: Whether images may have a URL in the place of a file; their path is the URL.
      refused: Image ids that cannot be used, whatever else is said of them; each is in `rejected`.
      refused_paths: Files that the entries of refused images name, likewise.
      rejected: What was set aside.
      mended: Number of captions that were mended, by what was wrong with them.
      caption_lines: Caption lines seen, good or bad.
    """

    max_caption_words: int
    files: list[str] = field(default_factory=list)
    archives: list[str] = field(default_factory=list)
    image_folders: list[str] = field(default_factory=list)
    split_rule: str = ""
    captions: dict[str, dict[str, tuple[int, str]]] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    members: dict[str, ArchiveMember] = field(default_factory=dict)
    takes_urls: bool = False
    refused: set[str] = field(default_factory=set)
    refused_paths: set[str] = field(default_factory=set)
    rejected: list[Rejection] = field(default_factory=list)
    mended: Counter[str] = field(default_factory=Counter)
    caption_lines: int = 0

    def add_image(self, image: str, split: str | None, folder: str, name: str, where: str) -> None:
        """Notes the split and the file of an image.

        An image whose file would lie outside of the data set is set aside, and so are all images
        of an id that more than one file has, since nobody can tell whose the captions are.

        Args:
          image: Image id.
          split: Its split; None where it has none.
          folder: Folder that its file's name is relative to, relative to the data set's folder.
          name: Name of its file, as the annotation file has it.
          where: Where it is said.

        Raises:
          IngestError: It is in another split already.
        """
        identifier = printable(image)
        if split is not None:
            known = self.splits.setdefault(identifier, split)
            if known != split:
                raise IngestError(
                    f"An image must be in one split only. {identifier} is in {known} and in "
                    f"{split} ({where})."
                )
        try:
            path = name if self.takes_urls and is_url(name) else path_inside(folder, name)
            if identifier != image:
                raise RefusedNameError("the id is not UTF-8")
        except RefusedNameError as error:
            self.refuse(Reason.NAME_REFUSED, identifier, where, str(error))
            return
        earlier = self.paths.setdefault(identifier, path)
        if earlier != path:
            self.refuse_ambiguous(identifier, path, where, f"{earlier} and {path} have this id")

    def refuse_ambiguous(self, image: str, path: str, where: str, detail: str) -> None:
        """Sets aside an image whose id another one has, and that other one."""
        if image not in self.refused:
            self.refuse(Reason.IMAGE_ID_AMBIGUOUS, image, self.paths[image], detail)
        self.refuse(Reason.IMAGE_ID_AMBIGUOUS, image, where, detail)
        self.refused_paths |= {self.paths[image], path}

    def refuse(self, reason: Reason, image: str, where: str, detail: str) -> None:
        """Sets an image aside for good."""
        self.refused.add(image)
        self.reject(reason, image, where, detail)

    def add_caption(self, image: str, number: int, text: str, where: str) -> None:
        """Keeps a caption, mended where that is possible, or sets it aside."""
        self.caption_lines += 1
        image = printable(image)
        kept = self.captions.setdefault(image, {})
        try:
            caption, mended = clean_caption(text, max_words=self.max_caption_words)
        except UnusableCaptionError as error:
            self.reject(error.reason, image, where, error.detail)
            return
        words = same_words(caption)
        if words in kept:
            kept[words] = min(kept[words], (number, caption))
            self.reject(Reason.CAPTION_REPEATED, image, where, caption[:_LONGEST_QUOTE])
            return
        kept[words] = number, caption
        self.mended.update(mended)

    def reject_line(self, line: str, where: str, detail: str) -> None:
        """Sets a caption line aside that cannot be understood."""
        self.caption_lines += 1
        self.reject(Reason.CAPTION_UNPARSABLE, line[:_LONGEST_QUOTE], where, detail)

    def reject(self, reason: Reason, what: str, where: str, detail: str = "") -> None:
        """Sets something aside."""
        self.rejected.append(
            Rejection(reason, printable(what), printable(where), printable(detail))
        )

    def ordered_captions(self, image: str) -> list[str]:
        """Captions of an image, in an order that does not depend on the order of the lines."""
        return [text for _, text in sorted(self.captions.get(image, {}).values())]


def examples(rejected: Iterable[Rejection], per_reason: int) -> str:
    """The first few things of each reason that were set aside, a line each."""
    shown: dict[Reason, list[str]] = {}
    for rejection in rejected:
        lines = shown.setdefault(rejection.reason, [])
        if len(lines) < per_reason:
            lines.append(f"\n  {rejection}")
    return "".join(line for _, lines in sorted(shown.items()) for line in lines)
