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

from components.caption_evaluator.metrics import bleu, cider, diversity, meteor, ptb, rouge

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
    factory: Callable[[], Any],
    value: Callable[[Any], float],
    eval_config: config_pb2.EvalConfig | None,
    model_name: str,
    output_name: str,
    example_weighted: bool,
) -> metric_types.MetricComputations:
    """The shared statistics and, derived from them, one metric."""
    if example_weighted:
        raise ValueError(f"`{name}` counts every image once: example weights are not supported.")
    statistics_key = metric_types.MetricKey(
        f"_{statistics_name}", model_name=model_name, output_name=output_name
    )
    # Thresholds look a metric up by its whole key, this flag included.
    key = metric_types.MetricKey(
        name, model_name=model_name, output_name=output_name, example_weighted=example_weighted
    )

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
    def value(statistics: bleu.BleuStatistics) -> float:
        return bleu.bleu_scores(statistics)[max_order - 1]

    factory = bleu.BleuStatistics
    return _computations(
        name,
        "bleu_statistics",
        factory,
        value,
        eval_config,
        model_name,
        output_name,
        example_weighted,
    )


class CorpusBleu(metric_types.Metric):
    """Corpus BLEU up to n-grams of order `max_order`, closest reference length."""

    def __init__(self, name: str = "bleu_4", max_order: int = 4) -> None:
        """Names the metric and sets its longest n-gram, 1 to 4."""
        if max_order not in range(1, bleu.MAX_ORDER + 1):
            raise ValueError(f"`max_order` must be 1 to {bleu.MAX_ORDER}. Received: {max_order}.")
        super().__init__(
            metric_util.merge_per_key_computations(_bleu), name=name, max_order=max_order
        )


def _rouge_l(
    name: str,
    eval_config: config_pb2.EvalConfig | None = None,
    model_name: str = "",
    output_name: str = "",
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    factory, value = rouge.RougeStatistics, rouge.RougeStatistics.mean
    return _computations(
        name,
        "rouge_l_statistics",
        factory,
        value,
        eval_config,
        model_name,
        output_name,
        example_weighted,
    )


class RougeL(metric_types.Metric):
    """Mean ROUGE-L over images, beta 1.2, precision and recall each the best over references."""

    def __init__(self, name: str = "rouge_l") -> None:
        """Names the metric."""
        super().__init__(metric_util.merge_per_key_computations(_rouge_l), name=name)


def _cider_d(
    name: str,
    document_frequencies: str,
    eval_config: config_pb2.EvalConfig | None = None,
    model_name: str = "",
    output_name: str = "",
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    factory: Callable[[], Any]
    value: Callable[[Any], float]
    if not document_frequencies:
        factory = cider.CiderCorpus
        statistics_name, value = "cider_d_corpus", cider.CiderCorpus.mean
    else:
        factory = functools.partial(cider.TrainIdfCiderStatistics, document_frequencies)
        statistics_name = f"cider_d_statistics:{document_frequencies}"
        value = cider.TrainIdfCiderStatistics.mean
    return _computations(
        name,
        statistics_name,
        factory,
        value,
        eval_config,
        model_name,
        output_name,
        example_weighted,
    )


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
        super().__init__(
            metric_util.merge_per_key_computations(_cider_d),
            name=name,
            document_frequencies=document_frequencies,
        )


def _meteor(
    name: str,
    eval_config: config_pb2.EvalConfig | None = None,
    model_name: str = "",
    output_name: str = "",
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    factory, value = meteor.MeteorStatistics, meteor.MeteorStatistics.score
    return _computations(
        name,
        "meteor_statistics",
        factory,
        value,
        eval_config,
        model_name,
        output_name,
        example_weighted,
    )


class Meteor(metric_types.Metric):
    """METEOR 1.5 of the corpus, by its authors' program: needs Java on every worker."""

    def __init__(self, name: str = "meteor") -> None:
        """Names the metric."""
        super().__init__(metric_util.merge_per_key_computations(_meteor), name=name)


def _diversity(
    name: str,
    measure: str,
    unknown_token: str,
    eval_config: config_pb2.EvalConfig | None = None,
    model_name: str = "",
    output_name: str = "",
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    return _computations(
        name,
        f"diversity_statistics:{unknown_token}",
        functools.partial(diversity.DiversityStatistics, unknown_token=unknown_token),
        getattr(diversity.DiversityStatistics, measure),
        eval_config,
        model_name,
        output_name,
        example_weighted,
    )


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
        if (measure or name) not in diversity.MEASURES:
            raise ValueError(
                f"`measure` must be one of {', '.join(diversity.MEASURES)}. "
                f"Received: {measure or name}."
            )
        super().__init__(
            metric_util.merge_per_key_computations(_diversity),
            name=name,
            measure=measure or name,
            unknown_token=unknown_token,
        )


def _novel_captions(
    name: str,
    training_captions: str,
    eval_config: config_pb2.EvalConfig | None = None,
    model_name: str = "",
    output_name: str = "",
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    return _computations(
        name,
        f"novelty_statistics:{training_captions}",
        functools.partial(diversity.NoveltyStatistics, training_captions),
        diversity.NoveltyStatistics.novel_captions,
        eval_config,
        model_name,
        output_name,
        example_weighted,
    )


class NovelCaptions(metric_types.Metric):
    """Share of hypotheses that are no caption of the training split."""

    def __init__(self, training_captions: str, name: str = "novel_captions") -> None:
        """Names the metric.

        Args:
            training_captions: File with one raw training caption per line.
            name: Metric name.
        """
        super().__init__(
            metric_util.merge_per_key_computations(_novel_captions),
            name=name,
            training_captions=training_captions,
        )


for _metric in (CorpusBleu, RougeL, CiderD, Meteor, CaptionDiversity, NovelCaptions):
    metric_types.register_metric(_metric)
