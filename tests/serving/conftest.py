"""One local server for all tests of this room, in a process of its own; TF Serving where it is."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import saved_models

from tfx_captioner.serving import config, launcher

HALF_VERSION = 123


@pytest.fixture(scope="session")
def serving_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run pushes: the champion and both candidates, version 1; half_plus_two besides."""
    path = tmp_path_factory.mktemp("serving")
    for name in ("captioner", "cnn_lstm", "resnet_gru"):
        saved_models.save_captioner(path / name, 1, word=name)
    saved_models.save_captioner(path / "swapped", 1)
    saved_models.save_half_plus_two(path / "half_plus_two", HALF_VERSION)
    config.write_all(path)
    return path


@pytest.fixture(scope="session")
def server(
    serving_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[launcher.Server]:
    """The local server, with every model available."""
    with _serving(
        "local", serving_dir, tmp_path_factory, "--file_system_poll_wait_seconds=0.2"
    ) as process:
        yield process


@pytest.fixture
def fresh_server(
    serving_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[launcher.Server]:
    """A local server that no other test has asked for anything."""
    with _serving("local", serving_dir, tmp_path_factory) as process:
        yield process


@pytest.fixture(scope="session")
def real_server(
    serving_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[launcher.Server]:
    """`tensorflow_model_server` on the same models."""
    if shutil.which(launcher.BINARY) is None:
        pytest.skip(f"needs {launcher.BINARY} on the PATH")
    with _serving("binary", serving_dir, tmp_path_factory) as process:
        yield process


@pytest.fixture(scope="session", params=["server", "real_server"])
def any_server(request: pytest.FixtureRequest) -> launcher.Server:
    """Both in turn: what is asserted of it holds for TF Serving too."""
    server: launcher.Server = request.getfixturevalue(request.param)
    return server


@contextlib.contextmanager
def _serving(
    kind: launcher.Kind,
    serving_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
    *flags: str,
) -> Iterator[launcher.Server]:
    endpoint = launcher.free_endpoint()
    argv = [*launcher.command(kind, serving_dir, endpoint), *flags]
    log = tmp_path_factory.mktemp("log") / "server.log"
    with launcher.running(argv, endpoint, log) as process:
        process.wait_until_available(config.find_models(serving_dir), timeout=240)
        yield process
