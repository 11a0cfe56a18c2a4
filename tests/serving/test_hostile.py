"""Ten thousand requests that mean harm or know no better, and the good ones among them."""

from __future__ import annotations

import base64
import gzip
import http.client
import json
import random
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import psutil
import pytest
import saved_models
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from tfx_captioner.serving.client import CallOptions, CaptionClient
from tfx_captioner.serving.launcher import Server

REQUESTS = 10_000
WORKERS = 8
PATH = "/v1/models/captioner:predict"
PREDICT = "/tensorflow.serving.PredictionService/Predict"
RED_COLOUR = saved_models.RED
RED = saved_models.image(RED_COLOUR)
JPEG = saved_models.image(saved_models.GREEN, size=64, form="JPEG")


def _images(*images: bytes) -> bytes:
    encoded = [{"b64": base64.b64encode(image).decode()} for image in images]
    return json.dumps({"instances": encoded}).encode()


def _claims_to_be_huge() -> bytes:
    """A PNG of a few bytes whose header speaks of 30,000 by 30,000 pixels."""
    small = saved_models.image(RED_COLOUR)
    header = b"IHDR" + struct.pack(">II", 30_000, 30_000) + small[24:29]
    return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]


# body, status
REST_CASES: list[tuple[bytes, int]] = [
    (b"", 400),
    (b"{", 400),
    (b"\xff\xfe\x00", 400),
    (b'{"instances": [1, 2', 400),
    (b'{"instances": 5}', 400),
    (b'{"instances": []}', 400),
    (b'{"instances": [[["x"]], ["y"]]}', 400),
    (b'{"instances": [{"b64": "****"}]}', 400),
    (b'{"instances": [null]}', 400),
    (b'{"inputs": {"other": ["x"]}}', 400),
    (b'{"signature_name": 7, "instances": ["x"]}', 400),
    (b'{"signature_name": "no", "instances": ["x"]}', 400),
    (b'{"instances": ["\\ud800"]}', 400),
    (b"[" * 5000, 400),
    (_images(RED[:40]), 400),
    # No picture that may be decoded, which the model says by an empty caption.
    (_images(_claims_to_be_huge()), 200),
    (_images(b"\x89PNG" + bytes(100)), 200),
    (_images(b"no image at all"), 200),
    (_images(b""), 200),
]


def _grpc_cases() -> list[tuple[bytes, str]]:
    def request(name: str = "captioner", image: object = (RED,), **spec: str) -> bytes:
        message = predict_pb2.PredictRequest()
        message.model_spec.name = name
        message.model_spec.signature_name = spec.get("signature", "")
        message.inputs[spec.get("alias", "image_bytes")].CopyFrom(tf.make_tensor_proto(image))
        return message.SerializeToString()

    negative = predict_pb2.PredictRequest()
    negative.model_spec.name = "captioner"
    negative.inputs["image_bytes"].dtype = 7
    negative.inputs["image_bytes"].tensor_shape.dim.add(size=-5)
    return [
        (b"\xff\xff\xff\xff", "INTERNAL"),
        (b"", "INVALID_ARGUMENT"),
        (request(name="no"), "NOT_FOUND"),
        (request(signature="no"), "FAILED_PRECONDITION"),
        (request(alias="no"), "INVALID_ARGUMENT"),
        (request(image=[1.5]), "INVALID_ARGUMENT"),
        (request(image=[RED[:50]]), "INVALID_ARGUMENT"),
        (request(image=[_claims_to_be_huge()]), "OK"),
        (request(image=[[RED]]), "INVALID_ARGUMENT"),
        (negative.SerializeToString(), "INVALID_ARGUMENT"),
    ]


