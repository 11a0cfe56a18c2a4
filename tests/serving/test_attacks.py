"""Attacks on the local server, each with what a good client sees meanwhile."""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
import saved_models
from PIL import Image
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import predict_pb2

from tfx_captioner.serving import config, launcher, messages
from tfx_captioner.serving.client import NO_CAPTION_SCORE, CallOptions, CaptionClient
from tfx_captioner.serving.errors import ServingError
from tfx_captioner.serving.launcher import Server
from tfx_captioner.serving.local import json_parser, json_tensor
from tfx_captioner.serving.local.__main__ import build_parser, read_options
from tfx_captioner.serving.local.json_parser import WorkLimits
from tfx_captioner.serving.local.status import StatusError

PATH = "/v1/models/captioner:predict"
RED = saved_models.image(saved_models.RED)
GOOD = b'{"signature_name": "serving_default", "instances": ["no photograph"]}'


@pytest.fixture(scope="module")
def target(serving_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is slow to lose its patience, but not its last."""
    endpoint = launcher.free_endpoint()
    argv = [*launcher.command("local", serving_dir, endpoint), "--rest_api_timeout_in_ms=20000"]
    log = tmp_path_factory.mktemp("log") / "server.log"
    with launcher.running(argv, endpoint, log) as server:
        server.wait_until_available(config.find_models(serving_dir), timeout=240)
        yield server


def _post(server: Server, body: bytes, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.endpoint.rest_api_port, 120)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", PATH, body, named)
    response = connection.getresponse()
    answer = response.read().decode()
    connection.close()
    return response.status, answer


def _memory(server: Server) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


def _bomb() -> bytes:
    """59 KiB that become 60 MB of twenty million empty lists."""
    return gzip.compress(b'{"instances": [' + b"[]," * 20_000_000 + b"[]]}")


@pytest.mark.slow(reason="a server of its own, and bodies that are costly to refuse")
def test_a_bomb_is_refused_and_holds_up_nobody(target: Server) -> None:
    bomb, before = _bomb(), _memory(target)
    assert len(bomb) < 64 << 10
    statuses: list[tuple[int, str]] = []
    attackers = [
        threading.Thread(
            target=lambda: statuses.append(_post(target, bomb, Content_Encoding="gzip"))
        )
        for _ in range(12)
    ]
    for attacker in attackers:
        attacker.start()
    answered = 0
    options = CallOptions(timeout=20, attempts=1)
    with (
        CaptionClient(target.endpoint.rest_url, options=options) as rest,
        CaptionClient(target.endpoint.grpc_url, options=options) as over_grpc,
    ):
        while any(attacker.is_alive() for attacker in attackers):
            assert rest.caption(RED).text == "a captioner scene in red"
            assert over_grpc.caption(RED).text == "a captioner scene in red"
            answered += 1
    print(f"{answered} rounds answered, grown by {(_memory(target) - before) / 2**20:.0f} MiB")
    assert answered > 0
    assert {status for status, _ in statuses} <= {400, 429, 504}
    assert any("holds more than 1048576 JSON values" in answer for _, answer in statuses)
    assert _memory(target) - before < 1 << 30


def test_the_work_on_a_body_is_bounded() -> None:
    lists = b'{"instances": [' + b"[]," * 100_000 + b"[]]}"
    with pytest.raises(StatusError, match="INVALID_ARGUMENT: The body holds more than 5000 JSON"):
        json_parser.parse(lists, WorkLimits(max_values=5_000))
    with pytest.raises(StatusError, match="DEADLINE_EXCEEDED"):
        json_parser.parse(lists, WorkLimits(deadline=0.0))
    with pytest.raises(StatusError, match="more than 9 escaped characters"):
        json_parser.parse(b'"' + b"\\n" * 100_000 + b'"', WorkLimits(max_escapes=9))
    with pytest.raises(StatusError, match="more than 5000 JSON values"):
        json_parser.parse(b"[" * 100_000, WorkLimits(max_values=5_000))
    assert json_parser.parse(b"[" + b"1," * 100_000 + b"1]") == [1] * 100_001


def test_an_error_repeats_the_beginning_of_a_value_alone() -> None:
    body = json.dumps({"instances": [{"a": list(range(50_000))}]}).encode()
    with pytest.raises(StatusError) as refused:
        json_tensor.parse_predict(body, lambda name: {"x": meta_graph_pb2.TensorInfo(dtype=1)})
    assert len(refused.value.message) < 1_000


@pytest.mark.parametrize(
    ("dtype", "size", "words"),
    [
        (18, 1 << 26, "Expects arg[0] to be string but complex128 is provided"),
        (7, 1 << 26, "tensor parsing error: image_bytes"),
        (999, 1, "tensor parsing error: image_bytes"),
        (108, 1, "Expects arg[0] to be string but"),
    ],
    ids=["another type", "too many strings", "no type", "a reference"],
)
def test_what_a_tensor_claims_is_looked_at_before_it_is_made(
    dtype: int, size: int, words: str, server: Server
) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "captioner"
    tensor = tensor_pb2.TensorProto()
    tensor.dtype = dtype
    tensor.tensor_shape.dim.add(size=size)
    request.inputs["image_bytes"].CopyFrom(tensor)
    body = request.SerializeToString()
    assert len(body) < 64
    before = _memory(server)
    with grpc.insecure_channel(server.endpoint.grpc_url.removeprefix("grpc://")) as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as refused:
                predict(body, timeout=60)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert words in refused.value.details()
    assert _memory(server) - before < 256 << 20


def test_who_sends_no_body_takes_no_place(server: Server) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n".encode()
    connections = []
    for _ in range(300):
        connection = socket.create_connection(("127.0.0.1", server.endpoint.rest_api_port), 60)
        connection.sendall(head)
        connections.append(connection)
    for _ in range(5):
        assert _post(server, GOOD)[0] == 200
    for connection in connections:
        connection.close()


def _exchange(server: Server, request: bytes) -> bytes:
    """All that comes until the server closes the connection."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.endpoint.rest_api_port), 60) as connection:
        connection.sendall(request)
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


HEAD = f"POST {PATH} HTTP/1.1\r\nHost: a\r\n".encode()
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)
HIDDEN = b"GET /v1/models/captioner HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED + HIDDEN,
        HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + CHUNKED + HIDDEN,
        HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n" + GOOD,
        HEAD + b"X: a\nContent-Length: 4\r\n\r\nabcd",
        HEAD + b"Content-Length: 4\r\n\nabcd",
        HEAD.replace(b"\r\n", b"\n") + b"\n",
        b"GET /v1/models/captioner HTTP/1.1\nHost: a\r\n\r\n",
        b"GET /v1/models/captioner HTTP/1.1\r\n\r\n",
    ],
    ids=[
        "two lengths",
        "two lengths, chunks first",
        "two content lengths",
        "line feed in the head",
        "line feed at its end",
        "line feeds alone",
        "line feed after the request line",
        "no host",
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(request_bytes: bytes, server: Server) -> None:
    answer = _exchange(server, request_bytes)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1, "nothing behind it is answered"


def test_a_head_that_comes_byte_by_byte_is_read_all_the_same(server: Server) -> None:
    request = HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED
    answer = b""
    with socket.create_connection(("127.0.0.1", server.endpoint.rest_api_port), 60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            connection.sendall(bytes([byte]))
        while chunk := connection.recv(65536):
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "body",
    [gzip.compress(GOOD)[:-1], gzip.compress(GOOD)[:-9], gzip.compress(GOOD) + b"x", GOOD, b""],
    ids=["no end", "no checksum", "more behind it", "none at all", "empty"],
)
def test_gzip_is_whole_or_refused(body: bytes, server: Server) -> None:
    status, answer = _post(server, body, Content_Encoding="gzip")
    assert status == 400
    assert "gzip" in answer
    assert _post(server, gzip.compress(GOOD), Content_Encoding="gzip")[0] == 200


def test_pictures_of_very_many_pixels_are_not_decoded(server: Server) -> None:
    """Two requests of eight 12,000 x 12,000 PNGs each: decoded, they would take 7 GB."""
    file = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(file, "PNG")
    huge = {"b64": base64.b64encode(file.getvalue()).decode()}
    good = {"b64": base64.b64encode(RED).decode()}
    body = json.dumps({"instances": [huge] * 4 + [good] + [huge] * 4}).encode()
    before = _memory(server)
    answers: list[tuple[int, str]] = []
    attackers = [
        threading.Thread(target=lambda: answers.append(_post(server, body))) for _ in range(2)
    ]
    for attacker in attackers:
        attacker.start()
    for attacker in attackers:
        attacker.join()
    assert _memory(server) - before < 256 << 20
    for status, answer in answers:
        assert status == 200, answer
        rows = json.loads(answer)["predictions"]
        assert [row["caption"] for row in rows] == (
            [""] * 4 + ["a captioner scene in red"] + [""] * 4
        )
        assert {row["score"] for row in rows[:4]} == {NO_CAPTION_SCORE}


@pytest.mark.slow(reason="a server of its own")
def test_bodies_that_arrive_at_once_are_bounded_together(target: Server) -> None:
    """Ten clients send all but the last byte of the largest body, and a small one is answered."""
    size = 64 << 20
    head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode()
    block = b" " * (1 << 20)
    before = _memory(target)

    def send() -> None:
        address = ("127.0.0.1", target.endpoint.rest_api_port)
        with socket.create_connection(address, 60) as connection:
            connection.sendall(head)
            for _ in range(63):
                connection.sendall(block)
            arrived.wait(timeout=60)

    arrived = threading.Barrier(11)
    senders = [threading.Thread(target=send) for _ in range(10)]
    for sender in senders:
        sender.start()
    while _memory(target) - before < 400 << 20 and arrived.n_waiting < 10:
        assert _post(target, GOOD)[0] == 200
    assert _post(target, GOOD)[0] == 200
    print(f"grown by {(_memory(target) - before) / 2**20:.0f} MiB")
    assert _memory(target) - before < 1 << 30
    arrived.wait(timeout=60)
    for sender in senders:
        sender.join()


@pytest.mark.slow(reason="a server of its own, ended while it works")
def test_a_signal_ends_the_server_whatever_it_reads(serving_dir: Path, tmp_path: Path) -> None:
    endpoint = launcher.free_endpoint()
    argv = [*launcher.command("local", serving_dir, endpoint), "--shutdown_seconds=5"]
    with launcher.running(argv, endpoint, tmp_path / "log") as server:
        server.wait_until_available(config.find_models(serving_dir), timeout=240)
        bomb = _bomb()
        threads = [
            threading.Thread(target=lambda: _try_post(server, bomb), daemon=True) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        assert _post(server, GOOD)[0] == 200
        server.process.terminate()
        assert server.process.wait(timeout=90) == 0
        for thread in threads:
            thread.join(timeout=60)


def _try_post(server: Server, body: bytes) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):  # the server may end first
        _post(server, body, Content_Encoding="gzip")


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is not told to listen on loopback alone, though nobody else finds it there."""
    folder = tmp_path_factory.mktemp("exposed")
    saved_models.save_half_plus_two(folder / "serving/half_plus_two", 1)
    config.write_all(folder / "serving")
    endpoint = launcher.free_endpoint()
    argv = launcher.command("local", folder / "serving", endpoint)
    argv += ["--enable_reload_config=false", "--rest_api_enable_cors_support"]
    with launcher.running(argv, endpoint, folder / "server.log") as server:
        server.wait_until_available(["half_plus_two"], timeout=120)
        yield server


@pytest.mark.slow(reason="a server of its own")
def test_the_configuration_is_not_replaced_where_it_is_forbidden(exposed: Server) -> None:
    with (
        CaptionClient(exposed.endpoint.grpc_url) as client,
        pytest.raises(ServingError, match=r"PERMISSION_DENIED.*--enable_reload_config"),
    ):
        client.reload(messages.ModelServerConfig())
    assert httpx.get(f"{exposed.endpoint.rest_url}/v1/models/half_plus_two").status_code == 200


@pytest.mark.parametrize(
    ("flags", "allowed"),
    [
        ([], True),
        (["--host=localhost"], True),
        (["--host=::1"], True),
        (["--host=0.0.0.0"], False),
        (["--host=192.0.2.1"], False),
        (["--host=0.0.0.0", "--enable_reload_config"], True),
        (["--enable_reload_config=false"], False),
    ],
)
def test_who_may_replace_the_configuration(flags: list[str], allowed: bool, tmp_path: Path) -> None:
    arguments = build_parser().parse_args([f"--model_base_path={tmp_path}", *flags])
    assert read_options(arguments).enable_reload_config == allowed


@pytest.mark.slow(reason="a server of its own")
def test_pages_of_other_origins_ask_where_the_flag_lets_them(
    exposed: Server, server: Server
) -> None:
    origin = {"Origin": "https://example.com"}
    preflight = {**origin, "Access-Control-Request-Method": "POST"}
    body = '{"instances": [[1.0]]}'
    path = "/v1/models/half_plus_two"
    asked = httpx.options(f"{exposed.endpoint.rest_url}{path}:predict", headers=preflight)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == "https://example.com"
    answer = httpx.post(f"{exposed.endpoint.rest_url}{path}:predict", content=body, headers=origin)
    assert answer.json() == {"predictions": [[2.5]]}
    assert answer.headers["access-control-allow-origin"] in ("*", "https://example.com")
    assert httpx.options(f"{exposed.endpoint.rest_url}{path}").status_code == 400

    assert httpx.options(f"{server.endpoint.rest_url}{path}", headers=preflight).status_code == 400
    plain = httpx.get(f"{server.endpoint.rest_url}{path}", headers=origin)
    assert "access-control-allow-origin" not in plain.headers


@pytest.mark.parametrize(
    "example", [b"\xff\xd8\xff\xe0 no Example", b"\x80", "é".encode("latin-1") * 9]
)
def test_bytes_that_are_no_example_are_the_fault_of_the_request(
    example: bytes, server: Server
) -> None:
    encoded = base64.b64encode(example).decode()
    body = {"signature_name": "serving_examples", "instances": [{"b64": encoded}]}
    status, answer = _post(server, json.dumps(body).encode())
    assert status == 400, answer
    assert "Could not parse example input" in json.loads(answer)["error"]
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "captioner"
    request.model_spec.signature_name = "serving_examples"
    request.inputs["examples"].dtype = 7
    request.inputs["examples"].tensor_shape.dim.add(size=1)
    request.inputs["examples"].string_val.append(example)
    with grpc.insecure_channel(server.endpoint.grpc_url.removeprefix("grpc://")) as channel:
        predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        with pytest.raises(grpc.RpcError) as refused:
            predict(request.SerializeToString(), timeout=60)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "Could not parse example input" in refused.value.details()
