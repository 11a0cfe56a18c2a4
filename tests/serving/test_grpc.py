"""The local server and TF Serving, asked with the official stubs."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfx_captioner.serving.launcher import Server

TIMEOUT = 60


@pytest.fixture(scope="module")
def channel(any_server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(any_server.endpoint.grpc_url.removeprefix("grpc://")) as channel:
        yield channel


@pytest.fixture
def predictions(channel: grpc.Channel) -> prediction_service_pb2_grpc.PredictionServiceStub:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def _request(model: str = "half_plus_two", **inputs: object) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    for alias, value in (inputs or {"x": np.float32([1.0, 2.0])}).items():
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return request


def test_predict_fills_in_the_model_spec_and_typed_values(predictions) -> None:
    response = predictions.Predict(_request(), timeout=TIMEOUT)

    assert list(response.outputs["y"].float_val) == [2.5, 3.0]
    assert not response.outputs["y"].tensor_content
    assert response.model_spec.version.value == 123
    assert response.model_spec.signature_name == "serving_default"


def test_an_empty_tensor_is_an_input_too(server: Server) -> None:
    """Of the local server alone: in the queue of newer TensorFlow it waits for another's rows."""
    with grpc.insecure_channel(server.endpoint.grpc_url.removeprefix("grpc://")) as channel:
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        empty = predictions.Predict(_request(x=np.zeros([0], np.float32)), timeout=TIMEOUT)
    assert tf.make_ndarray(empty.outputs["y"]).shape == (0,)


def _with(**changes: object) -> predict_pb2.PredictRequest:
    request = _request()
    if "name" in changes:
        request.model_spec.name = str(changes["name"])
    if "version" in changes:
        request.model_spec.version.value = changes["version"]
    if "label" in changes:
        request.model_spec.version_label = str(changes["label"])
    if "signature" in changes:
        request.model_spec.signature_name = str(changes["signature"])
    request.output_filter.extend(changes.get("filter", []))
    return request


def _claims_a_huge_shape() -> predict_pb2.PredictRequest:
    request = _request()
    tensor = request.inputs["x"]
    tensor.Clear()
    tensor.dtype = 1
    tensor.float_val.append(1.0)
    for _ in range(3):
        tensor.tensor_shape.dim.add(size=2**20)
    return request


_CASES = {
    "no spec": (
        predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec",
    ),
    "no name": (_with(name=""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "model": (_with(name="no"), "NOT_FOUND", "Servable not found for request: Latest(no)"),
    "version": (
        _with(version=9), "NOT_FOUND", "Servable not found for request: Specific(half_plus_two, 9)",
    ),
    "label": (
        _with(label="no"), "INVALID_ARGUMENT", "Unrecognized servable version label: no",
    ),
    "signature": (
        _with(signature="no"), "FAILED_PRECONDITION", 'Serving signature key "no" not found.',
    ),
    "extra input": (
        _request(x=[1.0], z=[1.0]),
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. "
        "Missing but required: {}.",
    ),
    "other input": (
        _request(z=[1.0]),
        "INVALID_ARGUMENT",
        "input tensor alias not found in signature: z. Inputs expected to be in the set {x}.",
    ),
    "type": (
        _request(x=["text"]), "INVALID_ARGUMENT", "Expects arg[0] to be float but string is",
    ),
    "shape": (_claims_a_huge_shape(), "INVALID_ARGUMENT", "tensor parsing error: x"),
    "filter": (
        _with(filter=["z"]),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    ),
    "filter twice": (
        _with(filter=["y", "y"]), "INVALID_ARGUMENT", "duplicate output tensor alias: y",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", _CASES)
def test_refusals(name: str, predictions) -> None:
    request, code, text = _CASES[name]
    with pytest.raises(grpc.RpcError) as refused:
        predictions.Predict(request, timeout=TIMEOUT)
    assert refused.value.code().name == code
    assert text in refused.value.details()


def test_a_deadline_is_honoured(predictions) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        # So much that it is on its way for longer than that on any machine.
        predictions.Predict(_request(x=np.zeros(8_000_000, np.float32)), timeout=1e-3)
    assert refused.value.code().name == "DEADLINE_EXCEEDED"


def test_classify_is_answered_as_for_a_model_without_such_a_signature(predictions) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "half_plus_two"
    with pytest.raises(grpc.RpcError) as refused:
        predictions.Classify(request, timeout=TIMEOUT)
    assert refused.value.code().name == "INVALID_ARGUMENT"
    assert "method_name to be tensorflow/serving/classify. Was: tensorflow/serving/predict" in (
        refused.value.details()
    )


def test_metadata(predictions) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "captioner"
    response = predictions.GetModelMetadata(request, timeout=TIMEOUT)

    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == {
        "serving_default", "beams", "attention", "serving_examples", "__saved_model_init_op",
    }  # fmt: skip
    assert response.model_spec.version.value == 1


def test_status(channel: grpc.Channel) -> None:
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "half_plus_two"
    (status,) = models.GetModelStatus(request, timeout=TIMEOUT).model_version_status
    assert (status.version, status.state) == (
        123,
        get_model_status_pb2.ModelVersionStatus.AVAILABLE,
    )

    request.model_spec.version.value = 99
    with pytest.raises(grpc.RpcError) as refused:
        models.GetModelStatus(request, timeout=TIMEOUT)
    assert refused.value.details() == "Could not find version 99 of model half_plus_two"


def test_a_wrong_configuration_is_refused_and_changes_nothing(
    channel: grpc.Channel, predictions
) -> None:
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="half_plus_two", base_path="not/absolute")
    with pytest.raises(grpc.RpcError) as refused:
        models.HandleReloadConfigRequest(request, timeout=TIMEOUT)
    assert refused.value.code().name == "INVALID_ARGUMENT"
    assert "absolute path" in refused.value.details()
    assert predictions.Predict(_request(), timeout=TIMEOUT).outputs["y"].float_val


@pytest.mark.parametrize("service", ["", "PredictionService", "ModelService"])
def test_health(service: str, server: Server) -> None:
    """TF Serving has it behind a flag."""
    request = health_pb2.HealthCheckRequest(service=service)
    with grpc.insecure_channel(server.endpoint.grpc_url.removeprefix("grpc://")) as channel:
        response = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT)
    assert response.status == health_pb2.HealthCheckResponse.SERVING
