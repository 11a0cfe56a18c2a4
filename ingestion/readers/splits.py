"""Splits of data sets whose form leaves open which there are, and what they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.readers.base import hash_rule, hashed_share, hashed_split

_NAMES = {
    "train": ("train", "training", "restval"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
UNKNOWN = "?"  # of a name that is none of these; such images have no split
_BY_NAME = {name: split for split, names in _NAMES.items() for name in names}


@dataclass(frozen=True)
class Member:
    """An image whose split is still open.

    Attributes:
      image: Image id.
      split: Its split as the data set has it; empty where it says nothing, or `UNKNOWN`.
      folder: Folder that the name is relative to.
      name: Name of its file.
      where: Where it is said.
    """

    image: str
    split: str
    folder: str
    name: str
    where: str


def split_named(text: str) -> str:
    """The split that a folder, a file or a value of a table is named for; empty if none.

    >>> split_named("shards/validation-00003.tar")
    'val'
    """
    words = re.split(r"[^a-z]+", text.lower())
    return next((_BY_NAME[word] for word in words if word in _BY_NAME), "")


def split_said(value: str) -> str:
    """The split that a value of a table says: empty where it says none, `UNKNOWN` if another."""
    return split_named(value) or (UNKNOWN if value.strip() else "")


def assign_splits(found: Annotations, members: Sequence[Member], config: IngestConfig) -> None:
    """Adds images with their splits; those the data set lacks are taken from the ones it has.

    Without test, it is taken out of val, in the proportion of the shares; without val, it is
    taken out of train; without both, or where nothing is said, all are split anew. By a hash of
    the image id, so that additions move no other image.

    Args:
      found: Where they go.
      members: The images.
      config: Shares of the splits.
    """
    present = {member.split for member in members} - {"", UNKNOWN}
    published = ", ".join(split for split in ("train", "val", "test") if split in present)
    if present <= {"train"}:
        found.split_rule = hash_rule(config)
    elif present == {"train", "val"}:
        found.split_rule = "train as published, val divided into val and test by a hash"
    elif present == {"train", "test"}:
        found.split_rule = (
            f"test as published; val is {config.val_share:g} of train, by a hash of the image id"
        )
    else:
        found.split_rule = f"as published: {published}"
    for member in members:
        split = _completed(member, present, config)
        found.add_image(member.image, split or None, member.folder, member.name, member.where)


def _completed(member: Member, present: set[str], config: IngestConfig) -> str:
    if member.split == UNKNOWN or (present and not member.split):
        return ""
    if present <= {"train"}:
        return hashed_split(member.image, config)
    share = hashed_share(member.image)
    if present == {"train", "val"} and member.split == "val":
        held_out = config.val_share + config.test_share
        return "test" if share * held_out < config.test_share else "val"
    if present == {"train", "test"} and member.split == "train":
        return "val" if share < config.val_share else "train"
    return member.split
