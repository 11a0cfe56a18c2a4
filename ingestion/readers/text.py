"""Lines and CSV records of text files, where one bad line costs one line."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.names import is_image_name

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

# A caption that is quoted goes over a few lines; a quote that nobody closes must not take more.
_MOST_LINES = 20

_HEAD = 65_536  # bytes that are enough for a first line
_LONGEST_QUOTE = 100  # characters of a line that errors show


@dataclass(frozen=True)
class Line:
    """A line of a text file, or several that a quoted field joins.

    Attributes:
      where: Where it begins, as `path:number`.
      text: Its text.
      problem: What is wrong with its encoding; empty if nothing is.
    """

    where: str
    text: str
    problem: str = ""


def lines_of(source: str, path: str) -> list[Line]:
    """Lines of a UTF-8 file, or of a UTF-16 file with a byte order mark, that are not blank.

    Bytes are split before they are decoded, so that one bad line costs one line, and so that only
    line feeds and carriage returns end a line.
    """
    return _lines(files.read_bytes(files.join(source, path)), path)


def first_line(source: str, path: str) -> str:
    """The first line of a text file; empty where there is none."""
    full = files.join(source, path)
    if not files.exists(full) or files.is_folder(full):
        return ""
    lines = _lines(files.read_range(full, 0, _HEAD), path)
    # A tab at the beginning is an empty first column.
    return next((line.text.strip(" \r\n") for line in lines), "")


def shown(line: str) -> str:
    """A line as errors quote it."""
    return repr(line if len(line) <= _LONGEST_QUOTE else f"{line[:_LONGEST_QUOTE]}...")


def _lines(content: bytes, path: str) -> list[Line]:
    if content.startswith(_UTF16):
        content = content.decode("utf-16", "replace").encode("utf-8", "replace")
    lines = []
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            lines.append(Line(where, line.decode("utf-8")))
        except UnicodeDecodeError as error:
            text = line.decode("utf-8", "replace")
            lines.append(Line(where, text, f"no UTF-8: {error.reason}"))
    return lines


def csv_records(lines: Sequence[Line], delimiter: str = ",") -> Iterator[Line]:
    """Joins the lines of fields that are quoted and hold line feeds.

    A quote that is not closed as CSV has it, or not before the next line that names an image,
    takes no other line with it.
    """
    index = 0
    while index < len(lines):
        first = lines[index]
        count = 1 if first.problem else _lines_of_record(lines, index, delimiter)
        text = "\n".join(line.text for line in lines[index : index + count])
        yield Line(first.where, text, first.problem)
        index += count


def csv_fields(text: str, delimiter: str = ",") -> list[str]:
    """The fields of a CSV record.

    Raises:
      ValueError: It is no valid CSV.
    """
    try:
        rows = list(csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(f"no valid CSV: {error}") from error
    return rows[0] if rows else []


def add_captions(
    found: Annotations, lines: Iterable[Line], parse: Callable[[str], tuple[str, int, str]]
) -> None:
    """Keeps the captions of a text file, and sets the lines aside that cannot be parsed.

    Args:
      found: Where they go.
      lines: Lines or records.
      parse: Image, number and text of a line; raises ValueError where it is of another form.
    """
    for line in lines:
        try:
            if line.problem:
                raise ValueError(line.problem)
            image, number, text = parse(line.text)
        except ValueError as error:
            found.reject_line(line.text, line.where, str(error))
        else:
            found.add_caption(image, number, text, line.where)


def _lines_of_record(lines: Sequence[Line], index: int, delimiter: str) -> int:
    """How many lines, from one on, make a CSV record; 1 where they make none."""
    if not _is_open(lines[index].text, delimiter):
        return 1
    text = lines[index].text
    for count, line in enumerate(lines[index + 1 : index + _MOST_LINES], start=2):
        if line.problem or _names_an_image(line.text, delimiter):
            return 1
        text = f"{text}\n{line.text}"
        if not _is_open(text, delimiter):
            return count if _is_valid(text, delimiter) else 1
    return 1


def _is_open(text: str, delimiter: str) -> bool:
    """Whether a record ends within quotes."""
    try:
        csv_fields(text, delimiter)
    except ValueError as error:
        return "unexpected end of data" in str(error)
    return False


def _is_valid(text: str, delimiter: str) -> bool:
    try:
        return bool(csv_fields(text, delimiter))
    except ValueError:
        return False


def _names_an_image(text: str, delimiter: str) -> bool:
    return any(is_image_name(field.strip().strip('"')) for field in text.split(delimiter))
