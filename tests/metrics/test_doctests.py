"""The examples in the docstrings of the metrics."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    *("bleu", "bootstrap", "caption_files", "cider", "descriptions", "matches", "meteor"),
    *("ngrams", "references", "rouge", "statistics"),
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    results = doctest.testmod(importlib.import_module(f"tfx_captioner.metrics.{name}"))
    assert results.attempted
    assert not results.failed
