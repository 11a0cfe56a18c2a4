"""Rows of tables of captions: CSV of any separator, JSON lines, Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.readers.text import csv_fields, csv_records, first_line, lines_of

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

# Names of columns that are understood where the user names none, the likeliest first.
KNOWN_COLUMNS = {
    "image": (
        *("image", "file_name", "filename", "image_name", "file", "image_path", "filepath"),
        *("path", "img", "image_url", "url"),
    ),
    "caption": (
        *("caption", "captions", "text", "comment", "sentence", "sentences", "description"),
    ),
    "split": ("split", "set", "partition"),
}
_REQUIRED = ("image", "caption")
_SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Table:
    """A table of captions.

    Attributes:
      path: Its file, relative to the data set's folder.
      columns: Names of its columns for image, caption and, where there is one, split.
      header: Names of all its columns, for CSV.
      separator: What separates its columns, for CSV.
    """

    path: str
    columns: Mapping[str, str]
    header: Sequence[str] = ()
    separator: str = ""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
      where: Where it stands.
      image: Name of the image's file.
      captions: Captions of the image.
      split: What the table says of its split; empty where it says nothing.
    """

    where: str
    image: str
    captions: Sequence[str]
    split: str


def find_table(source: str, path: str, wanted: Mapping[str, str]) -> Table | None:
    """The table in a file; None where it has no columns for images and captions.

    Args:
      source: Folder of the data set.
      path: The file, relative to it.
      wanted: Names of columns that the user gave, for "image", "caption" or "split".
    """
    if path.endswith((".jsonl", ".ndjson")):
        columns = find_columns(list(_object_in(first_line(source, path))), wanted)
        return Table(path, columns) if columns else None
    if path.endswith(".parquet"):
        names = _parquet(source, path).schema_arrow.names if _is_parquet(source, path) else ()
        columns = find_columns(names, wanted)
        return Table(path, columns) if columns else None
    line = first_line(source, path)
    for separator in _SEPARATORS:
        try:
            header = [name.strip() for name in csv_fields(line, separator)]
        except ValueError:
            continue
        columns = find_columns(header, wanted)
        if columns:
            return Table(path, columns, header, separator)
    return None


def find_columns(names: Sequence[str], wanted: Mapping[str, str]) -> dict[str, str] | None:
    """Which column is which; None where one is missing that is needed."""
    by_name = {name.strip().lower(): name for name in reversed(names)}
    columns = {}
    for role, known in KNOWN_COLUMNS.items():
        candidates = (wanted[role].lower(),) if role in wanted else known
        name = next((by_name[name] for name in candidates if name in by_name), None)
        if name is not None:
            columns[role] = name
        elif role in _REQUIRED or role in wanted:
            return None
    return columns


def rows_of(source: str, table: Table, found: Annotations) -> Iterator[Row]:
    """Rows of a table. Those that cannot be understood are set aside in `found`.

    Raises:
      IngestError: The file as a whole cannot be read.
    """
    for where, line, values in _values(source, table, found):
        image, caption = values.get(table.columns["image"]), values.get(table.columns["caption"])
        captions = texts_in(caption)
        split = values.get(table.columns.get("split", ""))
        if not isinstance(image, str) or not image.strip():
            found.reject_line(line, where, f"no name of a file in `{table.columns['image']}`")
        elif captions is None:
            found.reject_line(line, where, f"no text in `{table.columns['caption']}`")
        else:
            yield Row(where, image.strip(), captions, split if isinstance(split, str) else "")


def texts_in(value: Any) -> list[str] | None:
    """The captions in a value of JSON: a text, or a list of texts; None where it is neither."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        return value
    return None


def _values(
    source: str, table: Table, found: Annotations
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Where each row stands, the row as text, and its values by column."""
    if table.path.endswith(".parquet"):
        for number, values in enumerate(_parquet_rows(source, table)):
            yield f"{table.path}:row {number}", str(values), values
        return
    lines = lines_of(source, table.path)
    records = csv_records(lines[1:], table.separator) if table.separator else iter(lines)
    for line in records:
        try:
            if line.problem:
                raise ValueError(line.problem)
            values = _fields(line.text, table) if table.separator else _object(line.text)
        except ValueError as error:
            found.reject_line(line.text, line.where, str(error))
        else:
            yield line.where, line.text, values


def _fields(text: str, table: Table) -> dict[str, str]:
    """Values of a CSV record. Commas in the last column are taken where nothing is quoted."""
    fields = csv_fields(text.strip("\r\n"), table.separator)
    surplus = len(fields) - len(table.header)
    if surplus > 0 and table.header[-1] == table.columns["caption"] and '"' not in text:
        fields = text.split(table.separator, len(table.header) - 1)
    elif surplus:
        raise ValueError(f"{len(fields)} columns, the header has {len(table.header)}")
    return dict(zip(table.header, fields, strict=True))


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def _object_in(line: str) -> dict[str, Any]:
    try:
        return _object(line)
    except ValueError:
        return {}


def _is_parquet(source: str, path: str) -> bool:
    return files.read_range(files.join(source, path), 0, 4) == b"PAR1"


def _parquet(source: str, path: str) -> Any:
    """The Parquet file at a path, of which the schema was read.

    Raises:
      IngestError: It is none, or holds objects of Python, which reading would run.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    import pyarrow_hotfix  # noqa: F401  # before 14.0.1, pyarrow unpickles what a schema holds

    try:
        file = pq.ParquetFile(io.BytesIO(files.read_bytes(files.join(source, path))))
        _ = file.schema_arrow
    except (pa.ArrowException, OSError, RuntimeError) as error:
        raise _no_parquet(path, error) from error
    return file


def _parquet_rows(source: str, table: Table) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa

    try:
        columns = list(table.columns.values())
        for batch in _parquet(source, table.path).iter_batches(columns=columns):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise _no_parquet(table.path, error) from error


def _no_parquet(path: str, error: Exception) -> IngestError:
    return IngestError(f"{path} is no valid Parquet: {str(error).splitlines()[0]}")