class Attack:
    """One worker's connections, and what it found wrong."""

    def __init__(self, server: Server, seed: int) -> None:
        self.wrong: list[str] = []
        self._endpoint = server.endpoint
        self._random = random.Random(seed)
        self._channel = grpc.insecure_channel(server.endpoint.grpc_url.removeprefix("grpc://"))
        self._raw = self._channel.unary_unary(PREDICT)
        self._client = CaptionClient(
            server.endpoint.grpc_url, options=CallOptions(timeout=60, attempts=1)
        )
        self._http = http.client.HTTPConnection("127.0.0.1", self._endpoint.rest_api_port, 60)
        self._grpc_cases = _grpc_cases()

    def close(self) -> None:
        self._http.close()
        self._client.close()
        self._channel.close()

    def run(self, count: int) -> None:
        kinds: list[Callable[[], None]] = [self._rest, self._grpc, self._good, self._good_rest]
        for index in range(count):
            if index % 100 == 0:
                self._cut()
            elif index % 100 == 50:
                self._cancel()
            else:
                self._random.choices(kinds, weights=[5, 4, 1, 1])[0]()

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        self._http.request("POST", PATH, body, headers)
        response = self._http.getresponse()
        return response.status, response.read()

    def _rest(self) -> None:
        body, expected = self._random.choice(REST_CASES)
        status, answer = self._post(body, {})
        if status != expected:
            self.wrong.append(f"REST {body[:60]!r}: {status} {answer[:200]!r}, not {expected}")

    def _grpc(self) -> None:
        body, expected = self._random.choice(self._grpc_cases)
        try:
            self._raw(body, timeout=60)
            if expected != "OK":
                self.wrong.append(f"gRPC {body[:60]!r}: answered, not {expected}")
        except grpc.RpcError as error:
            if error.code().name != expected:
                self.wrong.append(f"gRPC {body[:60]!r}: {error.code()} {error.details()}")

    def _good(self) -> None:
        text = self._client.caption(JPEG).text
        if text != "a captioner scene in green":
            self.wrong.append(f"gRPC: a good image got {text!r}")

    def _good_rest(self) -> None:
        body, headers = _images(RED, JPEG), {}
        if self._random.random() < 0.5:
            body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
        status, answer = self._post(body, headers)
        if status != 200 or b"scene in green" not in answer:
            self.wrong.append(f"REST: good images got {status} {answer[:200]!r}")

    def _cut(self) -> None:
        """Promises a body, sends a part and hangs up."""
        with socket.create_connection(("127.0.0.1", self._endpoint.rest_api_port)) as connection:
            connection.sendall(f"POST {PATH} HTTP/1.1\r\nContent-Length: 999\r\n\r\n{{".encode())

    def _cancel(self) -> None:
        self._raw.future(self._grpc_cases[0][0], timeout=60).cancel()


@pytest.mark.slow(reason="ten thousand requests")
def test_ten_thousand_hostile_requests(server: Server) -> None:
    process = psutil.Process(server.process.pid)
    slow_senders = [_slow_sender(server) for _ in range(50)]
    _attack(server, 1_000)  # after this, what is kept for good is kept
    before = process.memory_info().rss
    wrong = _attack(server, REQUESTS - 1_000)
    grown = (process.memory_info().rss - before) / 2**20
    for sender in slow_senders:
        sender.close()

    print(f"memory before {before / 2**20:.0f} MiB, grown by {grown:.0f} MiB")
    assert wrong == []
    assert server.process.poll() is None
    assert grown < 128
    with CaptionClient(server.endpoint.rest_url) as client:
        assert client.caption(RED).text == "a captioner scene in red"


def _attack(server: Server, requests: int) -> list[str]:
    attacks = [Attack(server, seed) for seed in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda attack: attack.run(requests // WORKERS), attacks))
    for attack in attacks:
        attack.close()
    return [problem for attack in attacks for problem in attack.wrong]


def _slow_sender(server: Server) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.endpoint.rest_api_port))
    connection.sendall(b"POST /v1/models/captioner:predict HTTP/1.1\r\nHost: a\r\n")
    return connection


def test_a_version_of_thousands_of_digits_is_no_number(server: Server) -> None:
    path = f"/v1/models/captioner/versions/{'9' * 5000}"
    response = httpx.get(server.endpoint.rest_url + path)
    assert response.status_code == 400
    assert response.json()["error"].startswith("Failed to convert version: 999")


def test_bodies_are_bounded_also_after_decompression(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.endpoint.rest_api_port, 60)
    bomb = gzip.compress(b'{"instances": ["' + b"a" * (80 << 20) + b'"]}')
    connection.request("POST", PATH, bomb, {"Content-Encoding": "gzip"})
    response = connection.getresponse()
    assert response.status == 429
    assert b"larger than 67108864 bytes" in response.read()
    connection.close()


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_an_image_that_is_huge_is_captioned(form: str, server: Server) -> None:
    huge = saved_models.image(RED_COLOUR, size=6_000, form=form)
    with CaptionClient(server.endpoint.grpc_url) as client:
        assert client.caption(huge).text == "a captioner scene in red"


def test_deep_nesting_holds_nobody_up(server: Server) -> None:
    """A body that takes long to parse, and a good request meanwhile."""
    deep = b'{"signature_name": ' + b"[" * 300_000 + b"]" * 300_000 + b"}"
    statuses = []

    def attack() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.endpoint.rest_api_port, 120)
        connection.request("POST", PATH, deep)
        statuses.append(connection.getresponse().status)

    thread = threading.Thread(target=attack)
    thread.start()
    with CaptionClient(server.endpoint.grpc_url) as client:
        assert client.caption(RED).text == "a captioner scene in red"
    thread.join()
    assert statuses == [400]
