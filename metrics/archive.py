"""Arrays and texts in one file, the same bytes for the same content, as artifact caches need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np


def write(file: BinaryIO, content: Mapping[str, Any]) -> None:
    """Writes an `.npz` file.

    Args:
        file: File to write to.
        content: Arrays, or what JSON can hold, by name.
    """
    # `savez` stamps every entry with the first of January 1980.
    np.savez_compressed(
        file,
        **{
            name: value
            if isinstance(value, np.ndarray)
            else np.frombuffer(json.dumps(value).encode(), np.uint8)
            for name, value in content.items()
        },
    )


def read(file: BinaryIO) -> dict[str, np.ndarray]:
    """Reads what `write` wrote; `text` takes an entry that was no array."""
    with np.load(file, allow_pickle=False) as entries:
        return dict(entries)


def text(entry: np.ndarray) -> Any:
    """What JSON held."""
    return json.loads(entry.tobytes())
