"""REST clients that take their time are cut, and hold up neither others nor the end."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import saved_models

from tfx_captioner.serving import config, launcher
from tfx_captioner.serving.launcher import Server

# Long enough that the test fails when nothing but these would end the connection or the server.
FAR = 600
PAGE = b"GET /monitoring/prometheus/metrics HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Server]:
    """A server that waits for a client for a second, and for its end nearly for ever."""
    saved_models.save_half_plus_two(tmp_path / "half_plus_two", 1)
    config.write_all(tmp_path)
    endpoint = launcher.free_endpoint()
    argv = launcher.command("local", tmp_path, endpoint)
    argv += ["--rest_api_timeout_in_ms=1000", f"--shutdown_seconds={FAR}"]
    with launcher.running(argv, endpoint, tmp_path / "server.log") as server:
        server.wait_until_available(["half_plus_two"], timeout=120)
        yield server


def _connect(server: Server) -> socket.socket:
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", server.endpoint.rest_api_port))
    return connection


def _ask_without_reading(server: Server) -> socket.socket:
    """Asks for more than all buffers between the server and here hold."""
    connection = _connect(server)
    connection.settimeout(0.2)
    try:
        for _ in range(100):
            connection.sendall(PAGE * 100)
    except TimeoutError:
        pass  # the server stopped reading, since nobody takes its answers
    return connection


def _is_cut(connection: socket.socket) -> bool:
    """Whether the other end resets the connection before long; nothing is read."""
    poll = select.poll()
    poll.register(connection, 0)
    return bool(poll.poll(120_000))


@pytest.mark.slow(reason="a server of its own")
def test_who_does_not_read_or_write_is_cut_and_holds_up_nothing(impatient: Server) -> None:
    deaf = _ask_without_reading(impatient)
    mute = _connect(impatient)
    halting = _connect(impatient)
    halting.sendall(PAGE)
    while b"# TYPE" not in halting.recv(65536):
        pass
    halting.sendall(b"GET /v1/mod")  # the head of a second request, and no more of it
    url = f"{impatient.endpoint.rest_url}/v1/models/half_plus_two"
    assert httpx.get(url).status_code == 200

    assert _is_cut(deaf)
    assert _is_cut(mute)
    assert _is_cut(halting)
    assert httpx.get(url).status_code == 200

    deaf_to_the_end = _ask_without_reading(impatient)
    impatient.process.terminate()
    assert impatient.process.wait(120) == 0
    assert _is_cut(deaf_to_the_end)
