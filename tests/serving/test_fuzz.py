"""Anything may come in: it is answered, or refused as the request's fault.

A short pass with the suite; `CAPTIONER_FUZZ_EXAMPLES=100000` makes it a long one.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
from typing import Any

import h11
import httpx
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from tfx_captioner.serving.launcher import Server
from tfx_captioner.serving.local import json_answer, json_parser, json_tensor, signatures, tensors
from tfx_captioner.serving.local.http_protocol import StrictConnection
from tfx_captioner.serving.local.status import Code, StatusError

EXAMPLES = int(os.environ.get("CAPTIONER_FUZZ_EXAMPLES", "200"))
settings.register_profile(
    "serving",
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
fuzz = settings(settings.get_profile("serving"))

REFUSALS = (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)
# Behind the first value whatever comes is ignored; so much makes a body one of many values.
MANY = b"," * 60_000

numbers = st.integers() | st.floats(allow_nan=False)
leaves = st.none() | st.booleans() | numbers | st.text()
values = st.recursive(
    leaves | st.fixed_dictionaries({"b64": st.text() | st.binary().map(bytes.hex)}),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
fragments = st.sampled_from(
    ["{", "}", "[", "]", ",", ":", '"', "\\", "\\u", "d800", "NaN", "-Infinity", "-", "1e999", "0",
     " ", "\n", "null", "true", "\ufeff", '"b64"', '"instances"', "é", "\x00"]
)  # fmt: skip
texts = st.lists(fragments, max_size=30).map("".join).map(str.encode) | st.binary(max_size=60)


def _expect(error: StatusError, *codes: Code) -> None:
    assert error.code in codes, error


def _outcome(body: bytes) -> object:
    try:
        return repr(json_parser.parse(body))
    except StatusError as error:
        _expect(error, Code.INVALID_ARGUMENT)
        return error.message


@fuzz
@given(value=values)
def test_json_is_read_as_the_standard_library_reads_it(value: Any) -> None:
    body = json.dumps(value).encode()
    assert json_parser.parse(body) == value
    assert json_parser.parse(body + MANY) == value


@fuzz
@given(body=texts)
@example(b'"\\ud800"')
@example(b"[" * 200)
@example(b"-")
def test_any_bytes_are_json_or_refused_alike_by_both_readers(body: bytes) -> None:
    short = _outcome(body)
    # What ends with the body ends somewhere else when more comes behind it.
    if not re.search("end|document is empty|Missing|Invalid|Incorrect", str(short)):
        assert _outcome(body + b" " + MANY) == short
    else:
        _outcome(body + b" " + MANY)


documents = st.fixed_dictionaries(
    {}, optional={"signature_name": st.just("") | values, "instances": values, "inputs": values}
)


@fuzz
@given(
    document=documents,
    types=st.dictionaries(
        st.sampled_from(["a", "b"]),
        st.sampled_from([tf.string, tf.float32, tf.int32, tf.int64, tf.uint64, tf.bool, tf.half]),
        min_size=1,
    ),
)
@example(document={"instances": json.loads("[" * 40 + "1" + "]" * 40)}, types={"a": tf.float32})
@example(document={"instances": ["\ud800"]}, types={"a": tf.string})
@example(document={"instances": [{"b64": 5}]}, types={"a": tf.string})
def test_any_document_is_tensors_or_refused(
    document: dict[str, Any], types: dict[str, tf.DType]
) -> None:
    infos = {
        alias: meta_graph_pb2.TensorInfo(dtype=dtype.as_datatype_enum)
        for alias, dtype in types.items()
    }
    try:
        request = json_tensor.parse_predict(json.dumps(document).encode(), lambda name: infos)
    except StatusError as error:
        _expect(error, *REFUSALS)
        return
    assert set(request.inputs) == set(types)
    for alias, array in request.inputs.items():
        assert tf.dtypes.as_dtype(array.dtype) == types[alias]


@fuzz
@given(data=st.binary(), spaces=st.lists(st.sampled_from(" \t\r\n"), max_size=4))
def test_base64_is_read_back(data: bytes, spaces: list[str]) -> None:
    text = base64.b64encode(data).decode()
    for index, space in enumerate(spaces):
        text = text[: index * 3] + space + text[index * 3 :]
    assert _decode(text) == data
    assert _decode(text.rstrip(" \t\r\n=")) == data


@fuzz
@given(text=st.text(alphabet=st.sampled_from("QUJD=. \n-_é\x00"), max_size=20) | st.text())
def test_any_text_is_base64_or_refused(text: str) -> None:
    decoded = _decode(text)
    if decoded is not None:
        letters = re.sub(r"[ \t\n\v\f\r=.]", "", text)
        assert base64.b64encode(decoded).decode().rstrip("=")[:-1] == letters[:-1]


def _decode(text: str) -> bytes | None:
    infos = {"x": meta_graph_pb2.TensorInfo(dtype=tf.string.as_datatype_enum)}
    body = json.dumps({"instances": [{"b64": text}]}).encode()
    try:
        return bytes(json_tensor.parse_predict(body, lambda name: infos).inputs["x"][0])
    except StatusError as error:
        _expect(error, Code.INVALID_ARGUMENT)
        return None


sizes = st.integers(-2, 5) | st.sampled_from([1 << 26, 1 << 40, 2**63 - 1, -(2**63)])
protos = st.builds(
    lambda dtype, dims, content, **fields: tensor_pb2.TensorProto(
        dtype=dtype,
        tensor_shape={"dim": [{"size": size} for size in dims]},
        tensor_content=content,
        **fields,
    ),
    dtype=st.sampled_from([0, *range(1, 24), 101, 107]),
    dims=st.lists(sizes, max_size=4) | st.just([1] * 40),
    content=st.binary(max_size=40),
    float_val=st.lists(st.floats(width=32), max_size=4),
    string_val=st.lists(st.binary(max_size=4), max_size=4),
    int_val=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
    scomplex_val=st.lists(st.floats(width=32), max_size=3),
    half_val=st.lists(st.integers(0, 2**31 - 1), max_size=3),
)


@fuzz
@given(proto=protos)
def test_any_tensor_is_read_within_bounds_or_refused(proto: tensor_pb2.TensorProto) -> None:
    try:
        array = tensors.from_proto(proto, "x")
    except StatusError as error:
        _expect(error, Code.INVALID_ARGUMENT)
        return
    assert array.nbytes <= 64 << 20
    assert list(array.shape) == [dim.size for dim in proto.tensor_shape.dim]


@fuzz
@given(data=st.binary(max_size=200), proto=protos)
def test_any_message_is_a_request_or_refused(data: bytes, proto: tensor_pb2.TensorProto) -> None:
    signature = meta_graph_pb2.SignatureDef(method_name=tf.saved_model.PREDICT_METHOD_NAME)
    signature.inputs["x"].dtype = proto.dtype or 1
    good = predict_pb2.PredictRequest()
    good.inputs["x"].CopyFrom(proto)
    for message in (data, good.SerializeToString() + data):
        try:
            request = predict_pb2.PredictRequest.FromString(message)
            inputs = signatures.read_inputs(signature, request.inputs)
            assert set(inputs) == {"x"}
        except DecodeError:
            pass
        except StatusError as error:
            _expect(error, *REFUSALS)


@fuzz
@given(
    values=st.lists(st.floats(width=32), min_size=1, max_size=4),
    texts=st.lists(st.binary(max_size=6), min_size=1, max_size=4),
)
def test_answers_read_back(values: list[float], texts: list[bytes]) -> None:
    array = np.array(values, np.float32)
    (read,) = json.loads(json_answer.format_predict({"y": array}, "columnar")).values()
    np.testing.assert_array_equal(np.array(read, np.float32), array)
    strings = np.array([*texts, None], object)[:-1]
    body = json_answer.format_predict({"x_bytes": strings}, "columnar")
    (read,) = json.loads(body).values()
    assert [base64.b64decode(item["b64"]) for item in read] == texts
    plain = json_answer.format_predict({"x": strings}, "columnar")
    assert json_parser.parse(plain)["outputs"] == [
        text.decode("utf-8", errors="surrogateescape") for text in texts
    ]


heads = st.lists(
    st.sampled_from(
        [b"GET / HTTP/1.1", b"POST /v1/models/m:predict HTTP/1.1", b"Host: a", b"Content-Length: 2",
         b"Content-Length: 3", b"Transfer-Encoding: chunked", b"X: y", b" folded", b"\r\n", b"\n",
         b"\r", b"\r\n\r\n", b"{}", b"2", b"0", b"\x00", b":", b"\xff"]
    ),
    max_size=16,
).map(b"".join) | st.binary(max_size=60)  # fmt: skip


def _events(pieces: list[bytes]) -> list[str]:
    """Kinds of the events until no more come; data may come in any pieces."""
    connection = StrictConnection(h11.SERVER)
    events: list[str] = []
    try:
        for piece in filter(None, pieces):  # no bytes at all would be the end
            connection.receive_data(piece)
            while (event := connection.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if isinstance(event, h11.Data) and events[-1:] == ["Data"]:
                    continue
                events.append(type(event).__name__)
    except h11.RemoteProtocolError:
        events.append("refused")
    return events


@fuzz
@given(data=heads)
@example(b"GET / HTTP/1.1\r\nHost: a\r\n\n")
@example(b"GET / HTTP/1.1\nHost: a\n\n")
def test_any_head_is_read_or_refused_in_whatever_pieces_it_comes(data: bytes) -> None:
    whole = _events([data])
    assert _events([data[i : i + 1] for i in range(len(data))]) == whole
    head = data.lstrip(b"\r\n").partition(b"\r\n\r\n")[0]
    if "Request" in whole:
        assert re.search(rb"(?<!\r)\n", head) is None
        assert not (b"Content-Length" in head and b"Transfer-Encoding" in head)


@fuzz
@given(
    path=st.sampled_from(
        ["/v1/models/captioner:predict", "/v1/models/captioner/versions/1:predict",
         "/v1/models/half_plus_two:classify", "/v1/models/half_plus_two:predict",
         "/v1/models/captioner/labels/%ff:predict", "/v1/models/%00",
         "/v1/models/captioner:PREDICT"]
    ),
    body=texts | documents.map(json.dumps).map(str.encode),
    form=st.sampled_from(["", "gzip", "cut"]),
)  # fmt: skip
@pytest.mark.slow(reason="a few hundred requests to a server")
def test_no_body_is_the_fault_of_the_server(
    path: str, body: bytes, form: str, server: Server
) -> None:
    headers = {"Content-Encoding": "gzip"} if form else {}
    sent = gzip.compress(body)[: -1 if form == "cut" else None] if form else body
    response = httpx.post(server.endpoint.rest_url + path, content=sent, headers=headers)
    assert response.status_code in (200, 400, 404, 501), response.text
