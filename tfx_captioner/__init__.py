"""Photographs with captions in, a captioning service on TensorFlow Serving out.

The rooms of the house are links to the folders beside this one, so that all of them are imported,
installed and shipped below one name that nobody else has.

Artifact types of the pipeline's own nodes are exported here, since Kubeflow imports a type by its
TYPE_NAME, `<package>.<Class>`. They are imported when they are asked for (PEP 562): the metrics and
the clients are used without TFX, and TFX takes ten seconds to import.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = [
    "CaptionReferences",
    "CaptionStatistics",
    "DataApproval",
    "EvaluationPages",
    "GeneratedCaptions",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.components.artifacts"), name)
