"""Custom TFX nodes. Only artifact types are exported here: see `components.artifacts`."""

from components.artifacts import DataApproval

__all__ = ["DataApproval"]
