"""Versions come and go under load."""

from __future__ import annotations

import collections
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import saved_models

from tfx_captioner.serving.client import CallOptions, CaptionClient
from tfx_captioner.serving.errors import ServingError
from tfx_captioner.serving.launcher import Endpoint, Server
from tfx_captioner.serving.local import storage
from tfx_captioner.serving.local.storage import VersionDirectory
from tfx_captioner.serving.wire import ModelVersion

MODEL = "swapped"
CLIENTS = 16
RED = saved_models.image(saved_models.RED)


class Load:
    """Clients that ask without a pause and without a second try, half of them over REST."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.answers: collections.Counter[str] = collections.Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=[url])
            for url in (endpoint.grpc_url, endpoint.rest_url) * (CLIENTS // 2)
        ]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url: str) -> None:
        options = CallOptions(timeout=60, attempts=1)
        with CaptionClient(url, model=MODEL, options=options) as client:
            while not self._stop.is_set():
                try:
                    caption = client.caption(RED)
                except ServingError as error:
                    self.failures.append(str(error))
                    continue
                self.answers[caption.text] += 1
                if caption.version and caption.text != f"a v{caption.version} scene in red":
                    self.failures.append(f"version {caption.version} answered {caption.text!r}")


def _wait_for(client: CaptionClient, version: int, state: str) -> ModelVersion:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for status in client.status():
            if (status.version, status.state) == (version, state):
                return status
        time.sleep(0.05)
    raise AssertionError(f"version {version} never was {state}: {client.status()}")


@pytest.mark.slow(reason="ten versions are pushed one after the other, under load")
def test_ten_swaps_and_a_broken_version_without_a_failed_request(
    server: Server, serving_dir: Path
) -> None:
    base = serving_dir / MODEL
    with (
        CaptionClient(server.endpoint.grpc_url, model=MODEL) as client,
        Load(server.endpoint) as load,
    ):
        for version in range(2, 12):
            if version == 6:
                saved_models.save_broken(base, 1000)
                assert _wait_for(client, 1000, "END").error
                shutil.rmtree(base / "1000")
            saved_models.save_captioner(base, version)
            _wait_for(client, version, "AVAILABLE")
        _wait_for(client, 9, "END")

    print(f"{sum(load.answers.values())} requests, {len(load.failures)} failed, {load.answers}")
    assert load.failures == []
    assert load.answers["a v1 scene in red"] > 0
    assert load.answers["a v11 scene in red"] > 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets the watch over the disk believe that seconds have passed."""
    passed = 0.0

    def pass_time(seconds: float) -> None:
        nonlocal passed
        passed += seconds

    monkeypatch.setattr(storage.time, "monotonic", lambda: passed)
    return pass_time


def test_a_version_is_seen_when_it_is_whole(tmp_path: Path, clock: Callable[[float], None]) -> None:
    directory = VersionDirectory(tmp_path)
    version = tmp_path / "0007"
    (version / "variables").mkdir(parents=True)
    (version / "variables/variables.index").write_bytes(b"1")
    (tmp_path / "8.tmp").mkdir()
    (tmp_path / "notes").mkdir()
    assert directory.look() == {}

    (version / "saved_model.pb").write_bytes(b"half")
    assert directory.look() == {}, "it may still be growing"
    clock(storage.SETTLE_SECONDS)
    (version / "saved_model.pb").write_bytes(b"half and the rest")
    assert directory.look() == {}, "it was"
    assert directory.look() == {}, "however often one looks"
    clock(storage.SETTLE_SECONDS)
    assert set(directory.look()) == {7}
    shutil.rmtree(version)
    assert directory.look() == {}


def test_a_copy_that_keeps_old_dates_is_not_taken_for_an_old_version(
    tmp_path: Path, clock: Callable[[float], None]
) -> None:
    """`cp -a` writes the graph first, and dates it as the original at once."""
    graph = tmp_path / "1/saved_model.pb"
    graph.parent.mkdir()
    graph.write_bytes(b"the graph, and no variables yet")
    os.utime(graph, (0, 0))
    directory = VersionDirectory(tmp_path)
    assert directory.look() == {}
    clock(storage.SETTLE_SECONDS)
    assert set(directory.look()) == {1}
