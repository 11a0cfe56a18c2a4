"""Tokenised references and per-image statistics as files of artifacts."""

from __future__ import annotations

import io
import os

from tfx.dsl.io import fileio

from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import ImageStatistics

TOKENIZED_FILE = "tokenized_references.npz"
STATISTICS_FILE = "image_statistics.npz"


def write_tokenized_references(uri: str, references: TokenizedReferences) -> None:
    """Writes `tokenized_references.npz` into the folder of an artifact."""
    content = io.BytesIO()
    references.save(content)
    _write_bytes(uri, TOKENIZED_FILE, content.getvalue())


def read_tokenized_references(uri: str) -> TokenizedReferences:
    """Reads `tokenized_references.npz`."""
    return TokenizedReferences.load(io.BytesIO(read_bytes(uri, TOKENIZED_FILE)))


def write_statistics(uri: str, statistics: ImageStatistics) -> None:
    """Writes `image_statistics.npz` into the folder of an artifact."""
    content = io.BytesIO()
    statistics.save(content)
    _write_bytes(uri, STATISTICS_FILE, content.getvalue())


def read_statistics(uri: str, name: str = STATISTICS_FILE) -> ImageStatistics:
    """Reads `image_statistics.npz`."""
    return ImageStatistics.load(io.BytesIO(read_bytes(uri, name)))


def read_bytes(uri: str, name: str) -> bytes:
    """Content of a file of an artifact."""
    with fileio.open(os.path.join(uri, name), "rb") as file:
        content: bytes = file.read()
    return content


def _write_bytes(uri: str, name: str, content: bytes) -> None:
    # At once: numpy moves back and forth in a file, which not every store can.
    with fileio.open(os.path.join(uri, name), "wb") as file:
        file.write(content)
