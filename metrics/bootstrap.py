"""How sure one can be of a score: a bootstrap over images, and of the difference of two systems."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from tfx_captioner.metrics import bleu, meteor
from tfx_captioner.metrics.descriptions import jackknife_error
from tfx_captioner.metrics.languages import segmentation
from tfx_captioner.metrics.statistics import ImageStatistics

# Resamples that are drawn together; their table of image weights takes 8 bytes a cell.
_CELLS_PER_BATCH = 8_000_000


class Interval(NamedTuple):
    """A score and the bounds that hold the given share of its resampled values."""

    value: float
    lower: float
    upper: float


def bootstrap_intervals(
    statistics: ImageStatistics,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Percentile bootstrap over images (Efron, 1979) of every corpus score.

    CIDEr-D keeps the document frequencies of the full set in all resamples: they are part of the
    yardstick, not of the sample. Shares of different words have intervals by the jackknife, for
    the reason that `descriptions` gives; a single image has none of those.

    Raises:
        ValueError: `resamples` or `confidence` is out of range.

    Example:
        >>> from tfx_captioner.metrics.references import TokenizedReferences
        >>> from tfx_captioner.metrics.statistics import image_statistics
        >>> references = {"1.jpg": ["A dog runs."], "2.jpg": ["A cat."], "3.jpg": ["Two men."]}
        >>> captions = {"1.jpg": "a dog", "2.jpg": "a cat", "3.jpg": "two dogs"}
        >>> statistics = image_statistics(
        ...     TokenizedReferences.of(references), captions, with_meteor=False
        ... )
        >>> interval = bootstrap_intervals(statistics, resamples=200)["rouge_l"]
        >>> interval.lower <= interval.value <= interval.upper
        True
    """
    _check_bootstrap(resamples, confidence)
    values = statistics.corpus()
    samples = _resampled([statistics], resamples, seed)
    return {
        **{name: _interval(values[name], drawn[0], confidence) for name, drawn in samples.items()},
        **_jackknifed(values, statistics.descriptions.leave_one_out(), confidence),
    }


def paired_bootstrap(
    candidate: ImageStatistics,
    baseline: ImageStatistics,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, Interval]:
    """Candidate minus baseline on the same resampled images (Koehn, 2004).

    Both are scored on the same draw, so that what makes an image hard for both cancels out. A
    difference is significant at the level when the interval does not hold 0.

    Returns:
        Difference and its interval, of every score that both have.

    Raises:
        ValueError: The two are not of the same images, their captions were split into words by
            different rules, or an argument is out of range.
    """
    _check_bootstrap(resamples, confidence)
    if set(candidate.ids) != set(baseline.ids):
        raise ValueError(
            "candidate and baseline must be scored on the same images. In one of them only: "
            f"{len(set(candidate.ids) ^ set(baseline.ids))}."
        )
    rules = segmentation(candidate.language), segmentation(baseline.language)
    if rules[0] != rules[1]:
        raise ValueError(
            "candidate and baseline must be scored in the same words. "
            f"Received: {rules[0]} and {rules[1]}."
        )
    if candidate.ids != baseline.ids:
        baseline = baseline.select(candidate.ids)
    theirs = baseline.corpus()
    values = {
        name: value - theirs[name] for name, value in candidate.corpus().items() if name in theirs
    }
    samples = _resampled([candidate, baseline], resamples, seed)
    without = baseline.descriptions.leave_one_out()
    return {
        **{
            name: _interval(values[name], drawn[0] - drawn[1], confidence)
            for name, drawn in samples.items()
            if len(drawn) == 2
        },
        **_jackknifed(
            values,
            {
                name: left_out - without[name]
                for name, left_out in candidate.descriptions.leave_one_out().items()
            },
            confidence,
        ),
    }


def _check_bootstrap(resamples: int, confidence: float) -> None:
    if resamples < 1:
        raise ValueError(f"`resamples` must be at least 1. Received: {resamples}.")
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be between 0 and 1. Received: {confidence}.")


def _resampled(
    systems: Sequence[ImageStatistics], resamples: int, seed: int
) -> dict[str, list[np.ndarray]]:
    """Scores of each system on the same draws, by name: one float64 [resamples] per system."""
    drawn: dict[str, list[list[np.ndarray]]] = {}
    for weights in _weights(len(systems[0].ids), resamples, seed):
        for index, system in enumerate(systems):
            for name, values in _weighted(system, weights).items():
                drawn.setdefault(name, [[] for _ in systems])[index].append(values)
    return {
        name: [np.concatenate(batches) for batches in per_system if batches]
        for name, per_system in drawn.items()
    }


def _weights(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each image is drawn, float64 [some resamples, images]."""
    if not images:
        return
    generator = np.random.default_rng(seed)
    batch = max(1, _CELLS_PER_BATCH // images)
    for first in range(0, resamples, batch):
        size = min(batch, resamples - first)
        places = generator.integers(images, size=(size, images))
        places += np.arange(size)[:, None] * images
        weights = np.bincount(places.ravel(), minlength=size * images)
        yield weights.reshape(size, images).astype(np.float64)


def _weighted(statistics: ImageStatistics, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of weighted images by name, float64 [rows of `weights`]."""
    images = weights.shape[1]
    sums = (weights @ statistics.bleu).tolist()
    of_bleu = np.array([bleu.bleu_scores(row) for row in sums]).T
    scores = {f"bleu_{order}": values for order, values in enumerate(of_bleu, 1)}
    if statistics.meteor is not None:
        scores["meteor"] = meteor.meteor_scores(weights @ statistics.meteor)
    for name, values in statistics.means().items():
        scores[name] = weights @ values / images
    described = statistics.descriptions
    return scores | dict(zip(described.names, (weights @ described.means / images).T, strict=True))


def _interval(value: float, drawn: np.ndarray, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    lower, upper = np.quantile(drawn, [tail, 1 - tail])
    return Interval(value, float(lower), float(upper))


def _jackknifed(
    values: Mapping[str, float], leave_one_out: Mapping[str, np.ndarray], confidence: float
) -> dict[str, Interval]:
    """Normal intervals, of the values without each image in turn."""
    width = NormalDist().inv_cdf((1 + confidence) / 2)
    intervals = {}
    for name, without in leave_one_out.items():
        error = width * jackknife_error(without)
        if math.isfinite(error):
            intervals[name] = Interval(values[name], values[name] - error, values[name] + error)
    return intervals
