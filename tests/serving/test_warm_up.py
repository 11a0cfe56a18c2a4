"""Warm-up requests are answered before a version is available, as TF Serving does it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tfx_captioner.serving.local.servable import Servable
from tfx_captioner.serving.local.status import StatusError

WARM_UP = "assets.extra/tf_serving_warmup_requests"


class Counter(tf.Module):
    """Says how often it was asked; does not answer to negative numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = tf.Variable(0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def count(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, message="negative")]):
            return {"asked": self.asked.assign_add(1)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    module = Counter()
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.count})
    (tmp_path / "assets.extra").mkdir()
    return tmp_path


def _write_warm_up(model: Path, values: Sequence[float], signature: str = "") -> None:
    records = []
    for value in values:
        log = prediction_log_pb2.PredictionLog()
        log.predict_log.request.model_spec.signature_name = signature
        log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto([value]))
        records.append(log.SerializeToString())
    _write_records(model, records)


def _write_records(model: Path, records: Sequence[bytes]) -> None:
    with tf.io.TFRecordWriter(str(model / WARM_UP)) as writer:
        for record in records:
            writer.write(record)


def _asked(servable: Servable) -> int:
    return int(servable.run("serving_default", {"x": np.float32([1])}, ["asked"])["asked"])


def test_all_requests_of_the_file_have_been_answered_when_it_is_loaded(model: Path) -> None:
    _write_warm_up(model, [1.0, 2.0, 3.0])
    assert _asked(Servable(model)) == 4


def test_without_a_file_nothing_is_asked(model: Path) -> None:
    assert _asked(Servable(model)) == 1


def test_a_request_that_fails_fails_the_load(model: Path) -> None:
    _write_warm_up(model, [1.0, -1.0])
    with pytest.raises(StatusError, match=r"INVALID_ARGUMENT: .*negative"):
        Servable(model)


def test_more_than_a_thousand_are_refused(model: Path) -> None:
    _write_warm_up(model, [1.0] * 1001)
    with pytest.raises(
        StatusError,
        match=r"INVALID_ARGUMENT: Number of warmup records exceeds the maximum \(1000\)",
    ):
        Servable(model)


def test_a_file_of_something_else_is_refused(model: Path) -> None:
    (model / WARM_UP).write_bytes(b"no TFRecord at all, but bytes enough for a header")
    with pytest.raises(StatusError, match=r"DATA_LOSS: .* your warmup data is in TFRecord format"):
        Servable(model)
    _write_records(model, [b"a record, but no PredictionLog"])
    with pytest.raises(StatusError, match="INVALID_ARGUMENT: Failed to parse warmup record from"):
        Servable(model)


def test_a_request_for_another_model_is_refused(model: Path) -> None:
    _write_warm_up(model, [1.0], signature="beams")
    with pytest.raises(StatusError, match='FAILED_PRECONDITION: Serving signature key "beams" not'):
        Servable(model)


def test_what_is_told_of_a_warm_up(model: Path) -> None:
    """Nothing without requests, nothing of one that fails; what cannot be read is told."""
    told: list[tuple[str, str]] = []

    def load() -> None:
        Servable(model, on_warm_up=lambda path, status, seconds: told.append((path, status)))

    load()
    assert told == []
    _write_warm_up(model, [1.0, 2.0])
    load()
    assert told == [(str(model), "OK")]
    _write_warm_up(model, [-1.0])
    with pytest.raises(StatusError):
        load()
    assert len(told) == 1
    (model / WARM_UP).write_bytes(b"no TFRecord at all, but bytes enough for a header")
    with pytest.raises(StatusError):
        load()
    assert told[1][1].startswith("DATA_LOSS: ")
