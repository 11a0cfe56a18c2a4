"""Where things are kept that were fetched from elsewhere. Every room may use it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Folder of a cache on this machine, which may not be there yet.

    `$CAPTIONER_CACHE/NAME`, else `$XDG_CACHE_HOME/tfx-captioner/NAME`, else the same under
    `~/.cache`.

    Args:
      name: Of the cache, such as "weights".
    """
    if cache := os.environ.get("CAPTIONER_CACHE"):
        return Path(cache).expanduser() / name
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "tfx-captioner" / name
