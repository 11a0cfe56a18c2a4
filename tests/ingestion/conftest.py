"""Fixtures of the ingestion tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ingestion import datasets


@pytest.fixture
def flickr8k(tmp_path: Path) -> Path:
    """A handmade data set in the published form of Flickr8k."""
    root = tmp_path / "handmade"
    root.mkdir()
    return datasets.write_flickr8k(root)
