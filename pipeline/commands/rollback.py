"""`captioner rollback`: serve an older version again."""

from __future__ import annotations

import argparse
from typing import Any

from tfx_captioner.pipeline.commands.promote import add_server_arguments, carry_out

HELP = "Serve an older version again, and nothing newer."
EXAMPLES = """\
examples:
  captioner rollback                     `captioner` to the version before the newest served
  captioner rollback 1764000000 --name cnn_lstm

`captioner promote` goes forward again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds version and server."""
    parser.add_argument(
        "version", nargs="?", type=int, metavar="VERSION", help="default: the one before"
    )
    add_server_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Moves back, and says what is served now."""
    from tfx_captioner.serving.promotion import plan_rollback

    def plan(config: Any, versions: list[int]) -> Any:
        return plan_rollback(config, arguments.name, versions, arguments.version)

    move = carry_out(arguments, plan)
    print(
        f"{move.model}: version {move.version} is served; newer ones wait for `captioner promote`"
    )
    return 0
