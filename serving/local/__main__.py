"""`python -m tfx_captioner.serving.local`: a model server with tensorflow_model_server's flags."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfx_captioner.serving.addresses import is_loopback
from tfx_captioner.serving.config import BatchingParameters, read_metrics_path

if TYPE_CHECKING:
    from tfx_captioner.serving.local import server


def build_parser() -> argparse.ArgumentParser:
    """The parser; flags that TF Serving has are named as there."""
    parser = argparse.ArgumentParser(
        prog="python -m tfx_captioner.serving.local",
        description="A small stand-in for tensorflow_model_server.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for every one")
    add("--port", type=int, default=8500, help="port of gRPC, 0 for none")
    add("--rest_api_port", type=int, default=0, help="port of REST, 0 for none")
    add(
        "--rest_api_timeout_in_ms",
        type=int,
        default=30_000,
        help="limit of a REST request, and of taking its answer",
    )
    add("--model_config_file", type=Path, help="text proto ModelServerConfig")
    add("--model_name", default="default", help="name of the model of --model_base_path")
    add("--model_base_path", type=Path, help="directory of the versions of a single model")
    add("--monitoring_config_file", type=Path, help="text proto MonitoringConfig")
    switch: dict[str, Any] = {"nargs": "?", "type": _boolean, "const": True, "default": False}
    add("--enable_batching", help="run waiting requests together", **switch)
    add("--batching_parameters_file", type=Path, help="text proto BatchingParameters")
    add("--file_system_poll_wait_seconds", type=float, default=1.0, help="0 looks once")
    add(
        "--allow_version_labels_for_unavailable_models",
        help="let a new label name a version that is not loaded",
        **switch,
    )
    add(
        "--enable_reload_config",
        help="answer HandleReloadConfigRequest, by which a client makes this server load any "
        "SavedModel of this machine; by default where --host is a loopback address",
        **{**switch, "default": None},
    )
    add(
        "--rest_api_enable_cors_support",
        help="let web pages of other origins ask",
        **switch,
    )
    add("--tensorflow_intra_op_parallelism", type=int, default=0, help="0 lets TensorFlow choose")
    add("--tensorflow_inter_op_parallelism", type=int, default=0, help="0 lets TensorFlow choose")
    add("--max_request_bytes", type=int, default=64 << 20, help="larger requests are refused")
    add("--max_concurrent_requests", type=int, default=256, help="per entry point")
    add("--shutdown_seconds", type=float, default=30.0, help="for requests under way")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until a signal comes.

    Returns:
      0 after a signal, 1 when the server could not start.
    """
    arguments = build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname).1s %(message)s")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore", FutureWarning)  # Google's, about the version of Python
    # Imported late: --help needs no TensorFlow.
    from tfx_captioner.serving.local import server
    from tfx_captioner.serving.local.status import StatusError

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        asyncio.run(server.serve(read_options(arguments)))
    except (OSError, ValueError, StatusError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _boolean(text: str) -> bool:
    """TensorFlow's flags take `--flag`, `--flag=true` and `--flag=false`."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"true or false, not {text!r}")
    return text.lower() == "true"


def read_options(arguments: argparse.Namespace) -> server.ServerOptions:
    """What flags ask for, with the files that they name.

    Args:
      arguments: Flags, as `build_parser` gives them.

    Raises:
      ValueError: No model is named, or a file cannot be read.
    """
    from tensorflow_serving.config import model_server_config_pb2

    from tfx_captioner.serving.local import server

    monitoring = arguments.monitoring_config_file
    if arguments.model_config_file:
        config = server.read_config(arguments.model_config_file)
    elif arguments.model_base_path:
        config = model_server_config_pb2.ModelServerConfig()
        config.model_config_list.config.add(
            name=arguments.model_name,
            base_path=str(arguments.model_base_path.absolute()),
            model_platform="tensorflow",
        )
    else:
        raise ValueError("Give --model_config_file, or --model_base_path.")
    return server.ServerOptions(
        config=config,
        host=arguments.host,
        port=arguments.port,
        rest_api_port=arguments.rest_api_port,
        rest_api_timeout_in_ms=arguments.rest_api_timeout_in_ms,
        file_system_poll_wait_seconds=arguments.file_system_poll_wait_seconds,
        allow_version_labels_for_unavailable_models=(
            arguments.allow_version_labels_for_unavailable_models
        ),
        enable_reload_config=(
            is_loopback(arguments.host)
            if arguments.enable_reload_config is None
            else arguments.enable_reload_config
        ),
        rest_api_enable_cors_support=arguments.rest_api_enable_cors_support,
        batching=_batching(arguments),
        metrics_path=read_metrics_path(monitoring) if monitoring else "",
        max_request_bytes=arguments.max_request_bytes,
        max_concurrent_requests=arguments.max_concurrent_requests,
        shutdown_seconds=arguments.shutdown_seconds,
        intra_op_threads=arguments.tensorflow_intra_op_parallelism,
        inter_op_threads=arguments.tensorflow_inter_op_parallelism,
    )


def _batching(arguments: argparse.Namespace) -> BatchingParameters | None:
    file = arguments.batching_parameters_file
    if file and not arguments.enable_batching:
        raise ValueError(
            "server_options.batching_parameters_file is set without setting "
            "server_options.enable_batching to true."
        )
    if not arguments.enable_batching:
        return None
    return BatchingParameters.from_text(file.read_text(encoding="utf-8") if file else "")


if __name__ == "__main__":
    sys.exit(main())
