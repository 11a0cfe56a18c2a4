"""`captioner run`: the whole pipeline on this machine."""

from __future__ import annotations

import argparse

from tfx_captioner.pipeline.arguments import add_overrides

HELP = "Run the whole pipeline on this machine, from photographs to a pushed model."
EXAMPLES = """\
examples:
  captioner run
  captioner run flickr8k --data ~/Flickr8k
  captioner run flickr8k --data ~/Flickr8k --set trainer.epochs=3 --set decoding.beam_size=5
  captioner run my-preset.yaml --run-root /data/runs/mine
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds preset and overrides."""
    parser.add_argument(
        "preset",
        nargs="?",
        default="sample",
        help="name of a preset (sample, flickr8k, flickr30k, coco) or a YAML file",
    )
    parser.add_argument("--data", metavar="PATH", help="folder of the data set")
    parser.add_argument(
        "--run-root",
        metavar="PATH",
        help="where the run keeps all it makes; without *, ?, [ and ] in the whole path",
    )
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    """Runs, then shows what came out."""
    from tfx_captioner.pipeline import local_runner, show
    from tfx_captioner.pipeline.configs import load_config
    from tfx_captioner.pipeline.errors import RunFailedError
    from tfx_captioner.pipeline.progress import quiet

    flags = {"data.source": args.data, "run_root": args.run_root}
    config = load_config(
        args.preset,
        args.overrides,
        values={key: value for key, value in flags.items() if value is not None},
    )
    nodes, log = local_runner.run(config)
    # The model that is asked for captions is as talkative as the run.
    try:
        with quiet(log) as console:
            return show.show_run(config, nodes, log, console)
    except OSError as error:
        raise RunFailedError(f"All nodes are done, but not shown: {error}") from error
