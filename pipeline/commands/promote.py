"""`captioner promote`: point a label of a running server at a version."""

from __future__ import annotations

import argparse
from typing import Any

from tfx_captioner.pipeline.arguments import add_server, add_serving_dir
from tfx_captioner.pipeline.errors import UserError

HELP = "Point a version label of a running server at a version."
EXAMPLES = """\
examples:
  captioner promote                      label `stable` of `captioner` to the newest version
  captioner promote 1764000000 --label canary
  captioner promote --name resnet_gru
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds version, label and server."""
    parser.add_argument(
        "version", nargs="?", type=int, metavar="VERSION", help="default: the newest on disk"
    )
    parser.add_argument("--label", default="stable", help="label to move (default: stable)")
    add_server_arguments(parser)


def add_server_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments shared with `captioner rollback`."""
    parser.add_argument(
        "--name", default="captioner", help="name of the model (default: captioner)"
    )
    add_server(parser, "grpc://HOST:PORT")
    add_serving_dir(parser)
    parser.add_argument(
        "--timeout", type=float, default=300.0, help="seconds the version may take to load"
    )


def run(arguments: argparse.Namespace) -> int:
    """Moves the label, and says where it is now."""
    from tfx_captioner.serving.promotion import plan_promotion

    def plan(config: Any, versions: list[int]) -> Any:
        return plan_promotion(config, arguments.name, versions, arguments.label, arguments.version)

    move = carry_out(arguments, plan)
    print(f"{move.model}: label `{arguments.label}` is version {move.version}")
    if move.pinned:
        print("versions pushed from now on wait until the newest one is promoted")
    return 0


def carry_out(arguments: argparse.Namespace, plan: Any) -> Any:
    """Plans a move on the configuration in force, does it, and writes the new configuration."""
    from tfx_captioner.serving import config, promotion
    from tfx_captioner.serving.client import CallOptions, CaptionClient
    from tfx_captioner.serving.errors import ServingError
    from tfx_captioner.serving.pushed import newest_serving_dir

    try:
        serving_dir = arguments.serving_dir or newest_serving_dir()
        path = serving_dir / config.MODELS_FILE
        current = config.load_or_generate(serving_dir)
        move = plan(current, config.find_models(serving_dir).get(arguments.name, []))
        options = CallOptions(timeout=arguments.timeout)
        with CaptionClient(arguments.server, model=arguments.name, options=options) as client:
            promotion.carry_out(move, client, arguments.timeout)
        config.write_models(move.result, path)
    except (ValueError, OSError, promotion.PromotionError) as error:
        raise UserError(str(error)) from error
    except ServingError as error:
        raise UserError(f"{arguments.server}: {error}") from error
    return move
