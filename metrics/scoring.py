"""Scores of captions in memory: the corpus, each image, and how sure one can be of them.

The same statistics that the TFMA metrics sum up in Beam, here kept per image, so that a bootstrap
over images is a matter of weighted sums. Nothing here needs TensorFlow.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from tfx_captioner.metrics import bleu, cider, meteor, ptb, rouge
from tfx_captioner.metrics.descriptions import ImageDescriptions, describe, jackknife_error

_LOGGER = logging.getLogger("captioner.evaluator")

# Names of papers and of pycocoevalcap for what is called otherwise in TFMA.
FIELD_NAMES = {
    "bleu_1": "Bleu_1",
    "bleu_2": "Bleu_2",
    "bleu_3": "Bleu_3",
    "bleu_4": "Bleu_4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE_L",
    "cider_d": "CIDEr",
}

_METEOR_BATCH = 256
# Resamples that are drawn together; their table of image weights takes 8 bytes a cell.
_CELLS_PER_BATCH = 8_000_000


class Interval(NamedTuple):
    """A score and the bounds that hold the given share of its resampled values."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True, eq=False)
class ImageStatistics:
    """What each image adds to the corpus scores.

    Attributes:
        ids: Image ids, in the order of all arrays.
        bleu: int64 [images, 10], the sums of `BleuStatistics.vector`.
        rouge_l: float64 [images].
        cider_d: float64 [images], with document frequencies of these images' references.
        text: The captions, as CIDEr-D keeps them.
        descriptions: What the captions are like.
        cider_d_train_idf: float64 [images] with those of the training split, or None.
        meteor: float64 [images, 23], counts as they enter the sum, or None.
    """

    ids: tuple[str, ...]
    bleu: np.ndarray
    rouge_l: np.ndarray
    cider_d: np.ndarray
    text: cider.CiderCorpus
    descriptions: ImageDescriptions
    cider_d_train_idf: np.ndarray | None = None
    meteor: np.ndarray | None = None

    def corpus(self) -> dict[str, float]:
        """The corpus scores by TFMA name, equal to those of the TFMA metrics; NaN of no image."""
        scores = dict(_bleu_names(bleu.bleu_scores(_bleu_sums(self.bleu))))
        if self.meteor is not None:
            sums = self.meteor.sum(axis=0).tolist()
            scores["meteor"] = meteor.MeteorStatistics(len(self.ids), sums).score()
        scores["rouge_l"] = _mean(self.rouge_l)
        scores["cider_d"] = _mean(self.cider_d)
        if self.cider_d_train_idf is not None:
            scores["cider_d_train_idf"] = _mean(self.cider_d_train_idf)
        return scores | self.descriptions.values()

    def images(self) -> dict[str, np.ndarray]:
        """Each image's own score by TFMA name, float64 [images], for lists of best and worst.

        One image's BLEU-4 is next to zero unless four of its words in a row match: order images by
        CIDEr-D or METEOR.
        """
        rows = [bleu.bleu_scores(_bleu_sums(row[None])) for row in self.bleu]
        scores: dict[str, np.ndarray] = dict(
            _bleu_names(np.array(rows).reshape(-1, bleu.MAX_ORDER).T)
        )
        if self.meteor is not None:
            scores["meteor"] = meteor.meteor_scores(self.meteor)
        scores["rouge_l"] = self.rouge_l
        scores["cider_d"] = self.cider_d
        if self.cider_d_train_idf is not None:
            scores["cider_d_train_idf"] = self.cider_d_train_idf
        return scores

    def select(self, ids: Sequence[str]) -> ImageStatistics:
        """The statistics of some images, such as a slice, in the order of `ids`, each once.

        CIDEr-D is scored anew, with the document frequencies of these images: as it is published,
        and as TFMA scores a slice.
        """
        place = {image_id: index for index, image_id in enumerate(self.ids)}
        rows = np.array([place[image_id] for image_id in ids], np.intp)
        text = self.text.select(rows.tolist())
        return ImageStatistics(
            ids=tuple(ids),
            bleu=self.bleu[rows],
            rouge_l=self.rouge_l[rows],
            cider_d=text.scores(),
            text=text,
            descriptions=self.descriptions.select(rows),
            cider_d_train_idf=_rows(self.cider_d_train_idf, rows),
            meteor=_rows(self.meteor, rows),
        )


