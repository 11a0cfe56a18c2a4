"""The `captioner` command line.

Each subcommand is a module of `pipeline.commands`, or one that another room registers as an entry
point of the group `captioner.commands`. None imports anything heavy before it runs, so that
`--help` answers at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import select
import sys
from collections.abc import Sequence
from importlib import metadata

from tfx_captioner.pipeline import commands
from tfx_captioner.pipeline.errors import RunFailedError, UserError

_EPILOG = """\
examples:
  captioner run                            the whole pipeline on the generated sample
  captioner run flickr8k --data ~/Flickr8k
  captioner caption photo.jpg              ask the model that was pushed last
  captioner COMMAND --help                 options and examples of one command
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands."""
    parser = argparse.ArgumentParser(
        prog="captioner",
        description="Photographs with captions in, a captioning service out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, module in sorted(_command_modules().items()):
        command = importlib.import_module(module)
        subparser = subparsers.add_parser(
            name,
            help=command.HELP,
            description=command.HELP,
            epilog=command.EXAMPLES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _command_modules() -> dict[str, str]:
    """Module of each subcommand by its name."""
    own = {
        info.name: f"{commands.__name__}.{info.name}"
        for info in pkgutil.iter_modules(commands.__path__)
    }
    registered = metadata.entry_points(group="captioner.commands")
    return own | {entry.name: entry.value for entry in registered}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
      What the command returned, 1 when a run failed, 2 when the user gave something that cannot be
      used, 130 when the user stopped it, or 141 when nobody reads its output any more.
    """
    arguments = build_parser().parse_args(argv)
    try:
        status = int(arguments.run(arguments))
        sys.stdout.flush()  # where nobody reads any more, it shows here and not at the exit
        return status
    except UserError as error:
        print(f"captioner: {error}", file=sys.stderr)
        return 2
    except RunFailedError as error:
        print(f"captioner: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("captioner: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if not _nobody_reads():
            raise
        return 141


def _nobody_reads() -> bool:
    """Whether what standard output goes to is closed, as in `captioner runs | head`."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    closed = any(event & select.POLLERR for _, event in poll.poll(0))
    if closed:
        # What is left in the buffer must not be written at the exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return closed


if __name__ == "__main__":
    sys.exit(main())
