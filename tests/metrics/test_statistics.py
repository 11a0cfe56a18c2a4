"""Statistics of images: corpus scores, single images, slices, and the file they are kept in."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from tests.metrics.systems import (
    HYPOTHESES,
    METEOR,
    METEOR_IMAGES,
    REFERENCES,
    SCORES,
    SLICES,
    TRAINING,
    captions,
    known_system,
    needs_meteor,
)
from tfx_captioner.metrics import meteor, ptb
from tfx_captioner.metrics.descriptions import jackknife_error
from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import (
    ImageStatistics,
    human_statistics,
    image_statistics,
    score,
)


def assert_equal(one: ImageStatistics, other: ImageStatistics) -> None:
    assert one.ids == other.ids
    assert one.slices == other.slices
    np.testing.assert_equal(one.corpus(), other.corpus())
    np.testing.assert_equal(one.images(), other.images())
    np.testing.assert_equal(one.descriptions.leave_one_out(), other.descriptions.leave_one_out())


def alone(ids: list[str]) -> dict[str, float]:
    """Scores of some images, as if there were no others."""
    return score(
        {image: REFERENCES[image] for image in ids},
        {image: HYPOTHESES[image] for image in ids},
        with_meteor=False,
        training_captions=TRAINING,
    )


def test_scores_of_pycocoevalcap() -> None:
    scores = score(REFERENCES, HYPOTHESES, with_meteor=False)
    assert {name: scores[name] for name in SCORES} == pytest.approx(SCORES, rel=1e-12)


@needs_meteor
def test_meteor_of_pycocoevalcap() -> None:
    statistics = known_system(with_meteor=True)
    assert statistics.corpus()["meteor"] == METEOR
    np.testing.assert_allclose(statistics.images()["meteor"], METEOR_IMAGES, rtol=1e-14)
    assert statistics.meteor_failure == ""


def test_what_captions_are_like() -> None:
    scores = known_system().corpus()
    # a dog runs in grass | a man sits on the bench | two girls eat ice-cream | a boy <unk> a red
    # ball: 21 words, 18 of them different, and 17 pairs, which are all different.
    assert scores["distinct_1"] == 18 / 21
    assert scores["distinct_2"] == 1.0
    words = {
        word for texts in REFERENCES.values() for t in texts for word in ptb.tokenize(t).split()
    }
    used = {word for text in HYPOTHESES.values() for word in ptb.tokenize(text).split()}
    assert scores["vocabulary_coverage"] == len(used & words) / len(words)
    assert scores["mean_caption_length"] == 21 / 4
    assert scores["unknown_word_captions"] == 1 / 4
    assert scores["dangling_captions"] == 0.0
    assert scores["novel_captions"] == 3 / 4


def test_a_caption_that_ends_in_a_preposition_dangles() -> None:
    scores = score({"0": ["x"], "1": ["x"]}, {"0": "a dog on a", "1": ""}, with_meteor=False)
    assert scores["dangling_captions"] == 0.5


def test_jackknife_leaves_each_image_out() -> None:
    statistics = known_system()
    without = statistics.descriptions.leave_one_out()
    for row, image in enumerate(statistics.ids):
        rest = statistics.select([other for other in statistics.ids if other != image]).corpus()
        for name, values in without.items():
            assert values[row] == pytest.approx(rest[name], rel=1e-12)
    # Of a mean it is the usual standard error.
    values = np.array([1.0, 2.0, 5.0, 0.0])
    leave_one_out = (values.sum() - values) / 3
    assert jackknife_error(leave_one_out) == pytest.approx(values.std(ddof=1) / 2)


def test_scores_of_single_images() -> None:
    statistics = known_system()
    images = statistics.images()
    assert statistics.ids == ("0", "1", "2", "3")
    assert images["bleu_1"][2] == pytest.approx(1.0)
    assert images["rouge_l"][2] == 1.0
    assert images["cider_d"].mean() == pytest.approx(SCORES["cider_d"], rel=1e-12)


def test_train_idf_is_another_score_beside_the_published_one() -> None:
    scores = known_system().corpus()
    assert scores["cider_d"] == pytest.approx(SCORES["cider_d"], rel=1e-12)
    assert 0 < scores["cider_d_train_idf"] < 10
    assert scores["cider_d_train_idf"] != scores["cider_d"]
    # The same frequencies make the same score.
    same = score(
        REFERENCES, HYPOTHESES, with_meteor=False, training_captions=list(REFERENCES.values())
    )
    assert same["cider_d_train_idf"] == same["cider_d"]


def test_a_slice_scores_as_a_corpus_of_its_own() -> None:
    parts = known_system().by_slice()
    assert list(parts) == ["people: no", "people: yes", "length: long", "length: short"]
    assert parts["people: yes"].ids == ("1", "2", "3")
    for part in parts.values():
        assert part.corpus() == alone(list(part.ids))


def test_slices_of_many_images_score_as_corpora_of_their_own() -> None:
    references, hypotheses = captions(seed=3, images=300)
    generator = np.random.default_rng(0)
    slices = {name: generator.choice(list("abcd"), 300).tolist() for name in ("x", "y")}
    tokenized = TokenizedReferences.of(references, slices=slices)
    statistics = image_statistics(tokenized, hypotheses, with_meteor=False)
    for part in statistics.by_slice().values():
        scores = image_statistics(
            TokenizedReferences.of({image: references[image] for image in part.ids}),
            {image: hypotheses[image] for image in part.ids},
            with_meteor=False,
        )
        assert_equal(part, scores)


def test_rows_of_a_slice_or_of_all() -> None:
    statistics = known_system()
    assert_equal(statistics.rows(np.array([3, 0, 2, 1])), statistics)
    assert_equal(statistics.rows(np.array([3, 1, 2])), statistics.by_slice()["people: yes"])
    assert_equal(statistics.rows(np.array([2, 3])), statistics.by_slice()["length: short"])


@pytest.mark.parametrize("rows", [[], [0, 3], [1, 2], [0, 0, 1, 2]])
def test_rows_of_anything_else_are_refused(rows: list[int]) -> None:
    with pytest.raises(ValueError, match="all 4 images or exactly one slice of people, length"):
        known_system().rows(np.array(rows, np.int64))


def test_selected_images_keep_their_scores() -> None:
    statistics = known_system()
    part = statistics.select(["2", "0"])
    assert part.ids == ("2", "0")
    assert part.slices == {"people": ("yes", "no"), "length": ("short", "long")}
    assert part.cider_d.tolist() == statistics.cider_d[[2, 0]].tolist()
    scores = {**alone(["2", "0"]), "cider_d": (part.cider_d.sum()) / 2}
    assert part.corpus() == pytest.approx(scores, rel=1e-12)
    whole = statistics.by_slice()["people: no"].cider_d
    assert part.by_slice()["people: no"].cider_d.tolist() == whole.tolist()


def test_no_image_has_no_scores() -> None:
    statistics = image_statistics(TokenizedReferences.of({}), {}, with_meteor=False)
    assert all(np.isnan(value) for value in statistics.corpus().values())
    assert human_statistics(TokenizedReferences.of({}), with_meteor=False) == []


@pytest.mark.parametrize("with_meteor", [False, pytest.param(True, marks=needs_meteor)])
def test_statistics_survive_a_file(with_meteor: bool) -> None:
    statistics = known_system(with_meteor)
    one, two = io.BytesIO(), io.BytesIO()
    statistics.save(one)
    known_system(with_meteor).save(two)
    assert one.getvalue() == two.getvalue()
    loaded = ImageStatistics.load(io.BytesIO(one.getvalue()))
    assert_equal(loaded, statistics)
    assert_equal(loaded.by_slice()["people: yes"], statistics.by_slice()["people: yes"])


def test_people_against_people() -> None:
    tokenized = TokenizedReferences.of(REFERENCES, slices=SLICES, training_captions=TRAINING)
    rounds = human_statistics(tokenized, with_meteor=False)
    assert len(rounds) == 3  # as many as an image has references at the most
    for number, statistics in enumerate(rounds):
        several = {image: texts for image, texts in REFERENCES.items() if len(texts) > 1}
        turn = {image: number % len(texts) for image, texts in several.items()}
        others = {
            image: [text for row, text in enumerate(texts) if row != turn[image]]
            for image, texts in several.items()
        }
        expected = image_statistics(
            TokenizedReferences.of(
                others,
                slices={
                    name: [v for v, image in zip(of, REFERENCES, strict=True) if image in several]
                    for name, of in SLICES.items()
                },
                training_captions=TRAINING,
            ),
            {image: texts[turn[image]] for image, texts in several.items()},
            with_meteor=False,
        )
        assert_equal(statistics, expected)
        for name, part in expected.by_slice().items():
            assert_equal(statistics.by_slice()[name], part)


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [
        ({"a": ["x"], "b": ["x"]}, {"a": "x"}, "every image needs a caption. Without one: b."),
        ({"a": ["x"]}, {"a": "x", "c": "x"}, "images with references. Not so: c."),
        ({"a": "a dog"}, {"a": "x"}, "Single strings: a."),
        ({"a": []}, {"a": "x"}, "at least one reference. Without one: a."),
    ],
)
def test_images_that_would_give_wrong_numbers(
    references: dict[str, Any], hypotheses: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score(references, hypotheses)


def test_an_image_that_ends_meteor_costs_meteor_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(images: Any) -> None:
        raise meteor.MeteorImageError(2, "METEOR's program ended")

    monkeypatch.setattr(meteor, "image_counts", fail)
    statistics = known_system(with_meteor=True)
    assert statistics.meteor is None
    assert statistics.meteor_failure == (
        "METEOR's program ended at image 2: its caption has 4 words, its longest reference 4"
    )
    assert statistics.corpus()["cider_d"] == pytest.approx(SCORES["cider_d"], rel=1e-12)
