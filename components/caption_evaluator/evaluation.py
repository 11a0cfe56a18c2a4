"""TFMA over captions that are already counted: scores, slices, thresholds and the comparison.

With `model_type: "materialized_prediction"` TFMA takes predictions out of the examples and loads no
model. Here the prediction is rows of images in the per-image statistics (`tfma_metrics`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import apache_beam as beam
import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis import constants as tfma_constants
from tensorflow_model_analysis.proto import config_pb2
from tfx_bsl.tfxio import tf_example_record

from tfx_captioner.components.caption_evaluator.blessing import FailedThreshold
from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
from tfx_captioner.components.caption_evaluator.tfma_metrics import BASELINE, CANDIDATE
from tfx_captioner.components.scores import OVERALL, SliceScores
from tfx_captioner.metrics.statistics import ImageStatistics

ROW_KEY = "row"
_EXAMPLES_FILE = "image_rows.tfrecord.gz"


@dataclass(frozen=True)
class Results:
    """Scores per slice; those of the baseline are empty without one."""

    candidate: SliceScores
    baseline: SliceScores


def write_examples(path: str, statistics: ImageStatistics) -> None:
    """Writes an Example for all images of the same slices: their rows, and the slices' values.

    So what TFMA does for each Example and slice is done for hundreds and not for every image.
    """
    slices = statistics.slices
    groups: dict[tuple[str, ...], list[int]] = {}
    for row in range(len(statistics.ids)):
        groups.setdefault(tuple(values[row] for values in slices.values()), []).append(row)
    with tf.io.TFRecordWriter(path, options="GZIP") as writer:
        for values, rows in groups.items():
            example = tf.train.Example()
            example.features.feature[ROW_KEY].int64_list.value.extend(rows)
            for name, value in zip(slices, values, strict=True):
                example.features.feature[name].bytes_list.value.append(value.encode())
            writer.write(example.SerializeToString())


def eval_config(
    config: EvaluatorConfig,
    metrics: Sequence[config_pb2.MetricConfig],
    slices: Iterable[str],
    *,
    with_baseline: bool,
    compare: bool,
) -> config_pb2.EvalConfig:
    """TFMA's configuration of the evaluation.

    Args:
      config: Thresholds.
      metrics: Metrics to compute; thresholds are put beside them.
      slices: Slicing features of the examples.
      with_baseline: There are statistics of a baseline model too.
      compare: Ask for the change thresholds too; needs a baseline.
    """
    model_specs = [_model_spec(CANDIDATE)]
    if with_baseline:
        model_specs.append(_model_spec(BASELINE, is_baseline=True))
    judged = [_with_thresholds(metric, config, compare) for metric in metrics]
    return config_pb2.EvalConfig(
        model_specs=model_specs,
        metrics_specs=[config_pb2.MetricsSpec(metrics=judged)],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            *(config_pb2.SlicingSpec(feature_keys=[name]) for name in slices),
        ],
    )


def _with_thresholds(
    metric: config_pb2.MetricConfig, config: EvaluatorConfig, compare: bool
) -> config_pb2.MetricConfig:
    """The metric with its bounds over all images and in the slices that have rules.

    A plain `threshold` would hold in every slice, a slice of one image included. Thresholds of a
    MetricsSpec, beside its metrics, are looked up under a key that no metric of ours has.
    """
    name = json.loads(f"{{{metric.config}}}")["name"]
    result = config_pb2.MetricConfig()
    result.CopyFrom(metric)
    for name_of_slice, rules in {OVERALL: config, **config.slice_rules}.items():
        threshold = config_pb2.MetricThreshold()
        if name in rules.thresholds:
            threshold.value_threshold.lower_bound.value = rules.thresholds[name]
        if compare and name in rules.change_thresholds:
            threshold.change_threshold.direction = config_pb2.MetricDirection.HIGHER_IS_BETTER
            threshold.change_threshold.absolute.value = rules.change_thresholds[name]
        if threshold.ByteSize():
            result.per_slice_thresholds.add(
                slicing_specs=[_slicing_spec(name_of_slice)], threshold=threshold
            )
    return result


def _slicing_spec(name: str) -> config_pb2.SlicingSpec:
    """The inverse of `slice_name`, of one feature."""
    if name == OVERALL:
        return config_pb2.SlicingSpec()
    feature, _, value = name.partition(": ")
    return config_pb2.SlicingSpec(feature_values={feature: value})


def _model_spec(name: str, is_baseline: bool = False) -> config_pb2.ModelSpec:
    return config_pb2.ModelSpec(
        name=name,
        label_key=ROW_KEY,
        prediction_key=ROW_KEY,
        model_type=tfma_constants.MATERIALIZED_PREDICTION,
        is_baseline=is_baseline,
    )


def run_tfma(
    pipeline: beam.Pipeline, examples_path: str, config: config_pb2.EvalConfig, output_path: str
) -> None:
    """Adds the evaluation to a Beam pipeline; its results are there when the pipeline has run.

    Args:
      pipeline: Beam pipeline.
      examples_path: File written by `write_examples`.
      config: Made by `eval_config`.
      output_path: Folder for what `tfma.load_eval_result` and `load_validation_result` read.
    """
    config = tfma.utils.update_eval_config_with_defaults(
        config, has_baseline=len(config.model_specs) > 1, rubber_stamp=False
    )
    tfma.utils.verify_eval_config(config)
    # The path is never opened: predictions are in the examples. TFMA wants a model all the same,
    # and without one would check no thresholds.
    models = [
        tfma.default_eval_shared_model(
            eval_saved_model_path=output_path, model_name=spec.name, eval_config=config
        )
        for spec in config.model_specs
    ]
    records = tf_example_record.TFExampleRecord(
        file_pattern=examples_path,
        telemetry_descriptors=["CaptionEvaluator"],
        raw_record_column_name=tfma_constants.ARROW_INPUT_COLUMN,
    )
    _ = (
        pipeline
        | "ReadImageRows" >> records.BeamSource()
        | "ExtractEvaluateAndWriteResults"
        >> tfma.ExtractEvaluateAndWriteResults(
            eval_shared_model=models if len(models) > 1 else models[0],
            eval_config=config,
            output_path=output_path,
        )
    )


def read_scores(output_path: str, *, with_baseline: bool) -> Results:
    """Scores in the folder that `run_tfma` wrote, over all images first.

    Args:
      output_path: The folder.
      with_baseline: Whether two models were evaluated.
    """
    if not with_baseline:
        # TFMA drops the name of a single model.
        return Results(_scores(output_path, None), {})
    return Results(_scores(output_path, CANDIDATE), _scores(output_path, BASELINE))


def _scores(output_path: str, model_name: str | None) -> SliceScores:
    result = tfma.load_eval_result(output_path, model_name=model_name)
    scores = {
        slice_name(key): {
            metric: float(value["doubleValue"])
            for metric, value in metrics.items()
            if "doubleValue" in value and not metric.endswith("_diff")
        }
        for key, metrics in result.get_metrics_for_all_slices().items()
    }
    return dict(sorted(scores.items(), key=lambda item: (item[0] != OVERALL, item[0])))


def slice_name(key: Sequence[tuple[str, str]]) -> str:
    """A slice key of TFMA in words, such as `people: yes`."""
    return ", ".join(f"{name}: {value}" for name, value in key) or OVERALL


def failed_thresholds(output_path: str) -> set[FailedThreshold]:
    """What TFMA's validation found wanting; empty where all passed."""
    validation = tfma.load_validation_result(output_path)
    return {
        FailedThreshold(
            slice_name(
                [
                    (key.column, key.bytes_value.decode())
                    for key in per_slice.slice_key.single_slice_keys
                ]
            ),
            failure.metric_key.name,
            failure.metric_key.is_diff,
        )
        for per_slice in validation.metric_validations_per_slice
        for failure in per_slice.failures
    }


def examples_path(evaluation_uri: str) -> str:
    """File of the examples of an evaluation."""
    return os.path.join(evaluation_uri, _EXAMPLES_FILE)
