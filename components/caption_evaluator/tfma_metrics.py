"""Caption metrics as TFMA metrics: one Example per image, all its references at once.

Each family of metrics has one private combiner that carries mergeable statistics, and its public
metrics are derived from it: BLEU-1 to BLEU-4 count n-grams once. TFMA's own `BLEU` and `ROUGE`
cannot be used on tf.Examples: they take the characters of a reference for references, return
tuples which thresholds cannot compare, and know no model name, so that a baseline overwrites the
candidate.

The label is the feature with the references (bytes, any number), the prediction the one with the
hypothesis (one bytes value). Values are plain floats, NaN where there was nothing to score.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.proto import config_pb2

from tfx_captioner.metrics import bleu, cider, diversity, meteor, ptb, rouge

Metrics = dict[metric_types.MetricKey, Any]


class Statistics(Protocol):
    """What a family of metrics sums up over images."""

    def add(self, hypothesis: str, references: Sequence[str]) -> None: ...

    def __iadd__(self: S, other: S) -> S: ...


S = TypeVar("S", bound=Statistics)


class _CaptionStatisticsCombiner(beam.CombineFn):
    """Folds images into the statistics that `factory` makes.

    TFMA takes two computations for one when class name and keys agree, so everything that makes
    two statistics differ (the kind, a file of options) must be in the key's name.
    """

    def __init__(
        self,
        key: metric_types.MetricKey,
        eval_config: config_pb2.EvalConfig | None,
        factory: Callable[[], Statistics],
    ) -> None:
        self._key = key
        self._eval_config = eval_config
        self._factory = factory
        self._last: tuple[metric_types.StandardMetricInputs, Statistics] | None = None

    def create_accumulator(self) -> Statistics:
        return self._factory()

    def add_input(
        self, accumulator: Statistics, element: metric_types.StandardMetricInputs
    ) -> Statistics:
        # TFMA hands the same image in once for each of its slices, one after the other.
        if self._last is None or self._last[0] is not element:
            self._last = (element, self._statistics_of(element))
        accumulator += self._last[1]
        return accumulator

    def _statistics_of(self, element: metric_types.StandardMetricInputs) -> Statistics:
        statistics = self._factory()
        for labels, predictions, _ in metric_util.to_label_prediction_example_weight(
            element,
            eval_config=self._eval_config,
            model_name=self._key.model_name,
            output_name=self._key.output_name,
            flatten=False,
            squeeze=False,
            allow_none=True,
        ):
            hypothesis, references = _caption_and_references(labels, predictions)
            statistics.add(ptb.tokenize(hypothesis), [ptb.tokenize(text) for text in references])
        return statistics

    def merge_accumulators(self, accumulators: Iterable[Statistics]) -> Statistics:
        merged = self._factory()
        for accumulator in accumulators:
            merged += accumulator
        return merged

    def extract_output(self, accumulator: Statistics) -> Metrics:
        return {self._key: accumulator}


def _texts(values: np.ndarray) -> list[str]:
    return [
        value.decode("utf-8") if isinstance(value, bytes) else str(value)
        for value in np.ravel(values)
        if value is not None
    ]


def _caption_and_references(labels: np.ndarray, predictions: np.ndarray) -> tuple[str, list[str]]:
    references = _texts(labels)
    hypotheses = _texts(predictions)
    if not references:
        raise ValueError(
            "each image needs at least one reference caption in the label feature. Received: none."
        )
    if len(hypotheses) != 1:
        raise ValueError(
            "each image needs exactly one caption in the prediction feature. "
            f"Received: {len(hypotheses)}: {hypotheses}."
        )
    return hypotheses[0], references


@dataclass(frozen=True)
class _Family:
    """Metrics that share statistics, and the one of them that is wanted.

    Attributes:
        statistics: Name of the statistics, with all that makes them differ from others.
        factory: Makes empty ones.
        value: The metric, of the statistics of all images.
    """

    statistics: str
    factory: Callable[[], Any]
    value: Callable[[Any], float]


def _create(family: Callable[..., _Family]) -> Callable[..., metric_types.MetricComputations]:
    """What TFMA calls, with the options of a metric, to have it computed.

    Args:
        family: From the options of the metric.
    """

    def create(
        name: str,
        eval_config: config_pb2.EvalConfig | None = None,
        model_name: str = "",
        output_name: str = "",
        example_weighted: bool = False,
        **options: Any,
    ) -> metric_types.MetricComputations:
        if example_weighted:
            raise ValueError(
                f"`{name}` counts every image once: example weights are not supported."
            )
        wanted = family(**options)
        statistics_key = metric_types.MetricKey(
            f"_{wanted.statistics}", model_name=model_name, output_name=output_name
        )
        # Thresholds look a metric up by its whole key, this flag included.
        key = metric_types.MetricKey(
            name, model_name=model_name, output_name=output_name, example_weighted=example_weighted
        )

        def result(metrics: Metrics) -> Metrics:
            return {key: float(wanted.value(metrics[statistics_key]))}

        combiner = _CaptionStatisticsCombiner(statistics_key, eval_config, wanted.factory)
        return [
            metric_types.MetricComputation(
                keys=[statistics_key], preprocessors=None, combiner=combiner
            ),
            metric_types.DerivedMetricComputation(keys=[key], result=result),
        ]

    return metric_util.merge_per_key_computations(create)


class CorpusBleu(metric_types.Metric):
    """Corpus BLEU up to n-grams of order `max_order`, closest reference length."""

    def __init__(self, name: str = "bleu_4", max_order: int = 4) -> None:
        """Names the metric and sets its longest n-gram, 1 to 4."""
        if max_order not in range(1, bleu.MAX_ORDER + 1):
            raise ValueError(f"`max_order` must be 1 to {bleu.MAX_ORDER}. Received: {max_order}.")
        super().__init__(_create(_bleu), name=name, max_order=max_order)


def _bleu(max_order: int) -> _Family:
    return _Family(
        "bleu_statistics",
        bleu.BleuStatistics,
        lambda statistics: bleu.bleu_scores(statistics)[max_order - 1],
    )


class RougeL(metric_types.Metric):
    """Mean ROUGE-L over images, beta 1.2, precision and recall each the best over references."""

    def __init__(self, name: str = "rouge_l") -> None:
        """Names the metric."""
        super().__init__(_create(_rouge_l), name=name)


def _rouge_l() -> _Family:
    return _Family("rouge_l_statistics", rouge.RougeStatistics, rouge.RougeStatistics.mean)


class CiderD(metric_types.Metric):
    """CIDEr-D, with document frequencies of the evaluated references or from a file.

    The first is the published definition, and what papers print. Use the second to compare slices
    or runs: its scale does not move with the images that are scored.
    """

    def __init__(self, name: str = "cider_d", document_frequencies: str = "") -> None:
        """Names the metric.

        Args:
            name: Metric name.
            document_frequencies: File that `cider.DocumentFrequencies.save` wrote; empty for those
                of the evaluated references.
        """
        super().__init__(_create(_cider_d), name=name, document_frequencies=document_frequencies)


def _cider_d(document_frequencies: str) -> _Family:
    if not document_frequencies:
        return _Family("cider_d_corpus", cider.CiderCorpus, cider.CiderCorpus.mean)
    return _Family(
        f"cider_d_statistics:{document_frequencies}",
        functools.partial(cider.TrainIdfCiderStatistics, document_frequencies),
        cider.TrainIdfCiderStatistics.mean,
    )


class Meteor(metric_types.Metric):
    """METEOR 1.5 of the corpus, by its authors' program: needs Java on every worker."""

    def __init__(self, name: str = "meteor") -> None:
        """Names the metric."""
        super().__init__(_create(_meteor), name=name)


