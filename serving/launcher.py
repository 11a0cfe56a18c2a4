"""Starts a model server: the `tensorflow_model_server` binary, its Docker image, or the local one.

All three are given the same configuration files and answer the same calls.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from tfx_captioner.serving import die_with_parent
from tfx_captioner.serving.client import CallOptions, CaptionClient
from tfx_captioner.serving.config import BATCHING_FILE, MODELS_FILE, MONITORING_FILE
from tfx_captioner.serving.errors import ServingError
from tfx_captioner.serving.local import __main__ as local_server

Kind = Literal["binary", "docker", "local"]

BINARY = "tensorflow_model_server"
DOCKER_IMAGE = "tensorflow/serving:2.19.1"
LOOPBACK = "127.0.0.1"
_DOCKER_GRPC, _DOCKER_REST = 8500, 8501  # ports inside the image
_LOG_TAIL = 20  # lines of a server's log that an error repeats


class ServerError(Exception):
    """A server did not start, or ended; the message holds the end of its log."""


@dataclass(frozen=True)
class Endpoint:
    """Where a server listens.

    Attributes:
      host: Address; the binary listens on every address, whatever is said here.
      port: Port of gRPC.
      rest_api_port: Port of REST.
    """

    host: str = LOOPBACK
    port: int = 8500
    rest_api_port: int = 8501

    @property
    def grpc_url(self) -> str:
        return f"grpc://{self._reachable}:{self.port}"

    @property
    def rest_url(self) -> str:
        return f"http://{self._reachable}:{self.rest_api_port}"

    @property
    def _reachable(self) -> str:
        return LOOPBACK if self.host == "0.0.0.0" else self.host


def choose(wanted: Literal["auto", "binary", "docker", "local"] = "auto") -> Kind:
    """The kind of server to start: the binary, else Docker, else the local server.

    Args:
      wanted: "auto", or the only one that will do.

    Raises:
      ServerError: What is wanted is not on this machine.
    """
    if wanted in ("auto", "binary") and shutil.which(BINARY):
        return "binary"
    if wanted in ("auto", "docker") and _docker_answers():
        return "docker"
    if wanted in ("auto", "local"):
        return "local"
    raise ServerError(
        f"{BINARY} is not on the PATH."
        if wanted == "binary"
        else "Docker is not on this machine, or its daemon does not answer."
    )


def command(
    kind: Kind, serving_dir: Path, endpoint: Endpoint, *, batching: bool = True
) -> list[str]:
    """The command line of a server for what `serving.config.write_all` wrote.

    Args:
      kind: Which server.
      serving_dir: Directory of models and configuration files.
      endpoint: Where it shall listen.
      batching: Whether requests share batches.
    """
    serving_dir = serving_dir.absolute()
    flags = [
        f"--model_config_file={serving_dir / MODELS_FILE}",
        f"--monitoring_config_file={serving_dir / MONITORING_FILE}",
        "--file_system_poll_wait_seconds=1",
        # The labels of the first configuration name versions that are loaded by it.
        "--allow_version_labels_for_unavailable_models=true",
    ]
    if batching:
        flags += [
            "--enable_batching=true",
            f"--batching_parameters_file={serving_dir / BATCHING_FILE}",
        ]
    ports = [f"--port={endpoint.port}", f"--rest_api_port={endpoint.rest_api_port}"]
    if kind == "binary":
        return [BINARY, *ports, *flags]
    if kind == "local":
        module = str(local_server.__package__)
        return [sys.executable, "-m", module, f"--host={endpoint.host}", *ports, *flags]
    return [
        "docker", "run", "--rm", "--init",
        f"--publish={endpoint.host}:{endpoint.port}:{_DOCKER_GRPC}",
        f"--publish={endpoint.host}:{endpoint.rest_api_port}:{_DOCKER_REST}",
        f"--volume={serving_dir}:{serving_dir}:ro",
        DOCKER_IMAGE,
        *flags,
    ]  # fmt: skip


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
      process: Its process.
      endpoint: Where it listens.
      log: File its output goes to; None for the terminal.
    """

    process: subprocess.Popen[bytes]
    endpoint: Endpoint
    log: Path | None

    def wait_until_available(self, models: Iterable[str], timeout: float) -> None:
        """Returns when every model has an available version.

        Raises:
          ServerError: The server ended, or the time was up.
        """
        deadline = time.monotonic() + timeout
        for model in models:
            with CaptionClient(
                self.endpoint.grpc_url, model=model, options=CallOptions(timeout=2, attempts=1)
            ) as client:
                while not _is_available(client):
                    if self.process.poll() is not None:
                        raise ServerError(
                            f"The server ended with status {self.process.returncode}: "
                            f"{self.log_tail()}"
                        )
                    if time.monotonic() > deadline:
                        raise ServerError(
                            f"{model} was not available after {timeout:.0f} s: {self.log_tail()}"
                        )
                    time.sleep(0.1)

    def log_tail(self) -> str:
        """The last lines of its log."""
        if self.log is None:
            return "see its output"
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL:])


def start(argv: Sequence[str], output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Starts a server. It ends when this process does, even by SIGKILL.

    Linux looks at the thread, not at the process: the server ends with the thread that started it.

    Args:
      argv: What `command` gave.
      output: File for its output; None for the terminal.

    Raises:
      ServerError: There is no such program.
    """
    if not shutil.which(argv[0]):
        raise ServerError(f"{argv[0]} does not start: there is no such program.")
    guard = [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid())]
    return subprocess.Popen(
        [*guard, *argv],
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        env=environment(),
    )


@contextlib.contextmanager
def running(argv: Sequence[str], endpoint: Endpoint, log: Path) -> Iterator[Server]:
    """Runs a server in a process of its own, and ends it with the block.

    Args:
      argv: What `command` gave.
      endpoint: Where it listens.
      log: File for its output.

    Raises:
      ServerError: There is no such program.
    """
    with log.open("ab") as output:
        process = start(argv, output)
    try:
        yield Server(process, endpoint, log)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], patience: float = 40.0) -> None:
    """Ends a server: by SIGTERM, and by SIGKILL if it has not finished in time."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def check_free(endpoint: Endpoint) -> None:
    """Looks whether nobody listens where a server is to be started.

    Whoever does might serve models of the same names, and be taken for the new server.

    Raises:
      ServerError: A port is taken, or the address is not one of this machine.
    """
    for port in (endpoint.port, endpoint.rest_api_port):
        try:
            with socket.create_server((endpoint.host, port)):
                pass
        except OSError as error:
            raise ServerError(f"Cannot listen on {endpoint.host}:{port}: {error}") from error


def free_endpoint() -> Endpoint:
    """An endpoint on loopback whose ports nobody listens on."""
    with socket.socket() as first, socket.socket() as second:
        first.bind((LOOPBACK, 0))
        second.bind((LOOPBACK, 0))
        return Endpoint(LOOPBACK, first.getsockname()[1], second.getsockname()[1])


def _is_available(client: CaptionClient) -> bool:
    try:
        return any(version.state == "AVAILABLE" for version in client.status())
    except ServingError:
        return False


def _docker_answers() -> bool:
    if not shutil.which("docker"):
        return False
    try:
        return (
            subprocess.run(
                ["docker", "version", "--format", "{{.Server.Version}}"],
                capture_output=True,
                timeout=10,
                check=False,
            ).returncode
            == 0
        )
    except subprocess.TimeoutExpired:
        return False


def environment() -> dict[str, str]:
    """The environment of a server: a Python one finds the packages of this interpreter."""
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
