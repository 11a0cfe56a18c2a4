"""`captioner score`: the field's scores for any system's captions, outside the pipeline."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from tfx_captioner.pipeline.errors import UserError

HELP = "Score captions against references: BLEU, METEOR, ROUGE-L, CIDEr."
EXAMPLES = """\
examples:
  captioner score --references Flickr8k.token.txt --hypotheses mine.txt
  captioner score --references captions_val2014.json --hypotheses results.json --json scores.json

Files are COCO annotations and results, {id: [caption, ...]} and {id: caption} as JSON, or Flickr's
token form (file#number<TAB>caption). The numbers equal those of pycocoevalcap 1.2.
SPICE is not computed: pycocoevalcap does it where its models are.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "--references", type=Path, required=True, metavar="FILE", help="all captions of each image"
    )
    parser.add_argument(
        "--hypotheses", type=Path, required=True, metavar="FILE", help="one caption per image"
    )
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="also write the scores here, in full precision"
    )
    parser.add_argument(
        "--no-meteor", action="store_true", help="leave METEOR out: it needs Java and takes longest"
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the scores and, if asked to, writes them."""
    from tfx_captioner.metrics import caption_files, meteor, statistics

    try:
        references = caption_files.read_references(arguments.references)
        hypotheses = caption_files.read_hypotheses(arguments.hypotheses)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(str(error)) from error
    try:
        statistics.check_images(references, hypotheses)
    except ValueError as error:
        raise UserError(f"{arguments.hypotheses}: {error}") from error
    reason = "left out by --no-meteor" if arguments.no_meteor else meteor.unavailable_reason()
    scores = statistics.score(references, hypotheses, with_meteor=reason is None)
    by_field_name = {
        field: scores[name] for name, field in statistics.FIELD_NAMES.items() if name in scores
    }
    _print(by_field_name, reason, len(references), sum(map(len, references.values())))
    if arguments.json:
        report = {
            **by_field_name,
            "images": len(references),
            "references": sum(map(len, references.values())),
            "unavailable": {"METEOR": reason} if reason else {},
        }
        try:
            arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{arguments.json} cannot be written: {error.strerror}.") from error
    return 0


def _print(
    scores: Mapping[str, float], meteor_reason: str | None, images: int, references: int
) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("metric")
    table.add_column("score x 100", justify="right")
    for name, value in scores.items():
        table.add_row(name, f"{100 * value:.2f}")
    if meteor_reason:
        table.add_row("METEOR", "not available")
    console = Console(highlight=False)
    console.print(f"{images:,} images, {references:,} references")
    console.print(table)
    if meteor_reason:
        console.print(f"METEOR is not available: {meteor_reason}.")
