"""The client library against the local server and TF Serving, over gRPC and REST."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import saved_models
from tensorflow_serving.apis import model_management_pb2, predict_pb2

from tfx_captioner.serving import messages
from tfx_captioner.serving.client import (
    NO_CAPTION_SCORE,
    AsyncCaptionClient,
    CallOptions,
    Caption,
    CaptionClient,
)
from tfx_captioner.serving.config import BATCHING
from tfx_captioner.serving.errors import ServingError
from tfx_captioner.serving.in_process import open_saved_model
from tfx_captioner.serving.launcher import Server, free_endpoint

RED = saved_models.image(saved_models.RED)
GREEN = saved_models.image(saved_models.GREEN, form="JPEG")
BROKEN_PNG = RED[:40]


@pytest.fixture(params=["grpc", "http"])
def url(request: pytest.FixtureRequest, any_server: Server) -> str:
    endpoint = any_server.endpoint
    return endpoint.grpc_url if request.param == "grpc" else endpoint.rest_url


def test_caption_beams_attention(url: str) -> None:
    with CaptionClient(url, model="resnet_gru") as client:
        caption = client.caption(RED)
        beams = client.beams(RED)
        attention = client.attention(RED)

    assert caption.text == "a resnet_gru scene in red"
    assert caption.score == pytest.approx(-200 / 255)
    assert caption.version == (1 if url.startswith("grpc") else None)
    assert [beam.text for beam in beams] == [caption.text, f"{caption.text} again"]
    assert attention.tokens == ("a", "resnet_gru", "scene", "in", "red")
    assert attention.maps[1] == [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]


def test_a_broken_image_is_found_and_its_neighbours_are_captioned(url: str) -> None:
    with CaptionClient(url) as client:
        first, text, broken, last = client.captions([RED, b"text", BROKEN_PNG, GREEN])

    assert isinstance(first, Caption)
    assert isinstance(last, Caption)
    assert (first.text, last.text) == ("a captioner scene in red", "a captioner scene in green")
    assert isinstance(text, Caption)
    assert (text.text, text.score) == ("", NO_CAPTION_SCORE)
    assert isinstance(broken, ServingError)
    assert broken.code == "INVALID_ARGUMENT"


def test_more_images_than_a_request_may_hold_are_captioned(url: str) -> None:
    images = [RED, GREEN] * BATCHING.max_batch_size
    with CaptionClient(url) as client:
        captions = client.captions(images)
    assert [caption.text.rpartition(" ")[2] for caption in captions] == (
        ["red", "green"] * BATCHING.max_batch_size
    )


def test_a_stream_keeps_the_order_and_draws_images_as_needed(url: str) -> None:
    drawn = 0

    def images():
        nonlocal drawn
        for index in range(40):
            drawn += 1
            yield GREEN if index % 3 else RED

    with CaptionClient(url) as client:
        results = client.stream(images(), in_flight=4)
        first = next(results)
        assert drawn <= 5
        texts = [result.text for result in [first, *results]]

    assert texts == [
        f"a captioner scene in {'green' if index % 3 else 'red'}" for index in range(40)
    ]


def test_the_asynchronous_client_gives_the_same(url: str) -> None:
    async def ask() -> tuple:
        async with AsyncCaptionClient(url) as client:
            stream = [result async for result in client.stream([RED, GREEN, RED], in_flight=2)]
            batch = await client.captions([RED, BROKEN_PNG])
            assert await client.version() == 1
            return stream, batch, await client.beams(RED), await client.attention(RED)

    stream, batch, beams, attention = asyncio.run(ask())
    with CaptionClient(url) as client:
        assert client.version() == 1
        assert stream == [client.caption(image) for image in (RED, GREEN, RED)]
        assert batch[0] == client.caption(RED)
        assert beams == client.beams(RED)
        assert attention == client.attention(RED)
    assert isinstance(batch[1], ServingError)


def test_versions_and_labels(any_server: Server) -> None:
    url = any_server.endpoint.grpc_url
    with CaptionClient(url, label="stable") as stable, CaptionClient(url, version=7) as missing:
        assert stable.caption(RED).version == 1
        (status,) = stable.status()
        assert (status.version, status.state, status.error) == (1, "AVAILABLE", "")
        assert stable.version() == 1
        with pytest.raises(ServingError, match=r"NOT_FOUND: .*Specific\(captioner, 7\)"):
            missing.caption(RED)
        with pytest.raises(ServingError, match="NOT_FOUND"):
            missing.version()
    with (
        CaptionClient(url, label="no") as unknown,
        pytest.raises(ServingError, match="INVALID_ARGUMENT: Unrecognized servable version label"),
    ):
        unknown.version()
    with pytest.raises(ValueError, match="not both"):
        CaptionClient(url, version=1, label="stable")


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_server_that_is_away_is_tried_again_and_then_named(scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{free_endpoint().port}"
    options = CallOptions(timeout=5, attempts=3)
    with CaptionClient(url, options=options) as client, pytest.raises(ServingError) as away:
        client.caption(RED)
    assert away.value.code == "UNAVAILABLE"


def _ask(url: str) -> None:
    with CaptionClient(url, options=CallOptions(timeout=0.5)) as client:
        client.caption(RED)


def _ask_in_a_loop(url: str) -> None:
    async def ask() -> None:
        async with AsyncCaptionClient(url, options=CallOptions(timeout=0.5)) as client:
            await client.caption(RED)

    asyncio.run(ask())


@pytest.mark.parametrize("ask", [_ask, _ask_in_a_loop])
def test_an_answer_that_trickles_in_does_not_outlast_the_deadline(
    ask: Callable[[str], None],
) -> None:
    with _trickling_server() as url, pytest.raises(ServingError, match="DEADLINE_EXCEEDED"):
        ask(url)


@contextlib.contextmanager
def _trickling_server() -> Iterator[str]:
    """Promises a long answer, and sends it byte by byte, for as long as anybody reads."""

    def work() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not over.wait(0.05):
                connection.sendall(b" ")

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def test_a_proxy_is_not_asked_for_this_machine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_endpoint().port}")
    with CaptionClient(url, options=CallOptions(attempts=1)) as client:
        assert client.caption(RED).text == "a captioner scene in red"


def test_a_stream_of_nothing_at_a_time_is_refused() -> None:
    with CaptionClient() as client, pytest.raises(ValueError, match="Received: 8, 0"):
        list(client.stream([RED], batch_size=0))


@pytest.mark.parametrize("url", ["localhost:8500", "ftp://localhost:1", "grpc://"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="grpc://HOST:PORT"):
        CaptionClient(url)


def test_retries_stop_at_what_cannot_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    class Flaky:
        def predict(self, target, signature, images, timeout):
            tries.append(signature)
            code = "UNAVAILABLE" if len(tries) < 3 else "INTERNAL"
            raise ServingError(code, "try again")

    client = CaptionClient(transport=Flaky(), options=CallOptions(timeout=30, attempts=9))
    with pytest.raises(ServingError, match="INTERNAL"):
        client.caption(RED)
    assert len(tries) == 3


def test_the_model_in_this_process_gives_the_same(url: str, serving_dir: Path) -> None:
    with (
        open_saved_model(serving_dir / "captioner/1") as local,
        CaptionClient(url) as remote,
    ):
        assert local.caption(RED).text == remote.caption(RED).text
        assert local.caption(RED).version == 1
        assert local.attention(GREEN) == remote.attention(GREEN)
        assert isinstance(local.captions([BROKEN_PNG])[0], ServingError)


def test_messages_are_the_official_ones_on_the_wire() -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "captioner", "beams"
    request.model_spec.version.value = 5
    request.output_filter.append("captions")
    request.inputs["image_bytes"].string_val.append(b"\xff\xd8")
    request.inputs["image_bytes"].dtype = 7
    request.inputs["image_bytes"].tensor_shape.dim.add(size=1)
    ours = messages.PredictRequest.FromString(request.SerializeToString())
    assert str(ours) == str(request).replace("dtype: DT_STRING", "dtype: 7")

    reload = model_management_pb2.ReloadConfigRequest()
    model = reload.config.model_config_list.config.add(name="a", base_path="/b")
    model.model_version_policy.specific.versions.extend([1, 2])
    model.version_labels["stable"] = 2
    assert str(messages.ReloadConfigRequest.FromString(reload.SerializeToString())) == str(reload)


def test_the_client_needs_no_tensorflow(server: Server) -> None:
    """In an interpreter where TensorFlow and what needs it cannot be imported."""
    code = f"""
        import sys
        for name in ("tensorflow", "tfx", "tensorflow_serving", "numpy"):
            sys.modules[name] = None
        from tfx_captioner.serving.client import CaptionClient
        for url in ({server.endpoint.grpc_url!r}, {server.endpoint.rest_url!r}):
            with CaptionClient(url) as client:
                print(client.caption({RED!r}).text)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ},
    )  # fmt: skip
    assert result.stdout == "a captioner scene in red\n" * 2, result.stderr
