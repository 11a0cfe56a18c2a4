"""JSON as RapidJSON reads it for TF Serving, within bounds of its own.

NaN and Infinity are numbers, what follows the first value is ignored, and lists may be nested as
deep as there may be values. The standard library's scanner reads nearly every body. It holds the
interpreter's lock until it is through, so bodies of many values are read here, where other threads
get their turn and a deadline ends the work; so is what the scanner refuses, since the errors have
RapidJSON's words.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from tfx_captioner.serving.local.status import Code, StatusError, invalid_argument

_DECODER = json.JSONDecoder()
# Every value but the first comes after one of these. A backslash costs as much as a value: a string
# is put together from the pieces between them.
_MARKS = b",:[{\\"
# Marks that the standard library's scanner is through with in a few milliseconds.
_FEW_MARKS = 50_000
_CHUNK_BYTES = 1 << 20
_VALUES_BETWEEN_CHECKS = 4096
_BOM = "\ufeff"
_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_LITERAL = re.compile(r"true|false|null|-?NaN|-?Infinity|-?Inf")
_LITERALS = {
    "true": True,
    "false": False,
    "null": None,
    "NaN": float("nan"),
    "-NaN": float("nan"),
    "Infinity": float("inf"),
    "Inf": float("inf"),
    "-Infinity": float("-inf"),
    "-Inf": float("-inf"),
}


@dataclass(frozen=True)
class WorkLimits:
    """Bounds of the work on one body.

    Attributes:
      deadline: `time.monotonic()` at which the work is given up.
      max_values: Number of JSON values, containers included, and so also of levels of nesting.
      max_escapes: Number of backslashes.
    """

    deadline: float = math.inf
    max_values: int = 1 << 20
    max_escapes: int = 1 << 22

    def check_deadline(self) -> None:
        """Ends the work when its time is up.

        Raises:
          StatusError: DEADLINE_EXCEEDED.
        """
        if time.monotonic() > self.deadline:
            raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded while reading the body")


DEFAULT_LIMITS = WorkLimits()


def is_simple(body: bytes) -> bool:
    """Whether a body holds so few values that it is read in no time, such as one of photographs."""
    marks = 0
    for chunk in _chunks(body):
        marks += len(chunk) - len(chunk.translate(None, _MARKS))
        if marks > _FEW_MARKS:
            return False
    return True


def parse(body: bytes, limits: WorkLimits = DEFAULT_LIMITS) -> Any:
    """Parses the first JSON value of a body.

    Bytes that are not UTF-8 survive as surrogate escapes.

    Args:
      body: JSON text.
      limits: Bounds of the work.

    Raises:
      StatusError: INVALID_ARGUMENT, `JSON Parse error: <RapidJSON's words> at offset: <offset>`, or
        the body holds more than it may; DEADLINE_EXCEEDED.

    >>> parse(b'{"instances": [1.5, NaN]} and more')
    {'instances': [1.5, nan]}
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    text = body.decode("utf-8", errors="surrogateescape")
    start = _skip_space(text, len(_BOM) if text.startswith(_BOM) else 0)
    if start == len(text):
        raise _error("The document is empty.", text, start)
    if is_simple(body):
        try:
            return _DECODER.raw_decode(text, start)[0]
        except (ValueError, RecursionError):
            pass  # read again below, for the words
    elif sum(chunk.count(b"\\") for chunk in _chunks(body)) > limits.max_escapes:
        raise invalid_argument(f"The body holds more than {limits.max_escapes} escaped characters")
    return _parse_without_recursion(text, start, limits)


def _parse_without_recursion(text: str, position: int, limits: WorkLimits) -> Any:
    containers: list[Any] = []
    keys: list[str] = []
    values = 0
    while True:
        values += 1
        if values % _VALUES_BETWEEN_CHECKS == 0:
            limits.check_deadline()
        if values > limits.max_values:
            raise invalid_argument(f"The body holds more than {limits.max_values} JSON values")
        opening = text[position : position + 1]
        if opening in ("{", "["):
            position = _skip_space(text, position + 1)
            closing = "}" if opening == "{" else "]"
            if not text.startswith(closing, position):
                containers.append({} if opening == "{" else [])
                if opening == "{":
                    position = _read_key(text, position, keys)
                continue
            value: Any = {} if opening == "{" else []
            position += 1
        else:
            value, position = _scalar(text, position)
        while containers:
            container = containers[-1]
            if isinstance(container, dict):
                container[keys.pop()] = value
            else:
                container.append(value)
            position = _skip_space(text, position)
            if text.startswith(",", position):
                position = _skip_space(text, position + 1)
                if isinstance(container, dict):
                    position = _read_key(text, position, keys)
                break
            if not text.startswith("}" if isinstance(container, dict) else "]", position):
                what = (
                    "Missing a comma or } after an object member."
                    if isinstance(container, dict)
                    else "Missing a comma or ] after an array element."
                )
                raise _error(what, text, position)
            position += 1
            value = containers.pop()
        else:
            return value


def _read_key(text: str, position: int, keys: list[str]) -> int:
    if not text.startswith('"', position):
        raise _error("Missing a name for object member.", text, position)
    key, position = _string(text, position)
    keys.append(key)
    position = _skip_space(text, position)
    if not text.startswith(":", position):
        raise _error("Missing a colon after a name of object member.", text, position)
    return _skip_space(text, position + 1)


def _scalar(text: str, position: int) -> tuple[Any, int]:
    if text.startswith('"', position):
        return _string(text, position)
    literal = _LITERAL.match(text, position)
    if literal:
        return _LITERALS[literal.group()], literal.end()
    number = _NUMBER.match(text, position)
    if not number:
        raise _error("Invalid value.", text, position)
    fraction, exponent = number.groups()
    # A number of more digits than a 64-bit integer has is a double.
    is_integer = fraction is None and exponent is None and len(number.group()) <= 20
    return (int if is_integer else float)(number.group()), number.end()


def _string(text: str, position: int) -> tuple[str, int]:
    try:
        return scanstring(text, position + 1, True)
    except json.JSONDecodeError as error:
        if "Unterminated" in error.msg:
            what, offset = "Missing a closing quotation mark in string.", len(text)
        elif "control" in error.msg:
            what, offset = "Invalid encoding in string.", error.pos
        else:
            offset = text.rindex("\\", position, error.pos + 1)
            what = (
                "Incorrect hex digit after \\u escape in string."
                if text.startswith("u", offset + 1)
                else "Invalid escape character in string."
            )
        raise _error(what, text, offset) from error


def _chunks(body: bytes) -> Iterator[bytes]:
    """Pieces small enough that other threads get their turn between two of them."""
    return (body[start : start + _CHUNK_BYTES] for start in range(0, len(body), _CHUNK_BYTES))


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _error(what: str, text: str, position: int) -> StatusError:
    # RapidJSON counts bytes.
    offset = len(text[:position].encode("utf-8", errors="surrogateescape"))
    return invalid_argument(f"JSON Parse error: {what} at offset: {offset}")
