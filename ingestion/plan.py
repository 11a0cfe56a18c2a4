"""Which image goes into which shard, decided before any image is read."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import SPLITS, Annotations, examples
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.inventory import Inventory
from tfx_captioner.ingestion.names import is_image_name
from tfx_captioner.ingestion.reasons import Reason

_EXAMPLES = 3  # of each reason, in errors


@dataclass(frozen=True)
class PlannedImage:
    """An image that is to be written.

    Attributes:
      id: Image id.
      path: Its file, relative to the data set's folder.
      captions: Its captions in order.
      archive: Archive that its file is in, likewise; empty where it is in none.
      offset: First byte of its file in the archive.
      size: Bytes of its file in the archive.
    """

    id: str
    path: str
    captions: list[str]
    archive: str = ""
    offset: int = 0
    size: int = 0


@dataclass(frozen=True)
class Shard:
    """A TFRecord file that is to be written.

    Attributes:
      split: Its split.
      name: Such as `train-00000-of-00004`.
      plan: JSON lines file of its `PlannedImage`s, sorted by id.
      records: The TFRecord file.
      report: JSON file of its `ShardReport`.
    """

    split: str
    name: str
    plan: str
    records: str
    report: str


def select_images(inventory: Inventory) -> dict[str, list[str]]:
    """Image ids of each split, sorted; what cannot be used is set aside in the annotations.

    Raises:
      IngestError: A split has no image.
    """
    selected: dict[str, list[str]] = {split: [] for split in SPLITS}
    annotations = inventory.annotations
    for image, split in sorted(annotations.splits.items()):
        if image in annotations.refused:
            continue
        path = annotations.paths[image]
        if not annotations.captions.get(image):
            annotations.reject(Reason.IMAGE_WITHOUT_CAPTIONS, image, path)
        elif inventory.size(image) is None:
            annotations.reject(Reason.IMAGE_MISSING, image, path, inventory.why_missing(image))
        else:
            selected[split].append(image)
    _reject_what_has_no_split(annotations)
    _reject_what_is_not_mentioned(inventory)
    check_no_split_is_empty({split: len(ids) for split, ids in selected.items()}, annotations)
    return selected


def check_no_split_is_empty(images: Mapping[str, int], annotations: Annotations) -> None:
    """Raises IngestError if a split has no image left."""
    empty = [split for split in SPLITS if not images[split]]
    if not empty:
        return
    counts = Counter(rejection.reason.value for rejection in annotations.rejected)
    aside = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "nothing"
    raise IngestError(
        f"Every split must have images. Without any: {', '.join(empty)} (splits "
        f"{annotations.split_rule}). Set aside: {aside}."
        f"{examples(annotations.rejected, _EXAMPLES)}"
    )


def plan_shards(
    inventory: Inventory,
    selected: Mapping[str, list[str]],
    *,
    staging: str,
    work: str,
    shard_bytes: int,
) -> list[Shard]:
    """Distributes images over shards by a hash of their ids, and writes the shards' plans.

    The plans are files, so that neither the launcher's memory nor Beam's job description has to
    hold what is in them.

    Args:
      inventory: The data set.
      selected: Image ids of each split, sorted.
      staging: Folder the TFRecords go into.
      work: Folder for plans and reports.
      shard_bytes: Size of a shard, about.
    """
    shards = []
    for split, images in selected.items():
        total = sum(inventory.size(image) or 0 for image in images)
        count = max(1, round(total / shard_bytes))
        members: list[list[str]] = [[] for _ in range(count)]
        for image in images:
            members[_stable_hash(image) % count].append(image)
        for index, shard_images in enumerate(members):
            stem = f"{split}-{index:05d}-of-{count:05d}"
            shard = Shard(
                split=split,
                name=stem,
                plan=files.join(work, f"{stem}.plan.jsonl"),
                records=files.join(staging, split, f"{stem}.tfrecord.gz"),
                report=files.join(work, f"{stem}.report.json"),
            )
            _write_plan(shard, shard_images, inventory.annotations)
            shards.append(shard)
    return shards


def _write_plan(shard: Shard, images: list[str], annotations: Annotations) -> None:
    lines = []
    for image in images:
        path = annotations.paths[image]
        member = annotations.members.get(path)
        planned = {"id": image, "path": path, "captions": annotations.ordered_captions(image)}
        planned |= dataclasses.asdict(member) if member else {}
        lines.append(json.dumps(planned) + "\n")
    files.write_text(shard.plan, "".join(lines))


def read_plan(shard: Shard) -> Iterator[PlannedImage]:
    """The images of a shard, sorted by id."""
    for line in files.read_text(shard.plan).split("\n"):
        if line:
            yield PlannedImage(**json.loads(line))


def _reject_what_has_no_split(annotations: Annotations) -> None:
    where = [*annotations.files, *annotations.archives][0]
    without = annotations.captions.keys() - annotations.splits.keys() - annotations.refused
    for image in sorted(without):
        captions = f"captions: {len(annotations.captions[image])}"
        known = is_image_name(annotations.paths.get(image, image))
        reason = Reason.IMAGE_WITHOUT_SPLIT if known else Reason.NO_IMAGE_NAME
        annotations.reject(reason, image, where, captions)


def _reject_what_is_not_mentioned(inventory: Inventory) -> None:
    """Files in the image folders that no annotation speaks of."""
    annotations = inventory.annotations
    mentioned = set(annotations.paths.values()) | annotations.refused_paths
    mentioned |= set(annotations.files)
    mentioned |= {
        files.join(folder, image)
        for folder in annotations.image_folders
        for image in annotations.captions
    }
    for path in sorted(inventory.files.keys() - mentioned):
        if not files.is_hidden(path):
            known = is_image_name(path)
            # Beside the annotation files lie licences and the like, which nobody took for images.
            if known or "" not in annotations.image_folders:
                reason = Reason.IMAGE_WITHOUT_CAPTIONS if known else Reason.NO_IMAGE_NAME
                name = inventory.name_in_folder(path)
                annotations.reject(reason, name, path, "in no annotation file")
    for path in sorted(inventory.unusable.keys() - mentioned):
        if not files.is_hidden(path):
            annotations.reject(
                Reason.FILE_UNUSABLE,
                inventory.name_in_folder(path),
                path,
                inventory.unusable[path],
            )


def _stable_hash(image: str) -> int:
    return int.from_bytes(hashlib.sha256(image.encode()).digest()[8:16], "big")
