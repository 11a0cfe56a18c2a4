"""Custom TFX nodes. Only artifact types are exported here: see `components.artifacts`.

They are imported when they are asked for (PEP 562): the caption metrics are used without TFX too,
and TFX takes ten seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from components.artifacts import DataApproval

__all__ = ["DataApproval"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from components import artifacts

    return getattr(artifacts, name)
