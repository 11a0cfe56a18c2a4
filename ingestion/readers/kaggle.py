"""Flickr8k and Flickr30k as they are on Kaggle: one table of captions, no splits."""

from __future__ import annotations

import csv

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.readers import flickr8k
from tfx_captioner.ingestion.readers.base import (
    Reader,
    add_captions,
    find,
    find_image_folder,
    hashed_share,
    lines_of,
)


class Flickr8kKaggleReader(Reader):
    """`captions.txt`, a CSV file with the header `image,caption`."""

    name = "flickr8k_kaggle"
    has_splits = False
    looked_for = "captions.txt with the header `image,caption`"

    def recognises(self, source: str) -> bool:
        """Whether there is a captions.txt with the right header."""
        return _first_line(source, "captions.txt").replace(" ", "") == "image,caption"

    def read(self, source: str, config: IngestConfig) -> Annotations:
        """Reads the captions; splits from Flickr8k's split files if they are there."""
        if not self.recognises(source):
            raise IngestError(f"{source} is not of the form {self.name}: needs {self.looked_for}.")
        found = Annotations(files=["captions.txt"])
        found.image_folders = [find_image_folder(source, flickr8k.IMAGE_FOLDERS)]
        lines = lines_of(source, "captions.txt")
        next(lines)
        add_captions(found, lines, parse_csv_line)
        splits = flickr8k.find_split_files(source)
        if splits:
            found.files += splits.values()
            flickr8k.read_splits(source, splits, found)
        else:
            split_by_hash(found, config)
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

    def recognises(self, source: str) -> bool:
        """Whether there is a results.csv with the right header."""
        return self._find_table(source) is not None

    def read(self, source: str, config: IngestConfig) -> Annotations:
        """Reads the captions and splits by hash."""
        table = self._find_table(source)
        if table is None:
            raise IngestError(f"{source} is not of the form {self.name}: needs {self.looked_for}.")
        found = Annotations(files=[table])
        found.image_folders = [find_image_folder(source, self._IMAGE_FOLDERS)]
        lines = lines_of(source, table)
        next(lines)
        add_captions(found, lines, parse_bar_line)
        split_by_hash(found, config)
        return found

    def _find_table(self, source: str) -> str | None:
        table = find(source, self._TABLES)
        if table is None or not _first_line(source, table).startswith("image_name|"):
            return None
        return table


def parse_csv_line(line: str) -> tuple[str, int, str]:
    """Takes a line of captions.txt apart.

    Lines are read one by one, so that a stray quote costs one caption and not all that follow.
    A caption that has commas but no quotes is taken as it stands, since no image name has a comma.

    Returns:
      Image file, 0 since this form numbers no captions, caption.

    Raises:
      ValueError: The line is of another form; says what is missing.
    """
    image, comma, text = line.partition(",")
    if not comma:
        raise ValueError("no comma between image and caption")
    if not image.strip():
        raise ValueError("no image before the comma")
    if text.lstrip().startswith('"'):
        try:
            fields = next(csv.reader([text.strip()], strict=True))
        except csv.Error as error:
            raise ValueError(f"no valid CSV: {error}") from error
        if len(fields) != 1:
            raise ValueError("more than two columns")
        text = fields[0]
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


def split_by_hash(found: Annotations, config: IngestConfig) -> None:
    """Assigns every captioned image by a hash of its id, so that additions move no other image."""
    for image in found.captions:
        share = hashed_share(image)
        if share < config.test_share:
            split = "test"
        elif share < config.test_share + config.val_share:
            split = "val"
        else:
            split = "train"
        found.assign(image, split, "hash of the image id")
        found.paths[image] = files.join(found.image_folders[0], image)
    found.split_rule = (
        f"by a hash of the image id: val {config.val_share:g}, test {config.test_share:g}"
    )


def _first_line(source: str, path: str) -> str:
    if not files.exists(files.join(source, path)):
        return ""
    return next((line.strip() for _, line, _ in lines_of(source, path)), "")
