"""`captioner compare`: evaluations side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tfx_captioner.pipeline.errors import UserError
from tfx_captioner.pipeline.evaluations import evaluation_folders, report_folder

if TYPE_CHECKING:
    from tfx_captioner.components.evaluation_report.comparison import Comparison

HELP = "Compare evaluations on the same images: scores, differences, captions."
EXAMPLES = """\
examples:
  captioner compare runs/first runs/second
  captioner compare runs/sample/artifacts/CaptionEvaluator.resnet_gru/evaluation/{12,31}
  captioner compare runs/first runs/second --out first-and-second.html
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("first", type=Path, metavar="A", help="run root, or one evaluation")
    parser.add_argument("second", type=Path, metavar="B", help="run root, or one evaluation")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("comparison.html"),
        metavar="FILE",
        help="page to write (default: comparison.html)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the scores and writes the page."""
    folders = [*evaluation_folders(arguments.first), *evaluation_folders(arguments.second)]

    from tfx_captioner.components.evaluation_report.comparison import compare, read_evaluations

    reports = {str(folder): report_folder(folder) for folder in folders}
    evaluations = read_evaluations(
        {uri: str(report) if report else None for uri, report in reports.items()}
    )
    try:
        comparison = compare(evaluations)
    except ValueError as error:
        raise UserError(str(error)) from error
    _print_scores(comparison)
    arguments.out.write_text(comparison.html, encoding="utf-8")
    print(arguments.out)
    return 0


def _print_scores(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    from tfx_captioner.components.evaluation_report.comparison import score_table

    scores = score_table(comparison.evaluations, comparison.differences)
    table = Table("x 100", *scores.headings)
    for row in scores.rows:
        cells = [f"{cell.text} {cell.interval or ''}".strip() for cell in row.cells]
        table.add_row(row.title, *cells)
    Console(highlight=False).print(table)
