"""The contract of TensorFlow Serving, case by case (../shared/conformance)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from tfx_captioner.serving.launcher import Server
from tfx_captioner.serving.local import json_answer, json_tensor
from tfx_captioner.serving.local.status import StatusError

CASES = Path(__file__).resolve().parents[3] / "shared/conformance/tf_serving_cases.json"
DTYPES = {"int32": tf.int32, "float": tf.float32, "double": tf.float64, "string": tf.string}
NESTED = "[" * 500_000 + "]" * 500_000


def _cases(kind: str) -> list[Any]:
    if not CASES.is_file():
        skip = pytest.mark.skip(reason="needs ../shared/conformance")
        return [pytest.param({}, id="no-cases", marks=skip)]
    cases = json.loads(CASES.read_text(encoding="utf-8"))[kind]
    return [pytest.param(case, id=case["id"]) for case in cases]


def _named(text: str) -> str:
    return text.replace("MODEL", "half_plus_two").replace("LABEL", "stable")


@pytest.mark.parametrize("case", _cases("http_cases"))
def test_http(case: dict[str, Any], any_server: Server) -> None:
    # "MODELS" is part of a path that is malformed as it is.
    path = case["path"] if "/MODELS/" in case["path"] else _named(case["path"])
    url = any_server.endpoint.rest_url + path
    response = httpx.request(case["method"], url, content=case["body"])

    assert response.status_code == case["http"], response.text
    if "error_contains" in case:
        assert _named(case["error_contains"]) in response.json()["error"]
        assert response.headers["content-type"] == "application/json"
    if "json" in case:
        assert response.json() == case["json"]
    if "body_contains" in case:
        assert case["body_contains"] in response.text
        assert case["content_type"] in response.headers["content-type"]
    if "json_file" in case:
        _check_metadata(response.json())


def _check_metadata(document: dict[str, Any]) -> None:
    """The form of TF Serving's golden file, for our own half_plus_two."""
    assert document["model_spec"] == {
        "name": "half_plus_two", "signature_name": "", "version": "123",
    }  # fmt: skip
    signature = document["metadata"]["signature_def"]["signature_def"]["serving_default"]
    # `defaults` are as old as TF Serving 2.20.
    assert set(signature) | {"defaults"} == {"inputs", "outputs", "method_name", "defaults"}
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert signature["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}],
            "unknown_rank": False,
        },
        "name": "serving_default_x:0",
    }


@pytest.mark.parametrize("case", _cases("json_to_tensor"))
def test_json_to_tensor(case: dict[str, Any]) -> None:
    body = _body(case["body"])
    infos = {
        alias: meta_graph_pb2.TensorInfo(dtype=DTYPES[name].as_datatype_enum)
        for alias, name in sorted(case["signature_dtypes"].items())
    }
    if "error" in case:
        with pytest.raises(StatusError) as refused:
            json_tensor.parse_predict(body, lambda name: infos)
        assert case["error"] in refused.value.message
        return
    request = json_tensor.parse_predict(body, lambda name: infos)
    assert set(request.inputs) == set(infos)
    if "format" in case:
        assert request.form == case["format"]
    if "signature" in case:
        assert request.signature_name == case["signature"]
    for alias, shape in case.get("shapes", {}).items():
        assert request.inputs[alias].shape == tuple(shape)
    for alias, tensor in case.get("tensor", {}).items():
        array = request.inputs[alias]
        assert array.shape == tuple(tensor["shape"])
        for value, expected in zip(array.ravel(), tensor["values"], strict=True):
            _check_value(value, expected)


def _body(text: str) -> bytes:
    return text.replace("<500000 nested []>", NESTED).encode()


def _check_value(value: Any, expected: Any) -> None:
    if expected == "inf":
        assert math.isinf(value)
    elif isinstance(value, bytes):
        assert value.decode() == expected
    else:
        assert value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", b""),
        ("QUJD", b"ABC"),
        ("QQ==", b"A"),
        ("QQ", b"A"),
        (" QU\nI= ", b"AB"),
        ("!", None),
        ("Q", None),
        ("QUJD!", None),
        ("QU!D", None),
        ("QQ=Q", None),
        ("QQ..", b"A"),  # a dot is padding too
        (" Q Q\v=\f=\r\n", b"A"),
        ("QQ=", None),  # all of the padding, or none
        ("QUJD=", None),
        ("QUI==", None),
        ("Q\u00a0Q", None),  # no white space of ASCII
        ("QQ==QQ==", None),
        ("-_-_", None),
        ("\u00e9\u00e9\u00e9\u00e9", None),
    ],
)
def test_base64(text: str, expected: bytes | None) -> None:
    body = json.dumps({"instances": [{"b64": text}]}).encode()
    infos = {"x": meta_graph_pb2.TensorInfo(dtype=tf.string.as_datatype_enum)}
    if expected is None:
        with pytest.raises(StatusError, match="Unable to base64 decode"):
            json_tensor.parse_predict(body, lambda name: infos)
    else:
        assert json_tensor.parse_predict(body, lambda name: infos).inputs["x"].tolist() == [
            expected
        ]


@pytest.mark.parametrize("case", _cases("tensor_to_json"))
def test_tensor_to_json(case: dict[str, Any]) -> None:
    outputs = {alias: _array(tensor) for alias, tensor in case["tensors"].items()}
    form = case["format"]
    if "error" in case:
        with pytest.raises(StatusError) as refused:
            json_answer.format_predict(outputs, form)
        assert case["error"] in refused.value.message
        return
    assert json.loads(json_answer.format_predict(outputs, form)) == case["json"]


def _array(tensor: dict[str, Any]) -> np.ndarray:
    if tensor["dtype"] == "string":
        flat = np.array([value.encode() for value in tensor["values"]], dtype=object)
    else:
        flat = np.array(tensor.get("values", [0] * math.prod(tensor["shape"])), tensor["dtype"])
    return flat.reshape(tensor["shape"])
