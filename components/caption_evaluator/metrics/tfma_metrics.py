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
from typing import Any, Protocol, TypeVar

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.proto import config_pb2

from components.caption_evaluator.metrics import bleu, ptb

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

    def create_accumulator(self) -> Statistics:
        return self._factory()

    def add_input(
        self, accumulator: Statistics, element: metric_types.StandardMetricInputs
    ) -> Statistics:
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
            accumulator.add(ptb.tokenize(hypothesis), [ptb.tokenize(text) for text in references])
        return accumulator

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


def _computations(
    name: str,
    statistics_name: str,
    factory: Callable[[], Statistics],
    value: Callable[[Any], float],
    eval_config: config_pb2.EvalConfig | None,
    model_name: str,
    output_name: str,
    example_weighted: bool,
) -> metric_types.MetricComputations:
    """The shared statistics and, derived from them, one metric."""
    if example_weighted:
        raise ValueError(f"{name} counts every image once; example weights are not supported.")
    statistics_key = metric_types.MetricKey(
        f"_{statistics_name}", model_name=model_name, output_name=output_name
    )
    key = metric_types.MetricKey(name, model_name=model_name, output_name=output_name)

    def result(metrics: Metrics) -> Metrics:
        return {key: float(value(metrics[statistics_key]))}

    return [
        metric_types.MetricComputation(
            keys=[statistics_key],
            preprocessors=None,
            combiner=_CaptionStatisticsCombiner(statistics_key, eval_config, factory),
        ),
        metric_types.DerivedMetricComputation(keys=[key], result=result),
    ]


def _bleu(
    name: str,
    max_order: int,
    eval_config: config_pb2.EvalConfig | None = None,
    model_name: str = "",
    output_name: str = "",
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    return _computations(
        name,
        "bleu_statistics",
        bleu.BleuStatistics,
        functools.partial(_bleu_of_order, max_order),
        eval_config,
        model_name,
        output_name,
        example_weighted,
    )


def _bleu_of_order(max_order: int, statistics: bleu.BleuStatistics) -> float:
    return bleu.bleu_scores(statistics)[max_order - 1]


class CorpusBleu(metric_types.Metric):
    """Corpus BLEU up to n-grams of order `max_order`, closest reference length."""

    def __init__(self, name: str = "bleu_4", max_order: int = 4) -> None:
        """Names the metric and sets its longest n-gram, 1 to 4."""
        if max_order not in range(1, bleu.MAX_ORDER + 1):
            raise ValueError(f"`max_order` must be 1 to {bleu.MAX_ORDER}. Received: {max_order}.")
        super().__init__(
            metric_util.merge_per_key_computations(_bleu), name=name, max_order=max_order
        )


metric_types.register_metric(CorpusBleu)
