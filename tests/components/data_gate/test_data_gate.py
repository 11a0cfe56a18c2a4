"""The gate opens for good data, and names anomaly, feature and split of bad data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_data_validation as tfdv
from tensorflow_data_validation.statistics.stats_impl import generate_statistics_in_memory
from tfx.components.example_validator.executor import Executor as ValidatorExecutor
from tfx.components.statistics_gen.stats_artifact_utils import BINARY_PB_BASENAME
from tfx.types import Artifact, artifact_utils, standard_artifacts
from tfx.utils import io_utils
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

import schema as schema_room
from tests.artifacts import make_artifact, raw_example
from tfx_captioner.components.artifacts import STATISTICS_ID, DataApproval
from tfx_captioner.components.data_gate.executor import (
    REPORT,
    DataAnomalyError,
    Executor,
    with_drift_limits,
)

SCHEMA_FOLDER = Path(schema_room.__file__).parent
SCHEMA = io_utils.SchemaReader().read(str(SCHEMA_FOLDER / "schema.pbtxt"))


def statistics_of(folder: Path, **splits: list[tf.train.Example]) -> Artifact:
    """ExampleStatistics of examples, as StatisticsGen writes them."""
    artifact = make_artifact(standard_artifacts.ExampleStatistics, folder, list(splits))
    for split, examples in splits.items():
        batch = ExamplesToRecordBatchDecoder().DecodeBatch(
            [example.SerializeToString() for example in examples]
        )
        statistics = generate_statistics_in_memory(batch, tfdv.StatsOptions(schema=SCHEMA))
        target = Path(artifact_utils.get_split_uri([artifact], split))
        target.mkdir(parents=True)
        (target / BINARY_PB_BASENAME).write_bytes(statistics.SerializeToString())
    return artifact


def pass_gate(
    folder: Path,
    statistics: Artifact,
    previous: Artifact | None = None,
    drift: dict[str, float] | None = None,
) -> dict[str, object]:
    """Runs ExampleValidator and the gate behind it; returns what the gate wrote."""
    schema = make_artifact(standard_artifacts.Schema, folder / "schema")
    io_utils.copy_file(
        str(SCHEMA_FOLDER / "schema.pbtxt"), f"{schema.uri}/schema.pbtxt", overwrite=True
    )
    anomalies = make_artifact(standard_artifacts.ExampleAnomalies, folder / "anomalies")
    approval = make_artifact(DataApproval, folder / "approval")
    inputs = {"statistics": [statistics], "schema": [schema]}
    ValidatorExecutor().Do(inputs, {"anomalies": [anomalies]}, {})
    Executor().Do(
        inputs | {"anomalies": [anomalies], "previous_statistics": [previous] if previous else []},
        {"approval": [approval]},
        {"drift": json.dumps(drift or {}), "code_fingerprint": ""},
    )
    assert approval.get_int_custom_property(STATISTICS_ID) == statistics.id
    return json.loads((folder / "approval" / REPORT).read_text())


def test_good_data_is_approved(tmp_path: Path) -> None:
    statistics = statistics_of(tmp_path / "statistics", train=[raw_example()], val=[raw_example()])
    report = pass_gate(tmp_path, statistics)
    assert report == {"splits": ["train", "val"], "anomalies": 0, "compared_with_previous": False}


@pytest.mark.parametrize(
    ("changed", "feature"),
    [
        ({"caption__text": None}, "caption/text"),
        ({"image__height": [2]}, "image/height"),
        ({"image__width": [b"wide"]}, "image/width"),
        ({"caption__text": [b"a dog"] * 65}, "caption/text"),
        ({"surprise": [1]}, "surprise"),
    ],
)
def test_bad_data_is_named(tmp_path: Path, changed: dict[str, object], feature: str) -> None:
    statistics = statistics_of(
        tmp_path / "statistics", train=[raw_example()], val=[raw_example(**changed)]
    )
    with pytest.raises(DataAnomalyError) as caught:
        pass_gate(tmp_path, statistics)
    assert f"split val, feature {feature}:" in str(caught.value)
    assert "split train" not in str(caught.value)
    assert not (tmp_path / "approval").exists()


def test_drift_beyond_the_limit_stops_and_within_it_passes(tmp_path: Path) -> None:
    flickr = [raw_example()] * 10
    mixed = [raw_example()] * 7 + [raw_example(image__source=[b"coco"])] * 3
    previous = statistics_of(tmp_path / "previous", train=flickr)
    current = statistics_of(tmp_path / "current", train=mixed)
    with pytest.raises(
        DataAnomalyError, match="against the data approved before, feature image/source"
    ):
        pass_gate(tmp_path / "strict", current, previous, {"image/source": 0.2})
    report = pass_gate(tmp_path / "lax", current, previous, {"image/source": 0.4})
    assert report["compared_with_previous"] is True


def test_drift_of_a_number_is_measured_by_its_distribution(tmp_path: Path) -> None:
    small = [raw_example(image__width=[100 + step]) for step in range(10)]
    large = [raw_example(image__width=[1000 + step]) for step in range(10)]
    previous = statistics_of(tmp_path / "previous", train=small)
    current = statistics_of(tmp_path / "current", train=large)
    with pytest.raises(DataAnomalyError, match="feature image/width"):
        pass_gate(tmp_path, current, previous, {"image/width": 0.3})


def test_a_first_run_has_nothing_to_drift_from(tmp_path: Path) -> None:
    statistics = statistics_of(tmp_path / "statistics", train=[raw_example()])
    report = pass_gate(tmp_path, statistics, drift={"image/source": 0.01})
    assert report["compared_with_previous"] is False


def test_drift_of_an_unknown_feature_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"features of the schema: image/id.*'image/depth'"):
        with_drift_limits(SCHEMA, {"image/depth": 0.1})
