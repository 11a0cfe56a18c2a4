"""What TensorFlow Serving promises beyond the cases of ../shared/conformance."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import saved_models
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
    session_service_pb2,
)

from tfx_captioner.serving.client import NO_CAPTION_SCORE
from tfx_captioner.serving.config import BATCHING
from tfx_captioner.serving.launcher import Server

TIMEOUT = 60
HALF = "/v1/models/half_plus_two"
CAPTIONER = "/v1/models/captioner"


@pytest.fixture(scope="module")
def channel(any_server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(any_server.endpoint.grpc_url.removeprefix("grpc://")) as channel:
        yield channel


def _get(server: Server, path: str) -> httpx.Response:
    return httpx.get(server.endpoint.rest_url + path)


def _post(server: Server, path: str, body: str | bytes) -> httpx.Response:
    return httpx.post(server.endpoint.rest_url + path, content=body, timeout=TIMEOUT)


@pytest.mark.parametrize(
    "path",
    [
        HALF,
        f"{HALF}/versions/123",
        f"{HALF}/versions/000123",
        f"{HALF}/labels/stable",
        f"{HALF}/labels/no_such_label",  # the status looks at the version alone
        "/V1/MODELS/half_plus_two",
        "/v1/models/half%5Fplus%5Ftwo",
        f"{HALF}?query=1",
        f"{HALF}/METADATA",  # only the word in lower case is the metadata
    ],
)
def test_status(path: str, any_server: Server) -> None:
    assert _get(any_server, path).json() == {
        "model_version_status": [
            {
                "version": "123",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }


@pytest.mark.parametrize(
    "path", [HALF, f"{HALF}/versions/123", f"{HALF}/labels/stable", "/v1/models/half%5fplus_two"]
)
def test_metadata_and_predict_by_version_and_label(path: str, any_server: Server) -> None:
    document = _get(any_server, f"{path}/metadata").json()
    assert document["model_spec"]["version"] == "123"
    # Also the one that TensorFlow initialises the model by.
    assert document["metadata"]["signature_def"]["signature_def"].keys() == {
        "serving_default", "__saved_model_init_op",
    }  # fmt: skip
    answer = _post(any_server, f"{path}:predict", '{"inputs": {"x": [1]}}')
    assert answer.json() == {"outputs": [2.5]}


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", f"{HALF}/labels/no/metadata", 400, "Unrecognized servable version label: no"),
        ("GET", "/v1/models/no/metadata", 404, "Servable not found for request: Latest(no)"),
        ("GET", f"{HALF}/versions/1/labels/a", 400, f"Malformed request: GET {HALF}/version"),
        ("GET", f"{HALF}/versions/{2**63}", 400, f"Failed to convert version: {2**63} to numeric."),
        ("DELETE", HALF, 400, f"Malformed request: DELETE {HALF}"),
        ("OPTIONS", HALF, 400, f"Malformed request: OPTIONS {HALF}"),
        ("GET", "/v1/models/versions/1", 400, "Missing model name in request."),
    ],
)
def test_refused_paths(method: str, path: str, status: int, error: str, any_server: Server) -> None:
    response = httpx.request(method, any_server.endpoint.rest_url + path)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    assert response.json()["error"].startswith(error)


_TYPE = "is not of expected type: "


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        (HALF, "", "JSON Parse error: The document is empty"),
        (HALF, "  ", "JSON Parse error: The document is empty. at offset: 2"),
        (HALF, '{"é": x}', "JSON Parse error: Invalid value. at offset: 7"),
        (HALF, '{"a": "b', "JSON Parse error: Missing a closing quotation mark in string."),
        (HALF, '{"a": "\\q"}', "Invalid escape character in string. at offset: 7"),
        (HALF, '{"a": "\\u12"}', "Incorrect hex digit after \\u escape in string. at offset: 7"),
        (HALF, '{"instances": ["a"]}', f'JSON Value: "a" Type: String {_TYPE}float'),
        (HALF, '{"instances": [null]}', f"JSON Value: null Type: Null {_TYPE}float"),
        (HALF, '{"instances": [true]}', f"Type: True {_TYPE}float"),
        (CAPTIONER, '{"instances": [1.5]}', f"JSON Value: 1.5 Type: Number {_TYPE}string"),
        (
            HALF,
            '{"instances": [1], "inputs": [1]}',
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist",
        ),
        (HALF, '{"inputs": {"y": [1]}}', "Missing named input: x in 'inputs' object."),
        (
            HALF,
            '{"instances": [{"x": 1, "y": 2}]}',
            "JSON object: does not have named input: y",
        ),
        (HALF, '{"instances": [{}]}', "keys must be equal to: x"),
        (HALF, '{"instances": [[1], [1, 2]]}', "Expecting tensor size: 1 but got: 2"),
        (HALF, '{"instances": [[1], [[1]]]}', "Expecting shape [1] but got: [1,1]"),
        (
            HALF,
            '{"inputs": [[1], [1, 2]]}',
            "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
        ),
        (HALF, '{"inputs": [1, [1]]}', "Encountered list at unexpected level: 1 expected < 1"),
        (HALF, '{"inputs": [[1], 1]}', "found at incorrect level: 2 in the JSON DOM. Expected at"),
        (CAPTIONER, '{"instances": [{"b64": "*"}]}', "Unable to base64 decode"),
        (
            CAPTIONER,
            '{"inputs": [{"b64": 1}]}',
            "not formatted correctly for base64 data",
        ),
        (
            HALF,
            '{"signature_name": "__saved_model_init_op", "instances": [1]}',
            "Failed to get input map for signature: __saved_model_init_op",
        ),
    ],
)
def test_refused_bodies(path: str, body: str, error: str, any_server: Server) -> None:
    response = _post(any_server, f"{path}:predict", body.encode())
    assert response.status_code == 400
    assert error in response.json()["error"]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("0", "2.0"),
        ("0.2", "2.1"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e39", "Infinity"),  # no float, so infinite
        ("1e-46", "2.0"),
        ("2e20", "1e+20"),
        ("246913578", "123456792.0"),  # more digits than six: as many as the float needs
        ("0.6666667", "2.33333325"),
    ],
)
def test_numbers_are_written_as_text_that_reads_back(
    value: str, written: str, any_server: Server
) -> None:
    body = f'{{"instances": [{value}]}} and what follows is not read'
    assert _post(any_server, f"{HALF}:predict", body).text.split() == [
        "{", '"predictions":', f"[{written}]", "}",
    ]  # fmt: skip


_LARGEST = BATCHING.max_batch_size
_TOO_LARGE = f"Task size {_LARGEST + 1} is larger than maximum input batch size {_LARGEST}"
_NO_ROWS = "Batching Run() input tensors must have at least one dimension"


@pytest.mark.parametrize("rows", [BATCHING.execution_size, BATCHING.execution_size + 1, _LARGEST])
def test_a_request_may_hold_more_than_is_run_at_once(
    rows: int, any_server: Server, channel: grpc.Channel
) -> None:
    expected = [0.5 * row + 2 for row in range(rows)]
    answer = _post(any_server, f"{HALF}:predict", json.dumps({"instances": [*range(rows)]}))
    assert answer.json() == {"predictions": expected}
    assert _predict(channel, range(rows)) == expected


def test_rows_of_every_output_come_back_in_order(any_server: Server) -> None:
    images = [saved_models.image(colour) for colour in (saved_models.RED, saved_models.GREEN)]
    encoded = [{"b64": base64.b64encode(image).decode()} for image in images]
    body = {"signature_name": "attention", "instances": encoded * 10}
    answer = _post(any_server, f"{CAPTIONER}:predict", json.dumps(body)).json()["predictions"]
    assert [row["tokens"][-1] for row in answer] == ["red", "green"] * 10
    assert all(np.shape(row["attention"])[0] == len(row["tokens"]) for row in answer)


def test_a_request_of_more_rows_or_of_none_is_refused(
    any_server: Server, channel: grpc.Channel
) -> None:
    body = json.dumps({"instances": [*range(_LARGEST + 1)]})
    for content, words in ((body, _TOO_LARGE), ('{"inputs": 1}', _NO_ROWS)):
        answer = _post(any_server, f"{HALF}:predict", content)
        assert (answer.status_code, answer.json()) == (400, {"error": words})
    for x, words in ((range(_LARGEST + 1), _TOO_LARGE), (2.0, _NO_ROWS)):
        with pytest.raises(grpc.RpcError) as refused:
            _predict(channel, x)
        assert (refused.value.code().name, refused.value.details()) == ("INVALID_ARGUMENT", words)


def _predict(channel: grpc.Channel, x: Any) -> list[float]:
    request = _spec(predict_pb2.PredictRequest())
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.float32(x)))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return list(stub.Predict(request, timeout=TIMEOUT).outputs["y"].float_val)


def test_a_byte_order_mark_is_passed_over(any_server: Server) -> None:
    response = _post(any_server, f"{HALF}:predict", b'\xef\xbb\xbf{"instances": [1]}')
    assert response.json() == {"predictions": [2.5]}


def test_several_outputs_have_their_names_in_both_forms(any_server: Server) -> None:
    row = _post(any_server, f"{CAPTIONER}:predict", '{"instances": ["no image", "none"]}').json()
    assert [set(item) for item in row["predictions"]] == [{"caption", "score"}] * 2
    columnar = _post(any_server, f"{CAPTIONER}:predict", '{"inputs": ["no image"]}')
    assert columnar.json()["outputs"] == {"caption": [""], "score": [NO_CAPTION_SCORE]}


def test_the_prometheus_page(any_server: Server) -> None:
    _post(any_server, f"{HALF}:predict", '{"instances": [1]}')
    _post(any_server, f"{HALF}:predict", '{"instances": ["a"]}')
    response = _get(any_server, "/monitoring/prometheus/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    lines = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in _samples(response)}
    prefix, half = ":tensorflow:serving:", 'model_name="half_plus_two"'
    assert lines[f'{prefix}request_count{{{half},status="OK"}}'] >= 1
    assert lines[f'{prefix}request_count{{{half},status="INVALID_ARGUMENT"}}'] >= 1
    labels = f'{{API="Predict",entrypoint="REST",{half}}}'
    assert lines[f"{prefix}request_latency_count{labels}"] >= 1
    assert lines[f'{prefix}runtime_latency_count{{API="Predict",{half},runtime="TF1"}}'] >= 1
    assert f'{prefix}request_example_count_total{{model="half_plus_two"}}' in lines
    assert f'{prefix}request_example_counts_count{{model="half_plus_two"}}' in lines
    assert _get(any_server, "/monitoring/prometheus/other").status_code == 404


def _samples(page: httpx.Response) -> list[str]:
    return [line for line in page.text.splitlines() if line and not line.startswith("#")]


@pytest.mark.slow(reason="a server of its own: other tests let theirs load models again")
def test_the_warm_up_and_the_queue_are_measured(fresh_server: Server) -> None:
    """Of the local server alone: TF Serving also sends the warm-up through its queue."""

    def counts() -> dict[str, float]:
        page = _get(fresh_server, "/monitoring/prometheus/metrics")
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in _samples(page)
            if "_count{" in line
        }

    queue = ':tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name=""}'
    before = counts().get(queue, 0)
    for _ in range(3):
        answer = _post(fresh_server, f"{HALF}:predict", '{"instances": [1]}')
        assert answer.status_code == 200
    after = counts()
    assert after[queue] - before == 3
    warm_ups = {name: count for name, count in after.items() if "model_warmup_latency" in name}
    assert set(warm_ups.values()) == {1}
    assert all(name.endswith(',status="OK"}') for name in warm_ups)
    assert any('captioner/1"' in name for name in warm_ups)
    assert not any("half_plus_two" in name for name in warm_ups), "it has no requests for it"


def _spec(message: Any, **spec: Any) -> Any:
    message.model_spec.name = "half_plus_two"
    if "version" in spec:
        message.model_spec.version.value = spec["version"]
    if "label" in spec:
        message.model_spec.version_label = spec["label"]
    return message


@pytest.mark.parametrize("spec", [{}, {"version": 123}, {"label": "canary"}])
def test_grpc_names_the_version_it_answers_for(spec: dict[str, Any], channel: grpc.Channel) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata = stub.GetModelMetadata(_spec(request, **spec), timeout=TIMEOUT)
    assert metadata.model_spec.version.value == 123
    predict = _spec(predict_pb2.PredictRequest(), **spec)
    predict.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
    assert stub.Predict(predict, timeout=TIMEOUT).model_spec.version.value == 123


def _refusal(call: Any, request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as refused:
        call(request, timeout=TIMEOUT)
    return refused.value.code().name, refused.value.details()


def test_grpc_metadata_is_refused_in_words(channel: grpc.Channel) -> None:
    call = prediction_service_pb2_grpc.PredictionServiceStub(channel).GetModelMetadata
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    assert _refusal(call, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    assert _refusal(call, _spec(request)) == (
        "INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field",
    )  # fmt: skip
    request.metadata_field.append("other")
    assert _refusal(call, request) == (
        "INVALID_ARGUMENT", "Metadata field other is not supported",
    )  # fmt: skip


def test_grpc_status_is_newest_first_and_refused_in_words(channel: grpc.Channel) -> None:
    call = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus
    request = get_model_status_pb2.GetModelStatusRequest()
    assert _refusal(call, request) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    request.model_spec.name = "no"
    assert _refusal(call, request) == ("NOT_FOUND", "Could not find any versions of model no")
    (status,) = call(_spec(request, label="no_such_label"), timeout=TIMEOUT).model_version_status
    assert status.version == 123


def test_what_no_model_here_has_is_refused(channel: grpc.Channel) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
    code, words = _refusal(stub.Regress, _spec(regression_pb2.RegressionRequest()))
    assert code == "INVALID_ARGUMENT"
    assert "method_name to be tensorflow/serving/regress. Was: tensorflow/serving/predict" in words
    run = channel.unary_unary(
        "/tensorflow.serving.SessionService/SessionRun",
        session_service_pb2.SessionRunRequest.SerializeToString,
    )
    assert _refusal(run, session_service_pb2.SessionRunRequest())[0] == "UNIMPLEMENTED"


_NEITHER = (
    "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
    "ModelServerConfig::model_platform."
)


@pytest.mark.parametrize(
    ("models", "error"),
    [
        ([{"name": "new", "base_path": "/new"}], _NEITHER),
        ([{"name": "half_plus_two", "base_path": "/new"}], _NEITHER),
        (
            [{"name": "new", "base_path": "/new", "model_platform": "other"}],
            "Model new requests unsupported platform other",
        ),
        (
            [{"name": "half_plus_two", "base_path": "/new", "model_platform": "other"}],
            "Illegal to change a model's platform. For model half_plus_two platform was tensorflow "
            "and new platform requested is other",
        ),
        (
            [{"name": "new", "base_path": "/a", "model_platform": "tensorflow"}] * 2,
            "Illegal to list model new multiple times in config list",
        ),
        (
            [{"name": "new", "base_path": "a", "model_platform": "tensorflow"}],
            "Expected model new to have an absolute path or URI; got base_path()=a",
        ),
        (
            [
                {
                    "name": "new",
                    "base_path": "/new",
                    "model_type": "TENSORFLOW",
                    "model_platform": "tensorflow",
                }
            ],
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform.",
        ),
    ],
)
def test_a_wrong_model_in_a_configuration_is_refused(
    models: list[dict[str, str]], error: str, server: Server
) -> None:
    """Of the local server alone: TF Serving has replaced some of its configuration by then."""
    request = model_management_pb2.ReloadConfigRequest()
    for model in models:
        request.config.model_config_list.config.add(**model)
    with grpc.insecure_channel(server.endpoint.grpc_url.removeprefix("grpc://")) as channel:
        call = model_service_pb2_grpc.ModelServiceStub(channel).HandleReloadConfigRequest
        assert _refusal(call, request) == ("INVALID_ARGUMENT", error)
        custom = model_management_pb2.ReloadConfigRequest()
        assert _refusal(call, custom)[1].startswith("ServerModelConfig type not supported by")
    assert _get(server, HALF).status_code == 200


def test_a_connection_answers_one_request_after_the_other(any_server: Server) -> None:
    endpoint = any_server.endpoint
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.rest_api_port, TIMEOUT)
    answers = []
    for body in ('{"instances": [1]}', "no JSON", '{"instances": [2]}'):
        connection.request("POST", f"{HALF}:predict", body)
        answers.append(json.loads(connection.getresponse().read()))
    connection.close()
    assert answers[0] == {"predictions": [2.5]}
    assert "JSON Parse error: Invalid value." in answers[1]["error"]
    assert answers[2] == {"predictions": [3.0]}
