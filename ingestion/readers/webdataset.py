"""WebDataset: tar shards that hold `KEY.jpg` with `KEY.txt` or `KEY.json` beside it.

Source: https://github.com/webdataset/webdataset, whose naming is followed; img2dataset writes it.
"""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations, ArchiveMember
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.names import IMAGE_SUFFIXES, is_image_name, printable
from tfx_captioner.ingestion.readers.base import Reader
from tfx_captioner.ingestion.readers.splits import Member, assign_splits, split_named
from tfx_captioner.ingestion.readers.tables import KNOWN_COLUMNS, texts_in
from tfx_captioner.ingestion.reasons import Reason

_LARGEST_TEXT = 1_000_000  # bytes of a .txt or .json

# What reading an archive raises that is damaged, or none.
_DAMAGE = (tarfile.TarError, OSError, EOFError, ValueError, tf.errors.OpError)


@dataclass
class _Sample:
    """What a shard holds under one key."""

    images: list[str] = field(default_factory=list)
    text: str | None = None
    content: dict[str, Any] = field(default_factory=dict)
    where: str = ""


class WebDatasetReader(Reader):
    """Shards are read where they lie: pictures are found by their offsets, and never unpacked."""

    name = "webdataset"
    has_splits = False
    is_general = True
    looked_for = "shards *.tar, in the folder or a folder in it, with .jpg and .txt or .json"

    def recognises(self, source: str, columns: Mapping[str, str] | None = None) -> bool:
        """Whether there are shards."""
        return next(_shards(source, (".tar",)), None) is not None

    def near_miss(self, source: str) -> str:
        """Shards that are compressed, which nobody can read from the middle."""
        packed = next(_shards(source, (".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")), None)
        return f"{packed} is compressed, and shards have to be plain .tar" if packed else ""

    def read(self, source: str, config: IngestConfig) -> Annotations:
        """Reads all shards; their names may say their split."""
        shards = list(_shards(source, (".tar",)))
        if not shards:
            raise IngestError(self.refusal(source))
        found = Annotations(config.max_caption_words, archives=shards)
        members: list[Member] = []
        for shard in shards:
            for key, sample in _samples(source, shard, found).items():
                image = f"{shard.removesuffix('.tar')}/{key}"
                for path in sample.images:
                    members.append(Member(image, split_named(shard), "", path, sample.where))
                for number, caption in enumerate(_captions(sample, config)):
                    found.add_caption(image, number, caption, sample.where)
        assign_splits(found, members, config)
        return found


def _shards(source: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    for folder in ("", *files.folders_in(source)):
        names = files.names_in(files.join(source, folder))
        yield from (files.join(folder, name) for name in names if name.endswith(suffixes))


def _samples(source: str, shard: str, found: Annotations) -> dict[str, _Sample]:
    """What a shard holds, by key. Damage ends a shard, not the data set."""
    samples: dict[str, _Sample] = {}
    path = files.join(source, shard)
    try:
        with tf.io.gfile.GFile(path, "rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            end, last = file.size(), -1
            while member := tar.next():
                if member.offset <= last or member.size < 0:
                    raise tarfile.ReadError("a header that leads backwards")
                if member.offset_data + member.size > end:
                    raise tarfile.ReadError(f"it ends within {printable(member.name)}")
                last = member.offset
                if member.isreg() and not member.issparse():
                    _add(member, shard, samples, file, found)
    except _DAMAGE as error:
        found.reject(Reason.FILE_UNUSABLE, shard, shard, str(error) or type(error).__name__)
    return samples


def _add(
    member: tarfile.TarInfo,
    shard: str,
    samples: dict[str, _Sample],
    file: Any,
    found: Annotations,
) -> None:
    """Puts a member of a shard where it belongs."""
    folder, name = posixpath.split(member.name)
    if files.is_hidden(name):
        return
    stem, _, suffix = name.partition(".")
    key, suffix = posixpath.join(folder, stem), f".{suffix.lower()}"
    where = f"{shard}/{member.name}"
    if is_image_name(name) and suffix not in IMAGE_SUFFIXES:
        found.reject(Reason.NO_IMAGE_NAME, member.name, where, "a second picture of its sample")
        return
    sample = samples.setdefault(key, _Sample(where=where))
    if suffix in IMAGE_SUFFIXES:
        sample.images.append(where)
        if where in found.members:
            sample.images.append(f"{where} (a second time)")  # another path, so an ambiguous id
        found.members[where] = ArchiveMember(shard, member.offset_data, member.size)
        return
    if suffix not in (".txt", ".json"):
        return
    if member.size > _LARGEST_TEXT:
        found.reject_line(member.name, where, f"{member.size} bytes of text")
        return
    file.seek(member.offset_data)
    data = file.read(member.size)
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    if suffix == ".txt":
        sample.text = text
        return
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("no object")
        sample.content = content
    except (ValueError, RecursionError) as error:
        found.reject_line(text, where, f"no valid JSON: {error}")


def _captions(sample: _Sample, config: IngestConfig) -> list[str]:
    """The .txt, as img2dataset writes a caption into both; the .json where a column is named."""
    if sample.text is not None and "caption" not in config.columns:
        return [sample.text]
    wanted = config.columns.get("caption")
    names = (wanted,) if wanted else KNOWN_COLUMNS["caption"]
    texts = (texts_in(sample.content.get(name)) for name in names)
    return next((found for found in texts if found), [])
