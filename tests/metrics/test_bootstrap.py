"""Resampled scores, of one system and of two."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.metrics.systems import METEOR, known_system, needs_meteor, system
from tfx_captioner.metrics.bootstrap import bootstrap_intervals, paired_bootstrap
from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import FIELD_NAMES, image_statistics, score

# Value, lower and upper bound of 100 resamples of `system(seed=2)`, before the statistics were
# counted as arrays.
EXPECTED_INTERVALS = {
    "bleu_4": (0.597296080372412, 0.5023833897636086, 0.7057473001813518),
    "rouge_l": (0.7141059107298118, 0.6602274815440634, 0.778915685606287),
    "cider_d": (2.606215648956934, 2.266072591772222, 3.002119169990145),
    "distinct_2": (0.21052631578947367, 0.19945380492298584, 0.2215988266559615),
    "dangling_captions": (0.36666666666666664, 0.26666666666666666, 0.48333333333333334),
}


@needs_meteor
def test_meteor_is_resampled() -> None:
    interval = bootstrap_intervals(known_system(with_meteor=True), resamples=50)["meteor"]
    assert interval.lower <= METEOR <= interval.upper


def test_bootstrap_resamples_the_corpus_scores() -> None:
    statistics = system(seed=2)
    intervals = bootstrap_intervals(statistics, resamples=400, confidence=0.9)
    corpus = statistics.corpus()
    assert intervals.keys() == corpus.keys()
    for name, interval in intervals.items():
        assert interval.value == corpus[name]
        assert interval.lower <= interval.value <= interval.upper
        if name in FIELD_NAMES:
            assert interval.lower < interval.upper

    # The resampled mean of a mean has the standard error of the mean.
    width = intervals["rouge_l"].upper - intervals["rouge_l"].lower
    error = statistics.rouge_l.std() / np.sqrt(len(statistics.ids))
    assert width == pytest.approx(2 * 1.645 * error, rel=0.2)


def test_a_resample_scores_as_the_same_images_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    references = {str(image): [f"a dog {image} runs", "a man sits"] for image in range(3)}
    hypotheses = {"0": "a dog 0 runs", "1": "a red man sits", "2": "dog of the"}
    statistics = image_statistics(TokenizedReferences.of(references), hypotheses, with_meteor=False)

    class Twice:
        """Draws the first image twice and the last one once."""

        def integers(self, images: int, size: tuple[int, int]) -> np.ndarray:
            return np.tile([0, 2, 0], (size[0], 1))

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Twice())
    intervals = bootstrap_intervals(statistics, resamples=2)
    twice = {"0": "0", "again": "0", "2": "2"}
    drawn = score(
        {image: references[of] for image, of in twice.items()},
        {image: hypotheses[of] for image, of in twice.items()},
        with_meteor=False,
    )
    # CIDEr-D keeps the document frequencies of the full set.
    drawn["cider_d"] = float(np.array([2.0, 0.0, 1.0]) @ statistics.cider_d / 3)
    resampled = [
        name
        for name in intervals
        if name not in ("distinct_1", "distinct_2", "vocabulary_coverage")  # by the jackknife
    ]
    assert {name: intervals[name].lower for name in resampled} == pytest.approx(
        {name: drawn[name] for name in resampled}, rel=1e-12
    )


def test_intervals_as_they_were() -> None:
    intervals = bootstrap_intervals(system(seed=2), resamples=100)
    for name, expected in EXPECTED_INTERVALS.items():
        assert intervals[name] == pytest.approx(expected, rel=1e-12), name


def test_bootstrap_is_the_same_for_the_same_seed() -> None:
    statistics = system(seed=2)
    first, again, other = (
        bootstrap_intervals(statistics, resamples=50, seed=seed) for seed in (5, 5, 6)
    )
    assert first == again
    assert first != other


def test_paired_bootstrap_finds_a_difference_that_the_intervals_hide() -> None:
    baseline = system(seed=2, good=0.5)
    better = system(seed=2, good=0.65)
    alone = [bootstrap_intervals(s, resamples=300) for s in (baseline, better)]
    difference = paired_bootstrap(better, baseline, resamples=300)["cider_d"]
    assert alone[0]["cider_d"].upper > alone[1]["cider_d"].lower
    assert difference.lower > 0
    assert difference.value == better.corpus()["cider_d"] - baseline.corpus()["cider_d"]


def test_paired_bootstrap_of_a_system_with_itself_in_another_order() -> None:
    statistics = system(seed=2)
    turned = statistics.select(statistics.ids[::-1])
    for interval in paired_bootstrap(statistics, turned, resamples=20).values():
        assert interval == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)


def test_paired_bootstrap_of_slices() -> None:
    part = known_system().by_slice()["people: yes"]
    assert paired_bootstrap(part, part, resamples=20)["cider_d"] == (0.0, 0.0, 0.0)


def test_paired_bootstrap_needs_the_same_images() -> None:
    with pytest.raises(ValueError, match=r"on the same images\. In one of them only: 10"):
        paired_bootstrap(system(2, images=20), system(2, images=30))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resamples": 0}, "`resamples` must be at least 1. Received: 0."),
        ({"confidence": 95}, "`confidence` must be between 0 and 1. Received: 95."),
    ],
)
def test_invalid_bootstrap(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_intervals(system(2, images=3), **arguments)
