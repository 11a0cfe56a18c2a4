"""`captioner sample`: the generated data set."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Generate the sample data set: captioned scenes of coloured shapes."
EXAMPLES = """\
examples:
  captioner sample data/scenes
  captioner sample data/scenes --seed 11 --train 5000
  captioner ingest data/scenes data/scenes-records
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the folder, and seed and size of the sample."""
    parser.add_argument("out", metavar="OUT", type=Path, help="folder to write")
    parser.add_argument("--seed", type=int, default=7, help="default: %(default)s")
    for split, size in (("train", 2000), ("val", 150), ("test", 200)):
        parser.add_argument(
            f"--{split}",
            type=int,
            default=size,
            metavar="N",
            help=f"scenes in the {split} split; default: %(default)s",
        )


def run(args: argparse.Namespace) -> int:
    """Generates the sample and says what is in it."""
    from tfx_captioner.ingestion.errors import IngestError
    from tfx_captioner.ingestion.sample import generate_sample
    from tfx_captioner.pipeline.errors import UserError

    try:
        generate_sample(args.out, seed=args.seed, train=args.train, val=args.val, test=args.test)
    except IngestError as error:
        raise UserError(str(error)) from error
    print(
        f"{args.out}: scenes for train {args.train}, val {args.val}, test {args.test} in the "
        "layout of Flickr8k"
    )
    return 0
