"""JSON as RapidJSON reads it for TF Serving.

NaN and Infinity are numbers, what follows the first value is ignored, and nesting is bounded by
memory alone. The standard library's scanner reads nearly every body; what it refuses is read again
here, without recursion, which also words the error as RapidJSON does.
"""

from __future__ import annotations

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from tfx_captioner.serving.local.status import StatusError, invalid_argument

_DECODER = json.JSONDecoder()
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


def parse(body: bytes) -> Any:
    """Parses the first JSON value of a body.

    Bytes that are not UTF-8 survive as surrogate escapes.

    Raises:
      StatusError: INVALID_ARGUMENT, `JSON Parse error: <RapidJSON's words> at offset: <offset>`.
    """
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    text = body.decode("utf-8", errors="surrogateescape")
    start = _skip_space(text, len(_BOM) if text.startswith(_BOM) else 0)
    if start == len(text):
        raise _error("The document is empty.", text, start)
    try:
        return _DECODER.raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return _parse_without_recursion(text, start)


def _parse_without_recursion(text: str, position: int) -> Any:
    containers: list[Any] = []
    keys: list[str] = []
    while True:
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


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _error(what: str, text: str, position: int) -> StatusError:
    # RapidJSON counts bytes.
    offset = len(text[:position].encode("utf-8", errors="surrogateescape"))
    return invalid_argument(f"JSON Parse error: {what} at offset: {offset}")