def _meteor() -> _Family:
    return _Family("meteor_statistics", meteor.MeteorStatistics, meteor.MeteorStatistics.score)


class CaptionDiversity(metric_types.Metric):
    """What the set of hypotheses is like: one of `diversity.MEASURES`."""

    def __init__(
        self, name: str, measure: str = "", unknown_token: str = diversity.UNKNOWN_TOKEN
    ) -> None:
        """Names the metric.

        Args:
            name: Metric name.
            measure: One of `diversity.MEASURES`; the metric's name if empty.
            unknown_token: What the model writes for a word outside its vocabulary.
        """
        measure = measure or name
        if measure not in diversity.MEASURES:
            raise ValueError(
                f"`measure` must be one of {', '.join(diversity.MEASURES)}. Received: {measure}."
            )
        super().__init__(
            _create(_diversity), name=name, measure=measure, unknown_token=unknown_token
        )


def _diversity(measure: str, unknown_token: str) -> _Family:
    return _Family(
        f"diversity_statistics:{unknown_token}",
        functools.partial(diversity.DiversityStatistics, unknown_token=unknown_token),
        getattr(diversity.DiversityStatistics, measure),
    )


class NovelCaptions(metric_types.Metric):
    """Share of hypotheses that are no caption of the training split."""

    def __init__(self, training_captions: str, name: str = "novel_captions") -> None:
        """Names the metric.

        Args:
            training_captions: File with one raw training caption per line.
            name: Metric name.
        """
        super().__init__(_create(_novelty), name=name, training_captions=training_captions)


def _novelty(training_captions: str) -> _Family:
    return _Family(
        f"novelty_statistics:{training_captions}",
        functools.partial(diversity.NoveltyStatistics, training_captions),
        diversity.NoveltyStatistics.novel_captions,
    )


for _metric in (CorpusBleu, RougeL, CiderD, Meteor, CaptionDiversity, NovelCaptions):
    metric_types.register_metric(_metric)
