"""`captioner serve`: serve what was pushed."""

from __future__ import annotations

import argparse
import signal
import sys
from typing import Any

from tfx_captioner.pipeline.arguments import add_serving_dir
from tfx_captioner.pipeline.errors import UserError

HELP = "Serve the pushed models over gRPC and REST."
EXAMPLES = """\
examples:
  captioner serve                              tensorflow_model_server, else Docker, else local
  captioner serve --server local --rest-port 9001
  captioner serve --serving-dir runs/flickr8k/serving

Ask it with `captioner caption photo.jpg --server http://127.0.0.1:8501`.
"""
_WORDS = {
    "binary": "tensorflow_model_server, from the PATH",
    "docker": "TensorFlow Serving in Docker",
    "local": "the local model server (no tensorflow_model_server on the PATH, no Docker daemon)",
}
_WARNING = (
    "captioner: TensorFlow Serving listens on more than this machine; whoever reaches port {port} "
    "can make it load any SavedModel (see SECURITY.md)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds which models, which server, and where it listens."""
    add_serving_dir(parser)
    parser.add_argument(
        "--server", choices=("auto", "binary", "docker", "local"), default="auto",
        help="which server to start (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--host", default="127.0.0.1",
        help="address to listen on; 0.0.0.0 for every one (the binary always does)",
    )  # fmt: skip
    parser.add_argument(
        "--allow-reload", action="store_true",
        help="let whoever reaches the local server's gRPC port replace its configuration, as "
        "`captioner promote` does; without it only where --host is a loopback address",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=8500, help="port of gRPC (default: 8500)")
    parser.add_argument("--rest-port", type=int, default=8501, help="port of REST (default: 8501)")
    parser.add_argument("--no-batching", action="store_true", help="run every request by itself")
    parser.add_argument(
        "--print-command", action="store_true",
        help="write the configuration and print the command line instead of running it",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Starts the server, says when it is ready, and ends with it."""
    import shlex

    from tfx_captioner.serving import config, launcher
    from tfx_captioner.serving.addresses import is_loopback
    from tfx_captioner.serving.pushed import newest_serving_dir

    endpoint = launcher.Endpoint(arguments.host, arguments.port, arguments.rest_port)
    try:
        serving_dir = arguments.serving_dir or newest_serving_dir()
        kind = launcher.choose(arguments.server)
        config.write_all(serving_dir)
    except (ValueError, OSError, launcher.ServerError) as error:
        raise UserError(str(error)) from error
    argv = launcher.command(kind, serving_dir, endpoint, batching=not arguments.no_batching)
    if kind == "local" and arguments.allow_reload:
        argv.append("--enable_reload_config=true")
    if arguments.print_command:
        print(shlex.join(argv))
        return 0
    try:
        launcher.check_free(endpoint)
    except launcher.ServerError as error:
        raise UserError(f"{error}. --port and --rest-port choose others.") from error
    words = "the local model server" if arguments.server == "local" else _WORDS[kind]
    print(f"serving {serving_dir} with {words}; end it with Ctrl-C", flush=True)
    if kind == "binary" or (kind == "docker" and not is_loopback(arguments.host)):
        print(_WARNING.format(port=arguments.port), file=sys.stderr)
    return _run(argv, endpoint, sorted(config.find_models(serving_dir)))


def _run(argv: list[str], endpoint: Any, models: list[str]) -> int:
    from tfx_captioner.serving import launcher

    # A signal to end this command is one to end the server.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        process = launcher.start(argv)
    except launcher.ServerError as error:
        raise UserError(str(error)) from error
    try:
        server = launcher.Server(process, endpoint, log=None)
        server.wait_until_available(models, timeout=600)
        print(
            f"ready: {', '.join(models)}\n  gRPC  {endpoint.grpc_url}\n  REST  {endpoint.rest_url}",
            flush=True,
        )
        return process.wait()
    except launcher.ServerError as error:
        raise UserError(str(error)) from error
    except KeyboardInterrupt:
        return 0
    finally:
        launcher.stop(process)
