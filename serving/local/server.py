"""The local model server: TF Serving's protocol on TensorFlow's own runtime.

For machines without TF Serving, for tests and for the demo. It is no competitor of TF Serving,
which is what belongs in front of users: one process, Python, a handful of signatures.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from google.protobuf import text_format
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp
from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from tfx_captioner.serving.config import BatchingParameters
from tfx_captioner.serving.local import grpc_api
from tfx_captioner.serving.local.http_protocol import protocol
from tfx_captioner.serving.local.manager import ModelManager
from tfx_captioner.serving.local.metrics import Metrics
from tfx_captioner.serving.local.predictor import Predictor
from tfx_captioner.serving.local.rest_api import RestApi, RestLimits
from tfx_captioner.serving.local.scheduler import BatchScheduler
from tfx_captioner.serving.local.servable import Servable

_LOG = logging.getLogger("captioner.serving")


@dataclass(frozen=True)
class ServerOptions:
    """How a server is run; the names are those of TF Serving's flags where it has them.

    Attributes:
      config: Models to serve.
      host: Address to listen on.
      port: Port of gRPC; 0 for none.
      rest_api_port: Port of REST; 0 for none.
      rest_api_timeout_in_ms: Milliseconds a REST request may take, until its head and its body
        have come, until its answer is there, and until that is taken, each.
      file_system_poll_wait_seconds: Seconds between two looks at the disk; 0 looks once.
      allow_version_labels_for_unavailable_models: Whether a new label may name a version that is
        not loaded.
      enable_reload_config: Whether HandleReloadConfigRequest is answered.
      rest_api_enable_cors_support: Whether web pages of other origins may ask.
      batching: Batching parameters; None for no batching.
      metrics_path: Path of the Prometheus page; empty for none.
      max_request_bytes: Largest request.
      max_concurrent_requests: Requests at the same time, per entry point.
      shutdown_seconds: How long requests may go on after a signal to stop.
      intra_op_threads: Threads of one operation; 0 lets TensorFlow choose.
      inter_op_threads: Operations run at the same time; 0 lets TensorFlow choose.
    """

    config: config_pb2.ModelServerConfig
    host: str = "127.0.0.1"
    port: int = 8500
    rest_api_port: int = 0
    rest_api_timeout_in_ms: int = 30_000
    file_system_poll_wait_seconds: float = 1.0
    allow_version_labels_for_unavailable_models: bool = False
    enable_reload_config: bool = False
    rest_api_enable_cors_support: bool = False
    batching: BatchingParameters | None = None
    metrics_path: str = ""
    max_request_bytes: int = 64 << 20
    max_concurrent_requests: int = 256
    shutdown_seconds: float = 30.0
    intra_op_threads: int = 0
    inter_op_threads: int = 0


def read_config(path: Path) -> config_pb2.ModelServerConfig:
    """Reads a `models.config`.

    Raises:
      ValueError: It is no ModelServerConfig.
    """
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), config_pb2.ModelServerConfig())
    except text_format.ParseError as error:
        raise ValueError(
            f"Error parsing text-format tensorflow.serving.ModelServerConfig: {error} (file {path})"
        ) from error


async def serve(options: ServerOptions) -> None:
    """Loads the models, answers until SIGTERM or SIGINT, and finishes what was begun.

    Raises:
      StatusError: The configuration is refused or no version of a model loads.
      OSError: A port is taken.
    """
    metrics = Metrics()
    manager = ModelManager(
        load=functools.partial(
            Servable,
            intra_op_threads=options.intra_op_threads,
            inter_op_threads=options.inter_op_threads,
            on_warm_up=metrics.warmed_up,
        ),
        allow_labels_for_unavailable=options.allow_version_labels_for_unavailable_models,
    )
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, manager.configure, options.config)
    if options.batching is None:
        scheduler = BatchScheduler(None)
    else:
        scheduler = BatchScheduler(options.batching, on_dequeue=metrics.queued)
    predictor = Predictor(manager, scheduler, metrics)
    if options.file_system_poll_wait_seconds > 0:
        manager.watch(options.file_system_poll_wait_seconds)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        async with _grpc(options, predictor), _rest(options, predictor):
            await stop.wait()
            _LOG.info("stopping: requests under way are finished, new ones refused")
    finally:
        await loop.run_in_executor(None, scheduler.stop)
        await loop.run_in_executor(None, manager.stop)


@contextlib.asynccontextmanager
async def _grpc(options: ServerOptions, predictor: Predictor):
    if not options.port:
        yield
        return
    server, health = grpc_api.make_server(
        predictor,
        max_message_bytes=options.max_request_bytes,
        max_concurrent=options.max_concurrent_requests,
        enable_reload_config=options.enable_reload_config,
    )
    address = f"{options.host}:{options.port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(f"gRPC cannot listen on {address}: is the port taken?") from error
    if not bound:
        raise OSError(f"gRPC cannot listen on {address}: is the port taken?")
    server.start()
    grpc_api.set_serving(health)
    _LOG.info("Running gRPC ModelServer at %s ...", address)
    try:
        yield
    finally:
        health.enter_graceful_shutdown()
        stopped = server.stop(options.shutdown_seconds)
        await asyncio.get_running_loop().run_in_executor(None, stopped.wait)


@contextlib.asynccontextmanager
async def _rest(options: ServerOptions, predictor: Predictor):
    if not options.rest_api_port:
        yield
        return
    timeout = options.rest_api_timeout_in_ms / 1000
    limits = RestLimits(
        timeout=timeout,
        max_body_bytes=options.max_request_bytes,
        max_concurrent=options.max_concurrent_requests,
        metrics_path=options.metrics_path,
    )
    application: ASGIApp = RestApi(predictor, limits)
    if options.rest_api_enable_cors_support:
        application = CORSMiddleware(
            application,
            allow_origin_regex="https?://.*",
            allow_methods=["GET", "POST"],
            allow_headers=["Content-Type", "Content-Encoding"],
        )
    server = _RestServer(
        uvicorn.Config(
            application,
            host=options.host,
            port=options.rest_api_port,
            http=protocol(timeout),
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=int(options.shutdown_seconds),
        )
    )
    running = asyncio.create_task(server.serve())
    while not server.started:
        if running.done():
            raise OSError(
                f"REST cannot listen on {options.host}:{options.rest_api_port}: is the port taken?"
            )
        await asyncio.sleep(0.01)
    _LOG.info("Exporting HTTP/REST API at:%s:%d ...", options.host, options.rest_api_port)
    try:
        yield
    finally:
        server.should_exit = True
        await running


class _RestServer(uvicorn.Server):
    """uvicorn without its own signal handlers: the signals stop both entry points."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets=None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            # uvicorn exits the process when the port is taken; `_rest` raises instead.
            self.should_exit = True
