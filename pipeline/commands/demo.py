"""`captioner demo`: the web page."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile

from tfx_captioner.pipeline.arguments import add_server
from tfx_captioner.pipeline.errors import UserError

HELP = "Serve a web page: drop a photograph, see what both models say and where they look."
EXAMPLES = """\
examples:
  captioner serve &
  captioner demo                       then open http://127.0.0.1:7860
  captioner demo --server grpc://10.0.0.5:8500 --models resnet_gru
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds server, models, and where the page is."""
    add_server(parser, "grpc://HOST:PORT or http://HOST:PORT")
    parser.add_argument(
        "--models", nargs="+", default=["cnn_lstm", "resnet_gru"], metavar="NAME",
        help="models shown side by side (default: cnn_lstm resnet_gru)",
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=7860, help="port (default: 7860)")
    parser.add_argument(
        "--allowed-hosts", nargs="+", default=[], metavar="NAME",
        help="names by which browsers may ask for the page, besides those of this machine",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Serves the page until it is interrupted."""
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    # Gradio sums up its own calls after so many of them, which fails on the pandas of TFX 1.16.
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(sys.maxsize))
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="captioner-demo-") as uploads:
        # Before Gradio is imported: it would use a folder that every user of the machine reads,
        # and leave the uploads there.
        os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = uploads
        return _serve(arguments)


def _serve(arguments: argparse.Namespace) -> int:
    try:
        from tfx_captioner.serving import demo
        from tfx_captioner.serving.transports import connect
    except ImportError as error:
        raise UserError(f"The page needs the extras `demo` and `client` ({error}).") from error
    try:
        connect(arguments.server).close()
    except ValueError as error:
        raise UserError(str(error)) from error
    print(f"http://{arguments.host}:{arguments.port}  (end it with Ctrl-C)", flush=True)
    try:
        page = demo.Page(arguments.server, arguments.models)
        demo.launch(
            demo.build(page),
            host=arguments.host,
            port=arguments.port,
            allowed_hosts=arguments.allowed_hosts,
        )
    except OSError as error:
        raise UserError(str(error)) from error
    return 0