def image_statistics(
    references: Mapping[str, Sequence[str]],
    hypotheses: Mapping[str, str],
    *,
    with_meteor: bool = True,
    document_frequencies: cider.DocumentFrequencies | None = None,
    training_captions: Collection[str] | None = None,
    tokenize: Callable[[str], str] = ptb.tokenize,
) -> ImageStatistics:
    """Tokenises and counts; everything that takes long.

    Args:
        references: All raw reference captions of each image.
        hypotheses: One raw caption for each image of `references`.
        with_meteor: Whether to run METEOR, which takes some 10 ms per image.
        document_frequencies: Of the training split, for `cider_d_train_idf`.
        training_captions: Of the training split, tokenised, for `novel_captions`.
        tokenize: `ptb.tokenize`, or what remembers more of its results.

    Raises:
        ValueError: The two do not name the same images, an image has no reference, or its
            references are one string instead of a sequence of strings.
        MeteorUnavailableError: `with_meteor` where METEOR is not available.
    """
    check_images(references, hypotheses)
    corpus = cider.CiderCorpus()
    bleu_rows, rouge_rows, images = [], [], []
    for image_id, texts in references.items():
        hypothesis = tokenize(hypotheses[image_id])
        tokenised = [tokenize(text) for text in texts]
        bleu_rows.append(bleu.bleu_statistics(hypothesis, tokenised).vector())
        rouge_rows.append(rouge.rouge_l(hypothesis, tokenised))
        corpus.add(hypothesis, tokenised)
        images.append((hypothesis, tokenised))
    if document_frequencies:
        cider_d, train_idf = corpus.both_scores(document_frequencies)
    else:
        cider_d, train_idf = corpus.scores(), None
    return ImageStatistics(
        ids=tuple(references),
        bleu=np.array(bleu_rows, np.int64).reshape(-1, 2 * bleu.MAX_ORDER + 2),
        rouge_l=np.array(rouge_rows, np.float64),
        cider_d=cider_d,
        text=corpus,
        descriptions=describe(images, training_captions),
        cider_d_train_idf=train_idf,
        meteor=_meteor_counts(images) if with_meteor else None,
    )


def score(
    references: Mapping[str, Sequence[str]],
    hypotheses: Mapping[str, str],
    *,
    with_meteor: bool = True,
    document_frequencies: cider.DocumentFrequencies | None = None,
) -> dict[str, float]:
    """Corpus scores by TFMA name (`FIELD_NAMES` has those of papers); see `image_statistics`."""
    return image_statistics(
        references,
        hypotheses,
        with_meteor=with_meteor,
        document_frequencies=document_frequencies,
    ).corpus()


def check_images(references: Mapping[str, Sequence[str]], hypotheses: Mapping[str, object]) -> None:
    """Refuses what would give wrong numbers without any other sign.

    Raises:
        ValueError: See `image_statistics`.
    """
    if missing := references.keys() - hypotheses.keys():
        raise ValueError(f"every image needs a caption. {_named(missing, 'Without one')}")
    if unknown := hypotheses.keys() - references.keys():
        raise ValueError(f"captions must be of images with references. {_named(unknown, 'Not so')}")
    if strings := [image_id for image_id, texts in references.items() if isinstance(texts, str)]:
        raise ValueError(
            "the references of an image must be a sequence of strings: a single string would be "
            f"read as one reference per character. {_named(strings, 'Single strings')}"
        )
    if empty := [image_id for image_id, texts in references.items() if not len(texts)]:
        raise ValueError(
            f"every image needs at least one reference. {_named(empty, 'Without one')}"
        )


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
        ValueError: The two are not of the same images, or an argument is out of range.
    """
    _check_bootstrap(resamples, confidence)
    if set(candidate.ids) != set(baseline.ids):
        raise ValueError(
            "candidate and baseline must be scored on the same images. In one of them only: "
            f"{len(set(candidate.ids) ^ set(baseline.ids))}."
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
    images = weights.shape[1]
    scores = dict(_bleu_names(_bleu_of_sums(weights @ statistics.bleu)))
    if statistics.meteor is not None:
        scores["meteor"] = meteor.meteor_scores(weights @ statistics.meteor)
    scores["rouge_l"] = weights @ statistics.rouge_l / images
    scores["cider_d"] = weights @ statistics.cider_d / images
    if statistics.cider_d_train_idf is not None:
        scores["cider_d_train_idf"] = weights @ statistics.cider_d_train_idf / images
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


def _bleu_sums(rows: np.ndarray) -> bleu.BleuStatistics:
    sums = rows.sum(axis=0).tolist()
    order = bleu.MAX_ORDER
    return bleu.BleuStatistics(sums[:order], sums[order : 2 * order], *sums[2 * order :])


def _bleu_of_sums(sums: np.ndarray) -> np.ndarray:
    """BLEU-1 to BLEU-4 of many summed statistics, float64 [4, resamples]."""
    return np.array([bleu.bleu_scores(_bleu_sums(row[None])) for row in sums]).T


def _bleu_names(scores: Sequence[Any] | np.ndarray) -> Iterator[tuple[str, Any]]:
    return ((f"bleu_{order}", value) for order, value in enumerate(scores, 1))


def _meteor_counts(images: Sequence[tuple[str, Sequence[str]]]) -> np.ndarray:
    batches = [np.zeros((0, meteor.COUNTS))]
    for first in range(0, len(images), _METEOR_BATCH):
        batches.append(meteor.shared_process().counts(images[first : first + _METEOR_BATCH]))
        done = min(first + _METEOR_BATCH, len(images))
        if done % (10 * _METEOR_BATCH) == 0:
            _LOGGER.info("METEOR: %d/%d images", done, len(images))
    return meteor.without_perfect_chunks(np.concatenate(batches))


def _rows(values: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[rows]


def _mean(values: np.ndarray) -> float:
    return math.fsum(values) / len(values) if len(values) else math.nan


def _named(ids: Sequence[str] | set[str], what: str) -> str:
    shown = ", ".join(map(str, sorted(ids, key=str)[:3]))
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"{what}: {shown}{more}."
