"""`captioner report`: where the reports of a run are."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

from tfx_captioner.pipeline.errors import UserError
from tfx_captioner.pipeline.evaluations import comparison, evaluations, newest_run, report_folder

HELP = "Print where the evaluation reports of a run are, or open them."
EXAMPLES = """\
examples:
  captioner report                  those of the newest run under runs/
  captioner report runs/flickr8k    those of this run
  captioner report --open           in the browser
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "run_root", nargs="?", type=Path, metavar="RUN", help="run root (default: the newest)"
    )
    parser.add_argument("--open", action="store_true", help="open them in the browser")


def run(arguments: argparse.Namespace) -> int:
    """Prints one path per line, the comparison of the models first."""
    root = arguments.run_root or newest_run()
    reports = [report_folder(folder) for folder in evaluations(root).values()]
    pages = [folder / "report.html" for folder in reports if folder]
    if not pages:
        raise UserError(f"{root} has no finished evaluation; `captioner run` makes one.")
    compared = comparison(root)
    for page in [compared, *pages] if compared else pages:
        print(page)
        if arguments.open:
            webbrowser.open(page.absolute().as_uri())
    return 0
