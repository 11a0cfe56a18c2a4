"""Fingerprints of code and of values."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

_ROOM = Path(__file__).parent


def hash_of(value: Any) -> str:
    """SHA-256 of JSON-able data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def code_of(*patterns: str) -> str:
    """SHA-256 of those modules of this room whose names match one of the glob patterns."""
    modules = sorted({path for pattern in patterns for path in _ROOM.glob(pattern)})
    digest = hashlib.sha256()
    for module in modules:
        digest.update(module.relative_to(_ROOM).as_posix().encode())
        digest.update(module.read_bytes())
    return digest.hexdigest()
