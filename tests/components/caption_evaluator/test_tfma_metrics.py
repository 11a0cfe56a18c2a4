"""The metrics through TFMA: configuration, slices, thresholds, a second model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_analysis as tfma
from apache_beam.testing import util
from google.protobuf import text_format
from tensorflow_model_analysis.api import types
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.proto import config_pb2

from tfx_captioner.components.caption_evaluator import specs, tfma_metrics
from tfx_captioner.metrics import diversity, scoring
from tfx_captioner.metrics.cider import DocumentFrequencies

# Image id, references, caption of the candidate, caption of the baseline.
ROWS = [
    ("0", ["A dog runs in the grass .", "The dog is running ."], "a dog runs in grass", "a dog"),
    ("1", ["A man sits on a bench .", "A man .", "Some man ."], "a man sits on the bench", "a cat"),
    ("2", ["Two girls eat ice-cream ."], "two girls eat ice-cream", "two girls with a"),
    ("3", ["A boy's red ball (new) .", "A ball ."], "a boy <unk> a red ball", "a red ball"),
]
CANDIDATE = {row[0]: row[2] for row in ROWS}
BASELINE = {row[0]: row[3] for row in ROWS}
# pycocoevalcap 1.2 with its own tokenizer, for the candidate.
BLEU_4 = 0.5153356826227257
ROUGE_L = 0.9121506373810521
CIDER_D = 4.441264852298199
REFERENCES = {row[0]: row[1] for row in ROWS}


def example(row: tuple[str, list[str], str, str]) -> bytes:
    image_id, references, candidate, baseline = row
    values = {
        "references": references,
        "candidate": [candidate],
        "baseline": [baseline],
        "parity": ["odd" if int(image_id) % 2 else "even"],
    }
    features = {
        name: tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[text.encode() for text in texts])
        )
        for name, texts in values.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def model(name: str, **options: Any) -> config_pb2.ModelSpec:
    return config_pb2.ModelSpec(
        name=name,
        label_key="references",
        prediction_key=name,
        model_type="materialized_prediction",
        **options,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("training")
    frequencies = folder / "document_frequencies.gz"
    DocumentFrequencies.of([["a dog", "a dog runs"], ["a man sits"], ["two girls"]]).save(
        frequencies
    )
    training = folder / "captions.txt"
    training.write_text("Two girls eat ice-cream .\n", encoding="utf-8")
    return {"document_frequencies": frequencies, "training_captions": training}


@pytest.fixture(scope="module")
def results(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tfma")
    with tf.io.TFRecordWriter(str(folder / "data.tfrecord")) as writer:
        for row in ROWS:
            writer.write(example(row))
    threshold = text_format.Parse(
        """slicing_specs {} threshold {
             value_threshold { lower_bound { value: 0.9 } }
             change_threshold { absolute { value: 0 } direction: HIGHER_IS_BETTER } }""",
        config_pb2.PerSliceMetricThreshold(),
    )
    metrics = specs.metrics_spec(**files, with_meteor=False)
    for metric in metrics:
        if '"bleu_1"' in metric.config:
            metric.per_slice_thresholds.append(threshold)
    config = config_pb2.EvalConfig(
        model_specs=[model("candidate"), model("baseline", is_baseline=True)],
        slicing_specs=[
            config_pb2.SlicingSpec(),
            config_pb2.SlicingSpec(feature_keys=["parity"]),
        ],
        metrics_specs=[config_pb2.MetricsSpec(metrics=metrics)],
    )
    output = folder / "output"
    found = tfma.run_model_analysis(
        eval_shared_model=[
            types.EvalSharedModel(
                model_path=str(folder),  # never loaded: captions are features of the examples
                model_name=name,
                model_type="materialized_prediction",
                is_baseline=name == "baseline",
            )
            for name in ("candidate", "baseline")
        ],
        eval_config=config,
        data_location=str(folder / "data.tfrecord"),
        output_path=str(output),
    )
    candidate, baseline = found.get_results()
    validation = tfma.load_validation_result(str(output))
    return {"candidate": candidate, "baseline": baseline, "validation": validation}


def value(result: tfma.EvalResult, metric: str, where: tuple = ()) -> float:
    by_slice = dict(result.slicing_metrics)
    return by_slice[where][""][""][metric]["doubleValue"]


@pytest.mark.parametrize(("name", "captions"), [("candidate", CANDIDATE), ("baseline", BASELINE)])
def test_equal_to_scoring_in_memory(
    results: dict[str, Any], files: dict[str, Path], name: str, captions: dict[str, str]
) -> None:
    frequencies = DocumentFrequencies.load(files["document_frequencies"])
    expected = scoring.score(
        REFERENCES, captions, with_meteor=False, document_frequencies=frequencies
    )
    assert {metric: value(results[name], metric) for metric in expected} == expected


def test_values_of_the_overall_slice(results: dict[str, Any]) -> None:
    candidate = results["candidate"]
    assert value(candidate, "example_count") == 4
    assert value(candidate, "mean_caption_length") == 5.25
    assert value(candidate, "unknown_word_captions") == 0.25
    assert value(candidate, "novel_captions") == 0.75
    assert value(candidate, "dangling_captions") == 0.0
    assert value(results["baseline"], "dangling_captions") == 0.25
    assert value(candidate, "bleu_4") == pytest.approx(BLEU_4, rel=1e-12)
    assert value(candidate, "rouge_l") == pytest.approx(ROUGE_L, rel=1e-12)
    assert value(candidate, "cider_d") == pytest.approx(CIDER_D, rel=1e-12)


def test_slices_see_their_own_images_only(results: dict[str, Any]) -> None:
    odd = ["1", "3"]
    expected = scoring.score(
        {key: REFERENCES[key] for key in odd},
        {key: CANDIDATE[key] for key in odd},
        with_meteor=False,
    )
    where = (("parity", "odd"),)
    assert value(results["candidate"], "example_count", where) == 2
    assert {metric: value(results["candidate"], metric, where) for metric in expected} == expected


def test_difference_to_the_baseline(results: dict[str, Any]) -> None:
    candidate, baseline = results["candidate"], results["baseline"]
    difference = value(candidate, "cider_d") - value(baseline, "cider_d")
    assert value(candidate, "cider_d_diff") == difference


def test_thresholds_compare_values_and_changes(results: dict[str, Any]) -> None:
    validation = results["validation"]
    assert not validation.validation_ok
    failures = [
        failure for part in validation.metric_validations_per_slice for failure in part.failures
    ]
    (failure,) = failures
    assert failure.metric_key.name == "bleu_1"
    assert failure.metric_threshold.HasField("value_threshold")
    assert failure.metric_value.double_value.value == value(results["candidate"], "bleu_1")


def combine(
    metric: metric_types.Metric, inputs: Sequence[metric_types.StandardMetricInputs]
) -> dict:
    """Runs a metric's combiner by hand."""
    statistics, derived = metric.computations()
    combiner = statistics.combiner
    accumulators = []
    for element in inputs:
        accumulators.append(combiner.add_input(combiner.create_accumulator(), element))
    output = combiner.extract_output(combiner.merge_accumulators(accumulators))
    return derived.result(output)


