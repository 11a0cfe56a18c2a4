"""Caption metrics as TFMA metrics that add up per-image statistics.

The captions are tokenised and counted before TFMA sees them (`components.caption_scorer`). An
Example holds rows of the statistics, of images that are in the same slices, and the values of those
slices; the one combiner gathers the rows of each slice, and every metric is a sum over them. TFMA's
own `BLEU` and `ROUGE` cannot be used on tf.Examples: they take the characters of a reference for
references, return tuples which thresholds cannot compare, and know no model name, so that a
baseline overwrites the candidate.

Values are plain floats, NaN where there was nothing to score.
"""

from __future__ import annotations

import functools
import json
import os
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.proto import config_pb2

from tfx_captioner.components.statistics_files import read_statistics
from tfx_captioner.metrics.statistics import ImageStatistics

# Names of the two models in TFMA's configuration.
CANDIDATE, BASELINE = "candidate", "baseline"
# Number of images; TFMA's own metric of this name counts Examples.
EXAMPLE_COUNT = "example_count"

Metrics = dict[metric_types.MetricKey, Any]


@functools.lru_cache(maxsize=2)
def _statistics(path: str) -> ImageStatistics:
    folder, name = os.path.split(path)
    return read_statistics(folder, name)


class _RowsCombiner(beam.CombineFn):
    """Gathers the rows of a slice, and scores them together.

    TFMA takes two computations for one when class name and keys agree, so the file of the
    statistics is part of the key's name.
    """

    def __init__(
        self,
        key: metric_types.MetricKey,
        eval_config: config_pb2.EvalConfig | None,
        statistics: str,
    ) -> None:
        self._key = key
        self._eval_config = eval_config
        self._statistics = statistics

    def create_accumulator(self) -> array[int]:
        return array("L")

    def add_input(
        self, accumulator: array[int], element: metric_types.StandardMetricInputs
    ) -> array[int]:
        for _, rows, _ in metric_util.to_label_prediction_example_weight(
            element,
            eval_config=self._eval_config,
            model_name=self._key.model_name,
            output_name=self._key.output_name,
            flatten=False,
            squeeze=False,
            allow_none=True,
        ):
            accumulator.extend(np.ravel(rows).astype(int).tolist())
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[array[int]]) -> array[int]:
        merged = self.create_accumulator()
        for accumulator in accumulators:
            merged.extend(accumulator)
        return merged

    def extract_output(self, accumulator: array[int]) -> Metrics:
        # In order, so that sums of floats do not depend on how Beam split the images.
        rows = np.sort(np.array(accumulator, np.int64))
        statistics = _statistics(self._statistics)
        part = statistics.rows(rows) if len(rows) else statistics.select([])
        return {self._key: {EXAMPLE_COUNT: len(rows), **part.corpus()}}


def _create(
    name: str,
    statistics: str,
    baseline_statistics: str,
    eval_config: config_pb2.EvalConfig | None = None,
    model_name: str = "",
    output_name: str = "",
    example_weighted: bool = False,
) -> metric_types.MetricComputations:
    """What TFMA calls to have a metric computed."""
    if example_weighted:
        raise ValueError(f"`{name}` counts every image once: example weights are not supported.")
    path = baseline_statistics if model_name == BASELINE else statistics
    scores = metric_types.MetricKey(
        f"_caption_scores:{path}", model_name=model_name, output_name=output_name
    )
    # Thresholds look a metric up by its whole key, this flag included.
    key = metric_types.MetricKey(
        name, model_name=model_name, output_name=output_name, example_weighted=example_weighted
    )

    def result(metrics: Metrics) -> Metrics:
        return {key: float(metrics[scores][name])}

    return [
        metric_types.MetricComputation(
            keys=[scores], preprocessors=None, combiner=_RowsCombiner(scores, eval_config, path)
        ),
        metric_types.DerivedMetricComputation(keys=[key], result=result),
    ]


class CaptionMetric(metric_types.Metric):
    """One of the scores of `metrics.statistics.ImageStatistics.corpus`, or `EXAMPLE_COUNT`.

    Example:

    ```python
    spec = tfma.MetricsSpec(metrics=metrics_specs(["bleu_4"], "eval/image_statistics.npz"))
    ```
    """

    def __init__(self, name: str, statistics: str, baseline_statistics: str = "") -> None:
        """Names the metric.

        Args:
          name: Name of the score, such as `bleu_4`.
          statistics: File of per-image statistics of the candidate.
          baseline_statistics: File of those of the model that TFMA calls `baseline`; empty
            without one.
        """
        super().__init__(
            metric_util.merge_per_key_computations(_create),
            name=name,
            statistics=statistics,
            baseline_statistics=baseline_statistics,
        )


metric_types.register_metric(CaptionMetric)


def metrics_specs(
    names: Sequence[str], statistics: str, baseline_statistics: str = ""
) -> list[config_pb2.MetricConfig]:
    """The number of images and caption metrics, for `tfma.MetricsSpec(metrics=...)`.

    Args:
      names: Names of scores.
      statistics: File of per-image statistics of the candidate.
      baseline_statistics: File of those of the baseline; empty without one.
    """
    files = {"statistics": statistics, "baseline_statistics": baseline_statistics}
    return [
        config_pb2.MetricConfig(
            class_name=CaptionMetric.__name__,
            module=__name__,
            config=json.dumps({"name": name, **files})[1:-1],
        )
        for name in (EXAMPLE_COUNT, *names)
    ]
