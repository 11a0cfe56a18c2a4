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
    with fileio.open(os.path.join(uri, TOKENIZED_FILE), "wb") as file:
        references.save(file)


def read_tokenized_references(uri: str) -> TokenizedReferences:
    """Reads `tokenized_references.npz`."""
    return TokenizedReferences.load(io.BytesIO(read_bytes(uri, TOKENIZED_FILE)))


def write_statistics(uri: str, statistics: ImageStatistics) -> None:
    """Writes `image_statistics.npz` into the folder of an artifact."""
    with fileio.open(os.path.join(uri, STATISTICS_FILE), "wb") as file:
        statistics.save(file)


def read_statistics(uri: str, name: str = STATISTICS_FILE) -> ImageStatistics:
    """Reads `image_statistics.npz`."""
    return ImageStatistics.load(io.BytesIO(read_bytes(uri, name)))


def read_bytes(uri: str, name: str) -> bytes:
    """Content of a file of an artifact."""
    with fileio.open(os.path.join(uri, name), "rb") as file:
        content: bytes = file.read()
    return content