def inputs(references: list[Any], caption: list[Any]) -> metric_types.StandardMetricInputs:
    return metric_util.to_standard_metric_inputs(
        {
            "labels": np.array(references, object),
            "predictions": np.array(caption, object),
            "example_weights": np.array([1.0]),
        }
    )


def test_bytes_and_text_are_the_same() -> None:
    metric = tfma_metrics.CorpusBleu("bleu_1", max_order=1)
    key = metric_types.MetricKey("bleu_1", example_weighted=False)
    as_bytes = combine(metric, [inputs(["Ein Café".encode()], ["ein café".encode()])])
    as_text = combine(metric, [inputs(["Ein Café"], ["ein café"])])
    assert as_bytes[key] == as_text[key] == pytest.approx(1.0)


def test_no_image_is_nan() -> None:
    metric = tfma_metrics.RougeL()
    statistics, derived = metric.computations()
    combiner = statistics.combiner
    output = combiner.extract_output(combiner.create_accumulator())
    assert math.isnan(
        derived.result(output)[metric_types.MetricKey("rouge_l", example_weighted=False)]
    )


@pytest.mark.parametrize(
    ("references", "caption", "message"),
    [
        ([], ["a dog"], "at least one reference caption in the label feature. Received: none"),
        (["a dog"], ["a", "dog"], "exactly one caption in the prediction feature. Received: 2"),
    ],
)
def test_images_that_cannot_be_scored_are_named(
    references: list[str], caption: list[str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        combine(tfma_metrics.CorpusBleu(), [inputs(references, caption)])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: tfma_metrics.CorpusBleu(max_order=5), "`max_order` must be 1 to 4. Received: 5."),
        (lambda: tfma_metrics.CaptionDiversity("variety"), "`measure` must be one of distinct_1"),
    ],
)
def test_invalid_options(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_statistics_are_shared_between_metrics_and_apart_between_options() -> None:
    def statistics(metric: metric_types.Metric) -> metric_types.MetricComputation:
        return metric.computations()[0]

    one, two = tfma_metrics.CorpusBleu("bleu_1", 1), tfma_metrics.CorpusBleu("bleu_2", 2)
    assert statistics(one) == statistics(two)
    published, train = tfma_metrics.CiderD(), tfma_metrics.CiderD("train", "a.gz")
    assert statistics(published) != statistics(train)
    assert statistics(train) != statistics(tfma_metrics.CiderD("other", "b.gz"))


def test_combiner_runs_in_beam_in_bundles() -> None:
    combiner = tfma_metrics.CorpusBleu("bleu_1", 1).computations()[0].combiner
    elements = [inputs(references, [CANDIDATE[key]]) for key, references in REFERENCES.items()]

    def check(outputs: list[dict]) -> None:
        (statistics,) = outputs[0].values()
        assert statistics.hypothesis_length == 21

    with beam.Pipeline() as pipeline:
        combined = pipeline | beam.Create(elements) | beam.CombineGlobally(combiner).with_fanout(3)
        util.assert_that(combined, check)


def test_specs_name_what_they_leave_out() -> None:
    reasons = specs.unavailable_metrics()
    names = {config.config.split('"')[3] for config in specs.metrics_spec()}
    assert {"cider_d_train_idf", "novel_captions"} <= reasons.keys()
    assert not names & reasons.keys()
    assert {"example_count", "bleu_4", "rouge_l", "cider_d", *diversity.MEASURES} <= names
