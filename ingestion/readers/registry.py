"""All readers, and which of them reads a given folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.readers.base import Reader, holdings
from tfx_captioner.ingestion.readers.coco import CocoReader
from tfx_captioner.ingestion.readers.flickr8k import Flickr8kReader
from tfx_captioner.ingestion.readers.kaggle import Flickr8kKaggleReader, Flickr30kKaggleReader
from tfx_captioner.ingestion.readers.karpathy import KarpathyReader
from tfx_captioner.ingestion.readers.table import ImageFolderReader, TableReader
from tfx_captioner.ingestion.readers.webdataset import WebDatasetReader

READERS: tuple[Reader, ...] = (
    Flickr8kReader(),
    Flickr8kKaggleReader(),
    Flickr30kKaggleReader(),
    KarpathyReader(),
    CocoReader(),
    ImageFolderReader(),
    WebDatasetReader(),
    TableReader(),
)

_FOLDERS_TRIED = 100  # of those in a folder that is of no known form


def choose_reader(
    source: str, form: str = "auto", columns: Mapping[str, str] | None = None
) -> Reader:
    """Recognises the form of a data set from its files.

    Where files of two forms lie side by side, the one that knows the splits wins over the one
    that does not, because it says all the other one says. Tables and shards in general come last,
    since many a folder has one beside what it is. Anything else is ambiguous.

    Args:
      source: Folder of the data set.
      form: Name of a form to use whatever the files look like, or "auto".
      columns: `IngestConfig.columns`.

    Raises:
      IngestError: No such folder, an unknown or an ambiguous form.
    """
    source = files.absolute(source)
    if not files.is_folder(source):
        raise IngestError(f"`source` must be a folder. Received: {source}.")
    if form != "auto":
        return next(reader for reader in READERS if reader.name == form)
    recognised = [reader for reader in READERS if reader.recognises(source, columns)]
    with_splits = [reader for reader in recognised if reader.has_splits]
    particular = [reader for reader in recognised if not reader.is_general]
    candidates = with_splits or particular or recognised
    if not candidates:
        raise IngestError(_unknown_form(source))
    if len(candidates) > 1:
        names = " and ".join(reader.name for reader in candidates)
        raise IngestError(
            f"{source} could be {names}, which may not agree. It holds what was looked for of each:"
            f"\n{_looked_for(candidates)}\n"
            "Say which one with `--format`, or `data.ingest.format`."
        )
    return candidates[0]


def _unknown_form(source: str) -> str:
    """What was looked for, what is there, what is nearly right, and what lies a folder deeper."""
    lines = [
        f"{source} is no data set of a known form. Looked for:",
        _looked_for(READERS),
        f"The folder holds: {holdings(source)}.",
    ]
    lines += [
        f"Not {reader.name}: {near}." for reader in READERS if (near := reader.near_miss(source))
    ]
    for name in files.folders_in(source)[:_FOLDERS_TRIED]:
        folder = files.join(source, name)
        forms = [reader.name for reader in READERS if _recognises(reader, folder)]
        if forms:
            lines.append(f"{folder} is of the form {' or '.join(forms)}: give that folder.")
    return "\n".join(lines)


def _recognises(reader: Reader, folder: str) -> bool:
    try:
        return reader.recognises(folder)
    except IngestError:  # of this form, but not whole
        return True


def _looked_for(readers: Iterable[Reader]) -> str:
    return "\n".join(f"  {reader.name}: {reader.looked_for}" for reader in readers)
