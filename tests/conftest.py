"""Marks and fixtures that several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Files are shared out to processes in this order: none shall begin with minutes at the end.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    if not (SHARED / "data").is_dir():
        skip = pytest.mark.skip(reason="needs ../shared, which is not on this machine")
        for item in items:
            if item.get_closest_marker("shared_data"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the checkout that holds real photographs and notes."""
    return SHARED


@pytest.fixture(scope="session")
def sample_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated sample in Flickr8k's layout."""
    from tfx_captioner.ingestion.sample import generate_sample

    out = tmp_path_factory.mktemp("sample") / "scenes"
    generate_sample(out, seed=7, train=48, val=8, test=12)
    return out


@pytest.fixture(scope="session")
def sample_records(sample_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TFRecords of the small sample, in `train/`, `val/` and `test/`."""
    from tfx_captioner.ingestion.config import IngestConfig
    from tfx_captioner.ingestion.job import ingest

    out = tmp_path_factory.mktemp("records") / "sample"
    ingest(sample_dir, out, config=IngestConfig())
    return out
