"""Photographs of one's own: a table `image,caption[,split]`, or a Hugging Face image folder."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.names import RefusedNameError, path_inside, printable
from tfx_captioner.ingestion.readers.base import Reader
from tfx_captioner.ingestion.readers.kaggle import is_bar_header, is_kaggle_header
from tfx_captioner.ingestion.readers.splits import Member, assign_splits, split_named, split_said
from tfx_captioner.ingestion.readers.tables import SUFFIXES, Row, find_table, rows_of
from tfx_captioner.ingestion.readers.text import first_line
from tfx_captioner.ingestion.readers.text import shown as quoted

_METADATA = tuple(f"metadata{suffix}" for suffix in SUFFIXES)
_IMAGE_FOLDERS = ("", "images", "Images", "image", "photos", "pictures", "img", "data")
_ROWS_LOOKED_AT = 20  # to find the folder that names in a table are relative to
_TABLES_SHOWN = 3  # in errors


class ImageFolderReader(Reader):
    """Hugging Face's image folder: `metadata.csv` beside the images, or in each split's folder.

    Source: https://huggingface.co/docs/datasets/image_dataset
    """

    name = "imagefolder"
    has_splits = False
    looked_for = (
        "metadata.csv, metadata.jsonl or metadata.parquet with `file_name` and a caption, in the "
        "folder or in train/, validation/ and test/"
    )

    def recognises(self, source: str, columns: Mapping[str, str] | None = None) -> bool:
        """Whether there is metadata with captions."""
        return any(find_table(source, path, columns or {}) for path in _metadata(source))

    def near_miss(self, source: str) -> str:
        """The header of metadata that has no captions."""
        return _headers(source, list(_metadata(source)))

    def read(self, source: str, config: IngestConfig) -> Annotations:
        """Reads all metadata; the folder that an image lies in may say its split."""
        tables = [find_table(source, path, config.columns) for path in _metadata(source)]
        present = [table for table in tables if table]
        if not present:
            raise IngestError(self.refusal(source))
        found = Annotations(config.max_caption_words, files=[table.path for table in present])
        members: dict[str, Member] = {}
        for table in present:
            folder = posixpath.dirname(table.path)
            found.image_folders.append(folder)
            for row in rows_of(source, table, found):
                path = posixpath.join(folder, row.image)
                split = split_said(row.split) or split_named(posixpath.dirname(path))
                _add(found, members, path, row, split, folder)
        assign_splits(found, list(members.values()), config)
        return found


class TableReader(Reader):
    """One table of captions, or one for each split, with the images beside it or at URLs."""

    name = "table"
    has_splits = False
    is_general = True
    looked_for = (
        "a .csv, .tsv, .jsonl or .parquet with the columns image (files or URLs) and caption, and "
        "split where there is one; `columns` names others"
    )

    def recognises(self, source: str, columns: Mapping[str, str] | None = None) -> bool:
        """Whether there is such a table."""
        return any(find_table(source, path, columns or {}) for path in _tables(source))

    def near_miss(self, source: str) -> str:
        """The headers of tables without the columns."""
        return _headers(source, _tables(source))

    def read(self, source: str, config: IngestConfig) -> Annotations:
        """Reads the tables; splits from a column, from the names of the tables, or by hash."""
        tables = [find_table(source, path, config.columns) for path in _tables(source)]
        present = [table for table in tables if table]
        if not present:
            raise IngestError(self.refusal(source))
        if len(present) > 1 and not all(split_named(table.path) for table in present):
            names = ", ".join(table.path for table in present)
            raise IngestError(
                f"{source} holds several tables of captions: {names}. Leave one, or name each for "
                "its split: train.csv, val.csv, test.csv."
            )
        found = Annotations(
            config.max_caption_words, files=[table.path for table in present], takes_urls=True
        )
        rows = [
            (
                row,
                split_said(row.split)
                or split_named("" if "split" in table.columns else table.path),
            )
            for table in present
            for row in rows_of(source, table, found)
        ]
        folder = _image_folder(source, [row.image for row, _ in rows[:_ROWS_LOOKED_AT]])
        found.image_folders.append(folder)
        members: dict[str, Member] = {}
        for row, split in rows:
            _add(found, members, row.image, row, split, folder)
        assign_splits(found, list(members.values()), config)
        return found


def _add(
    found: Annotations,
    members: dict[str, Member],
    image: str,
    row: Row,
    split: str,
    folder: str,
) -> None:
    """Keeps the captions of a row, and its image where it is a new one.

    Raises:
      IngestError: Another row has it in another split.
    """
    member = Member(printable(image), split, folder, row.image, row.where)
    known = members.setdefault(member.image, member)
    if known.split != split:
        raise IngestError(
            f"An image must be in one split only. {member.image} is in {known.split or 'none'} "
            f"({known.where}) and in {split or 'none'} ({row.where})."
        )
    for number, caption in enumerate(row.captions):
        found.add_caption(image, number, caption, row.where)


def _metadata(source: str) -> Iterator[str]:
    """Metadata of an image folder: in the folder itself, else in the folders in it."""
    own = [name for name in _METADATA if files.exists(files.join(source, name))]
    if own:
        yield own[0]
        return
    for folder in files.folders_in(source):
        inside = (files.join(folder, name) for name in _METADATA)
        first = next((path for path in inside if files.exists(files.join(source, path))), None)
        if first:
            yield first


def _tables(source: str) -> list[str]:
    """Files in a folder that may be tables, and are of no other form."""
    names = [
        name
        for name in files.names_in(source)
        if (name.lower().endswith(SUFFIXES) or name == "captions.txt")
        and name not in _METADATA
        and not files.is_hidden(name)
        and not files.is_folder(files.join(source, name))
    ]
    headers = {
        name: "" if name.endswith(".parquet") else first_line(source, name) for name in names
    }
    return [
        name
        for name in names
        if not is_bar_header(headers[name])
        and not (name == "captions.txt" and is_kaggle_header(headers[name]))
    ]


def _headers(source: str, paths: Sequence[str]) -> str:
    readable = [path for path in paths if not path.endswith(".parquet")]
    shown = [f"{path} begins with {quoted(first_line(source, path))}" for path in readable]
    return "; ".join(shown[:_TABLES_SHOWN])


def _image_folder(source: str, names: Sequence[str]) -> str:
    """The folder that names in a table are relative to: the first with one of the files."""
    for folder in _IMAGE_FOLDERS:
        for name in names:
            try:
                path = path_inside(folder, name)
            except RefusedNameError:
                continue
            if files.exists(files.join(source, path)):
                return folder
    return ""
