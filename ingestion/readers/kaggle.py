"""Flickr8k and Flickr30k as they are on Kaggle: one table of captions, no splits."""

from __future__ import annotations

from collections.abc import Mapping

from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.readers import flickr8k
from tfx_captioner.ingestion.readers.base import Reader, find, find_image_folder, split_by_hash
from tfx_captioner.ingestion.readers.text import (
    add_captions,
    csv_fields,
    csv_records,
    first_line,
    lines_of,
    shown,
)

_HEADER = ["image", "caption"]


class Flickr8kKaggleReader(Reader):
    """`captions.txt`, a CSV file with the header `image,caption`."""

    name = "flickr8k_kaggle"
    has_splits = False
    looked_for = "captions.txt with the header `image,caption`"

    def recognises(self, source: str, columns: Mapping[str, str] | None = None) -> bool:
        """Whether there is a captions.txt with the right header."""
        return is_kaggle_header(first_line(source, "captions.txt"))

    def near_miss(self, source: str) -> str:
        """The header of a captions.txt that is another one."""
        header = first_line(source, "captions.txt")
        return f"captions.txt begins with {shown(header)}" if header else ""

    def read(self, source: str, config: IngestConfig) -> Annotations:
        """Reads the captions; splits from Flickr8k's split files if they are there."""
        if not self.recognises(source):
            raise IngestError(self.refusal(source))
        found = Annotations(config.max_caption_words, files=["captions.txt"])
        found.image_folders = [find_image_folder(source, flickr8k.IMAGE_FOLDERS)]
        records = csv_records(lines_of(source, "captions.txt")[1:])
        add_captions(found, records, parse_csv_line)
        splits = flickr8k.find_split_files(source)
        if splits:
            found.files += splits.values()
            flickr8k.read_splits(source, splits, found)
        else:
            split_by_hash(found, config, found.image_folders[0])
        return found


class Flickr30kKaggleReader(Reader):
    """`results.csv`, whose separator is a bar and a space."""

    name = "flickr30k_kaggle"
    has_splits = False
    looked_for = "results.csv with the header `image_name| comment_number| comment`"

    _TABLES = ("results.csv", "flickr30k_images/results.csv")
    _IMAGE_FOLDERS = (
        "flickr30k_images/flickr30k_images",
        "flickr30k_images",
        "flickr30k-images",
        "Images",
        "images",
    )

    def recognises(self, source: str, columns: Mapping[str, str] | None = None) -> bool:
        """Whether there is a results.csv with the right header."""
        return self._find_table(source) is not None

    def near_miss(self, source: str) -> str:
        """The header of a results.csv that is another one."""
        table = find(source, self._TABLES)
        return f"{table} begins with {shown(first_line(source, table))}" if table else ""

    def read(self, source: str, config: IngestConfig) -> Annotations:
        """Reads the captions and splits by hash."""
        table = self._find_table(source)
        if table is None:
            raise IngestError(self.refusal(source))
        found = Annotations(config.max_caption_words, files=[table])
        found.image_folders = [find_image_folder(source, self._IMAGE_FOLDERS)]
        add_captions(found, lines_of(source, table)[1:], parse_bar_line)
        split_by_hash(found, config, found.image_folders[0])
        return found

    def _find_table(self, source: str) -> str | None:
        table = find(source, self._TABLES)
        if table is None or not is_bar_header(first_line(source, table)):
            return None
        return table


def is_kaggle_header(line: str) -> bool:
    """Whether a first line is that of Flickr8k's table."""
    try:
        return [field.strip().lower() for field in csv_fields(line)] == _HEADER
    except ValueError:
        return False


def is_bar_header(line: str) -> bool:
    """Whether a first line is that of Flickr30k's table."""
    return line.lower().startswith("image_name|")


def parse_csv_line(line: str) -> tuple[str, int, str]:
    """Takes a record of captions.txt apart.

    A caption that has commas but no quotes is taken as it stands, since no image name has a comma.

    Returns:
      Image file, 0 since this form numbers no captions, caption.

    Raises:
      ValueError: The line is of another form; says what is missing.
    """
    if line.lstrip().startswith('"'):
        fields = csv_fields(line.strip())
        if len(fields) != len(_HEADER):
            raise ValueError(f"{len(fields)} columns, not {len(_HEADER)}")
        image, text = fields
    else:
        image, comma, text = line.partition(",")
        if not comma:
            raise ValueError("no comma between image and caption")
        if text.lstrip().startswith('"'):
            fields = csv_fields(text.strip())
            if len(fields) != 1:
                raise ValueError("more than two columns")
            text = fields[0]
    if not image.strip():
        raise ValueError("no image before the comma")
    return image.strip(), 0, text


def parse_bar_line(line: str) -> tuple[str, int, str]:
    """Takes `1000092795.jpg| 0| Two young guys with shaggy hair .` apart.

    Returns:
      Image file, number of the caption, caption.

    Raises:
      ValueError: The line is of another form, as one of Flickr30k's really is.
    """
    fields = [field.strip() for field in line.split("|", 2)]
    if len(fields) != 3 or not fields[0]:
        raise ValueError("fewer than three columns")
    if not fields[1].isdecimal():
        raise ValueError("no number in the second column")
    return fields[0], int(fields[1]), fields[2]
