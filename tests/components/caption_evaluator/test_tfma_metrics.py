"""The metrics through TFMA: sums over statistics, slices, thresholds, a second model."""

from __future__ import annotations

import math
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
import tensorflow_model_analysis as tfma
from apache_beam.testing import util
from tensorflow_model_analysis.metrics import metric_types, metric_util

from tfx_captioner.components.caption_evaluator import evaluation
from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
from tfx_captioner.components.caption_evaluator.tfma_metrics import CaptionMetric, metrics_specs
from tfx_captioner.components.statistics_files import STATISTICS_FILE, write_statistics
from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import ImageStatistics, image_statistics, score

# Image id, references, caption of the candidate, caption of the baseline.
ROWS = [
    ("0", ["A dog runs in the grass .", "The dog is running ."], "a dog runs in grass", "a dog"),
    ("1", ["A man sits on a bench .", "A man .", "Some man ."], "a man sits on the bench", "a cat"),
    ("2", ["Two girls eat ice-cream ."], "two girls eat ice-cream", "two girls with a"),
    ("3", ["A boy's red ball (new) .", "A ball ."], "a boy <unk> a red ball", "a red ball"),
]
REFERENCES = {row[0]: row[1] for row in ROWS}
CAPTIONS = {
    "candidate": {row[0]: row[2] for row in ROWS},
    "baseline": {row[0]: row[3] for row in ROWS},
}
PARITY = {"parity": ["even", "odd", "even", "odd"]}
TRAINING = [["a dog", "a dog runs"], ["a man sits"], ["Two girls eat ice-cream ."]]
# pycocoevalcap 1.2 with its own tokenizer, for the candidate.
BLEU_4 = 0.5153356826227257
ROUGE_L = 0.9121506373810521
CIDER_D = 4.441264852298199


@pytest.fixture(scope="module")
def statistics() -> dict[str, ImageStatistics]:
    references = TokenizedReferences.of(REFERENCES, slices=PARITY, training_captions=TRAINING)
    return {
        name: image_statistics(references, captions, with_meteor=False)
        for name, captions in CAPTIONS.items()
    }


@pytest.fixture(scope="module")
def files(
    statistics: dict[str, ImageStatistics], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    paths = {}
    for name, of in statistics.items():
        folder = tmp_path_factory.mktemp(name)
        write_statistics(str(folder), of)
        paths[name] = str(folder / STATISTICS_FILE)
    return paths


@pytest.fixture(scope="module")
def results(
    statistics: dict[str, ImageStatistics],
    files: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("tfma")
    examples, output = str(folder / "rows.gz"), str(folder / "output")
    evaluation.write_examples(examples, statistics["candidate"])
    config = evaluation.eval_config(
        EvaluatorConfig(thresholds={"bleu_1": 0.9}, change_thresholds={"bleu_1": 0.0}),
        metrics_specs(
            list(statistics["candidate"].corpus()), files["candidate"], files["baseline"]
        ),
        PARITY,
        with_baseline=True,
        compare=True,
    )
    with beam.Pipeline() as pipeline:
        evaluation.run_tfma(pipeline, examples, config, output)
    return {
        "candidate": tfma.load_eval_result(output, model_name="candidate"),
        "baseline": tfma.load_eval_result(output, model_name="baseline"),
        "validation": tfma.load_validation_result(output),
    }


def value(result: tfma.EvalResult, metric: str, where: tuple = ()) -> float:
    by_slice = dict(result.slicing_metrics)
    return by_slice[where][""][""][metric]["doubleValue"]


@pytest.mark.parametrize("name", CAPTIONS)
def test_equal_to_scoring_in_memory(results: dict[str, Any], name: str) -> None:
    expected = score(REFERENCES, CAPTIONS[name], with_meteor=False, training_captions=TRAINING)
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
    expected = score(
        {key: REFERENCES[key] for key in odd},
        {key: CAPTIONS["candidate"][key] for key in odd},
        with_meteor=False,
    )
    where = (("parity", "odd"),)
    assert value(results["candidate"], "example_count", where) == 2
    assert {
        metric: value(results["candidate"], metric, where) for metric in expected
    } == pytest.approx(expected, abs=1e-12)


def test_difference_to_the_baseline(results: dict[str, Any]) -> None:
    candidate, baseline = results["candidate"], results["baseline"]
    difference = value(candidate, "cider_d") - value(baseline, "cider_d")
    assert value(candidate, "cider_d_diff") == difference


def test_thresholds_compare_values_and_changes(results: dict[str, Any]) -> None:
    validation = results["validation"]
    assert not validation.validation_ok
    (failure,) = [
        failure for part in validation.metric_validations_per_slice for failure in part.failures
    ]
    assert failure.metric_key.name == "bleu_1"
    assert failure.metric_threshold.HasField("value_threshold")
    assert failure.metric_value.double_value.value == value(results["candidate"], "bleu_1")


def inputs(row: int) -> metric_types.StandardMetricInputs:
    return metric_util.to_standard_metric_inputs(
        {
            "labels": np.array([row]),
            "predictions": np.array([row]),
            "example_weights": np.array([1.0]),
        }
    )


def test_no_image_is_nan(files: dict[str, str]) -> None:
    scores, derived = CaptionMetric("rouge_l", files["candidate"]).computations()
    output = scores.combiner.extract_output(scores.combiner.create_accumulator())
    assert math.isnan(
        derived.result(output)[metric_types.MetricKey("rouge_l", example_weighted=False)]
    )


def test_metrics_share_their_sums_unless_the_statistics_are_others(files: dict[str, str]) -> None:
    def sums(metric: CaptionMetric) -> metric_types.MetricComputation:
        return metric.computations()[0]

    bleu, rouge = (CaptionMetric(name, files["candidate"]) for name in ("bleu_1", "rouge_l"))
    assert sums(bleu) == sums(rouge)
    assert sums(bleu) != sums(CaptionMetric("bleu_1", files["baseline"]))


def test_combiner_runs_in_beam_in_bundles(
    files: dict[str, str], statistics: dict[str, ImageStatistics]
) -> None:
    combiner = CaptionMetric("bleu_1", files["candidate"]).computations()[0].combiner

    def check(outputs: list[dict]) -> None:
        (scores,) = outputs[0].values()
        assert scores == {"example_count": 4, **statistics["candidate"].corpus()}

    with beam.Pipeline() as pipeline:
        rows = pipeline | beam.Create([inputs(row) for row in (3, 1, 0, 2)])
        util.assert_that(rows | beam.CombineGlobally(combiner).with_fanout(3), check)


def test_weights_are_refused(files: dict[str, str]) -> None:
    metric = CaptionMetric("bleu_1", files["candidate"])
    with pytest.raises(ValueError, match="example weights are not supported"):
        metric.computations(example_weighted=True)
