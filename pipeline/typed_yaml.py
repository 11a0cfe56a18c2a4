"""YAML files checked against dataclasses: presets of a run, settings of a cluster.

What is wrong in one is explained in a sentence: key, what is allowed, what was received, where.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from tfx_captioner.pipeline.errors import UserError

_T = TypeVar("_T")


def names(folder: Path) -> list[str]:
    """Names of the files that come with the package."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read(name: str, folder: Path, argument: str) -> tuple[dict[str, Any], Path]:
    """Reads a file of the package, or one of the user's.

    Args:
      name: Name of a file in `folder`, without its suffix, or the path of any YAML file.
      folder: The package's files.
      argument: What the user gave the name as, for the message.

    Returns:
      The tree of the file, and its path.

    Raises:
      UserError: There is no such file, or it holds no mapping.
    """
    known = folder / f"{name}.yaml"
    path = known if known.is_file() else Path(name)
    if not path.is_file():
        raise UserError(
            f"`{argument}` must be one of {', '.join(names(folder))} or the path of a YAML file. "
            f"Received: {name!r}."
        )
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold keys and values. Received: {type(tree).__name__}.")
    return tree, path


def validate(
    kind: type[_T], tree: Mapping[str, Any], what: str, origin: Callable[[str], str]
) -> _T:
    """Builds a dataclass from a tree.

    Args:
      kind: A pydantic dataclass.
      tree: Values by key, nested as the dataclass is.
      what: What the keys are keys of, for the message.
      origin: Gives the file or flag that a dotted key came from.

    Raises:
      UserError: An unknown key, a missing one, or a value that is not allowed.
    """
    try:
        return TypeAdapter(kind).validate_python(tree)
    except ValidationError as error:
        lines = [_explain(problem, kind, what, origin) for problem in error.errors()]
        raise UserError("\n".join(lines)) from error


def _explain(
    problem: Mapping[str, Any], kind: type, what: str, origin: Callable[[str], str]
) -> str:
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    where = origin(key)
    if problem["type"] == "unexpected_keyword_argument":
        allowed = _allowed_keys(kind, location[:-1])
        close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        return f"`{key}` is not a key of {what} ({where}). Allowed: {', '.join(allowed)}.{hint}"
    if problem["type"] == "missing":
        return f"`{key}` must be given; it has no default ({where})."
    message = problem["msg"].removeprefix("Value error, ").rstrip(".")
    if not key:  # a rule about several keys names them itself
        return f"{message} ({where})."
    return f"`{key}`: {message[0].lower()}{message[1:]}. Received: {problem['input']!r} ({where})."


def _allowed_keys(kind: type, location: Iterable[str | int]) -> list[str]:
    """Field names of the dataclass at a location below another."""
    node: Any = kind
    for part in location:
        if dataclasses.is_dataclass(node):
            node = get_type_hints(node)[str(part)]
        else:  # a mapping such as `models`: its keys are free, its values are not
            node = get_args(node)[1]
    return [field.name for field in dataclasses.fields(node)]
