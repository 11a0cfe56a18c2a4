"""`captioner ingest`: photographs and captions become TFRecords."""

from __future__ import annotations

import argparse
import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tfx_captioner.pipeline.noise import silence_libraries

if TYPE_CHECKING:
    from tfx_captioner.ingestion.dataset import DatasetInfo

HELP = "Turn photographs and captions into TFRecords."
EXAMPLES = """\
forms that are recognised: Flickr8k as published, Flickr8k and Flickr30k as on Kaggle, Karpathy's
dataset_*.json, COCO captions, Hugging Face image folders, WebDataset shards, and tables (.csv,
.tsv, .jsonl, .parquet) with the columns image, caption and, where there is one, split

examples:
  captioner ingest ~/Flickr8k data/records
  captioner ingest --format karpathy ~/Flickr8k data/records
  captioner ingest ~/Flickr8k data/records --sources coco='coco_*' --sources mine='IMG_*'
  captioner ingest ~/holidays data/records --columns image=file --columns caption=title
  captioner ingest --max-rejected-share 0.2 ~/scraped data/records
  captioner ingest gs://bucket/coco gs://bucket/records -- --runner=DataflowRunner --project=mine
"""

_FORMATS = (
    *("auto", "flickr8k", "flickr8k_kaggle", "flickr30k_kaggle", "karpathy", "coco"),
    *("imagefolder", "webdataset", "table"),
)
_OPTIONS: dict[str, tuple[type, str]] = {
    "source_name": (str, "name of the data set in every example; default: the folder's name"),
    "max_pixels": (int, "set larger pictures aside"),
    "min_side": (int, "set pictures aside with fewer pixels in height or width"),
    "max_rejected_share": (float, "largest share of images or captions that may be set aside"),
    "max_leaked_share": (float, "largest share of test images that may be in train or val too"),
    "max_caption_words": (int, "set longer captions aside"),
    "max_download_megabytes": (int, "set larger pictures at URLs aside"),
    "download_seconds": (int, "time for one of three tries to fetch a picture from its URL"),
    "shard_megabytes": (int, "size of a TFRecord file, about"),
    "val_share": (float, "share of the val split where the data set knows no splits"),
    "test_share": (float, "share of the test split, likewise"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds folders, the settings of `IngestConfig`, and Beam's options behind `--`."""
    parser.usage = "captioner ingest [options] SOURCE OUT [-- BEAM_OPTIONS]"
    parser.add_argument("source", metavar="SOURCE", help="folder of the data set")
    parser.add_argument("out", metavar="OUT", help="folder to write")
    parser.add_argument(
        "beam_options",
        metavar="BEAM_OPTIONS",
        nargs="*",
        default=(),  # without one, argparse calls it required
        help="behind `--`: options of Beam",
    )
    parser.add_argument(
        "--format", choices=_FORMATS, default=None, help="form of the data set; default: auto"
    )
    for name, (kind, text) in _OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="X", help=text)
    parser.add_argument(
        "--private-addresses",
        action="store_true",
        default=None,
        help="fetch pictures at URLs from addresses of the local network too",
    )
    parser.add_argument(
        "--columns",
        type=_named_value,
        metavar="image|caption|split=NAME",
        action="append",
        help="name of a column of a table of captions; may be given often",
    )
    parser.add_argument(
        "--sources",
        type=_named_value,
        metavar="NAME=PATTERN",
        action="append",
        help="another name of the data set for images whose id matches; may be given often",
    )


def _named_value(text: str) -> tuple[str, str]:
    name, equals, pattern = text.partition("=")
    if not (name and equals and pattern):
        raise argparse.ArgumentTypeError(f"must be NAME=PATTERN. Received: {text}")
    return name, pattern


def run(args: argparse.Namespace) -> int:
    """Ingests and shows a table of what was written and what was set aside."""
    from pydantic import ValidationError

    from tfx_captioner.ingestion.config import IngestConfig
    from tfx_captioner.ingestion.errors import IngestError
    from tfx_captioner.pipeline.errors import UserError

    given = {name: getattr(args, name) for name in ("format", "private_addresses", *_OPTIONS)}
    for name in ("columns", "sources"):
        given[name] = dict(getattr(args, name)) if getattr(args, name) else None
    try:
        config = IngestConfig(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors()]
        raise UserError("\n".join(problems)) from error
    silence_libraries()
    with _progress_on_screen():
        from tfx_captioner.ingestion.job import ingest

        try:
            info = ingest(
                args.source, args.out, config=config, beam_pipeline_args=args.beam_options
            )
        except IngestError as error:
            raise UserError(str(error)) from error
    _print_tables(info, args.out)
    return 0


def _explain(problem: Mapping[str, Any]) -> str:
    option = "".join(f"--{part}: ".replace("_", "-") for part in problem["loc"])
    received = f" Received: {problem['input']}." if option else ""
    return f"{option}{problem['msg']}.{received}"


@contextlib.contextmanager
def _progress_on_screen() -> Iterator[None]:
    """Shows our own log lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("captioner")
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # Beam gives the root logger a handler of its own
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def _print_tables(info: DatasetInfo, out: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    written = Table("split", title=Text(f"{out}: read as {info.format}"))
    for column in ("images", "captions", "captions per image", "shards"):
        written.add_column(column, justify="right")
    for split, size in info.splits.items():
        spread = size.captions_per_image
        written.add_row(
            split,
            f"{size.images:,}",
            f"{size.captions:,}",
            f"{spread.min} to {spread.max}, mean {spread.mean:.2f}",
            str(size.shards),
        )
    console.print(written)
    for line in _remarks(info):
        console.print(line, highlight=False, markup=False)  # names of files are no markup
    if not info.rejected:
        console.print("nothing was set aside")
        return
    aside = Table("set aside, see rejected.jsonl")
    aside.add_column("count", justify="right")
    for reason, count in info.rejected.items():
        aside.add_row(reason, f"{count:,}")
    console.print(aside)


def _remarks(info: DatasetInfo) -> Iterator[str]:
    sources = ", ".join(f"{images:,} of {name}" for name, images in info.sources.items())
    yield f"images: {sources}"
    yield f"splits: {info.split_rule}"
    for difference, matched in info.names_matched.items():
        yield f"names: {matched.images:,} matched but for {difference}, as {matched.example}"
    if info.captions_mended:
        mended = ", ".join(f"{count:,} of {what}" for what, count in info.captions_mended.items())
        yield f"captions mended: {mended}"
    if info.leaked_test_images:
        yield f"test images that are in train or val too: {info.leaked_test_images:,}"
