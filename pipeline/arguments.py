"""Arguments that several commands have, so that they are called and explained alike."""

from __future__ import annotations

import argparse
from pathlib import Path

GRPC_URL = "grpc://127.0.0.1:8500"


def add_preset(parser: argparse.ArgumentParser) -> None:
    """`--preset` and `--set`: the configuration of a run."""
    parser.add_argument(
        "--preset", default="sample", help="name of a preset or a YAML file (default: sample)"
    )
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """`--set`, over a preset."""
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override one key of the configuration; may be given often",
    )


def add_server(parser: argparse.ArgumentParser, schemes: str) -> None:
    """`--server`, of a command that needs one.

    Args:
      parser: Parser of the command.
      schemes: URLs it takes, for the help.
    """
    parser.add_argument(
        "--server", default=GRPC_URL, metavar="URL", help=f"{schemes} (default: {GRPC_URL})"
    )


def add_serving_dir(parser: argparse.ArgumentParser) -> None:
    """`--serving-dir`."""
    parser.add_argument(
        "--serving-dir",
        type=Path,
        metavar="DIR",
        help="folder of pushed models (default: the newest runs/*/serving)",
    )
