"""The ingestion job: a data set's files become sharded TFRecords, by Beam."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import posixpath
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from tfx_captioner.checksums import Damage, find_damage, write_checksums
from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import SPLITS, Annotations
from tfx_captioner.ingestion.changes import (
    describe_changes,
    images_of,
    read_images,
    write_images,
)
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.dataset import DATASET, DatasetInfo
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.fingerprint import code_of, hash_of
from tfx_captioner.ingestion.inventory import Inventory
from tfx_captioner.ingestion.plan import Shard, plan_shards, select_images
from tfx_captioner.ingestion.publish import Staging
from tfx_captioner.ingestion.readers.registry import choose_reader
from tfx_captioner.ingestion.reasons import Reason
from tfx_captioner.ingestion.shards import ShardReport, WriteShard
from tfx_captioner.ingestion.summary import rejected_lines, summarise
from tfx_captioner.locking import LockedError, locked

REJECTED = "rejected.jsonl"
_EXAMPLES = 5  # of unknown files, in errors

# What the result was made from. It is no part of dataset.json, since it holds times of files, and
# a copy of a data set is the same data set.
_INPUTS = ".inputs.json"

_log = logging.getLogger("captioner.ingestion")


def ingest(
    source: Path | str,
    out: Path | str,
    *,
    config: IngestConfig,
    beam_pipeline_args: Sequence[str] = (),
) -> DatasetInfo:
    """Writes a data set as TFRecords: `train/`, `val/`, `test/`, `dataset.json`, `rejected.jsonl`.

    The same input gives the same bytes. Nothing is written where the same result already lies, by
    the checksums of its files, since TFX's cache goes by the times of files; and `out` appears
    whole or not at all.

    Args:
      source: Folder of the data set; any path that TensorFlow and Beam's workers can read.
      out: Folder to write: new, empty, or an earlier result, which is then replaced.
      config: Settings.
      beam_pipeline_args: Options of Beam, such as `--runner`.

    Returns:
      What was written and what was set aside.

    Raises:
      IngestError: The data set or `out` cannot be used, or another ingestion writes to `out`.
    """
    source, out = files.absolute(source), files.absolute(out)
    with _alone(out):
        return _ingest(source, out, config, beam_pipeline_args)


@contextlib.contextmanager
def _alone(out: str) -> Iterator[None]:
    """Keeps other ingestions from `out`; an object store knows no locks."""
    if "://" in out:
        yield
        return
    folder = Path(out)
    try:
        with locked(folder.with_name(f".{folder.name}.lock"), f"The folder {out}"):
            yield
    except LockedError as error:
        raise IngestError(str(error)) from error


def _ingest(
    source: str, out: str, config: IngestConfig, beam_pipeline_args: Sequence[str]
) -> DatasetInfo:
    previous = _previous_result(out)
    damage = _damage_of(out) if previous else Damage()
    reader = choose_reader(source, config.format, config.columns)
    annotations = reader.read(source, config)
    inventory = Inventory.take(source, annotations)
    inputs = _inputs(inventory, config)
    again = previous.rejected.get(Reason.IMAGE_NOT_FETCHED.value, 0) if previous else 0
    if again:
        _log.info("%d pictures could not be fetched before; they are tried again", again)
    elif previous and not damage.broken and _read_inputs(out) == inputs:
        _log.info("%s is up to date", out)
        return previous
    selected = select_images(inventory)
    count = sum(len(images) for images in selected.values())
    _log.info("reading %d images of %s, form %s", count, source, reader.name)
    source_name = config.source_name or posixpath.basename(source)
    with Staging(out) as staging:
        work = files.join(staging.folder, ".work")
        tf.io.gfile.makedirs(work)
        shards = plan_shards(
            inventory,
            selected,
            staging=staging.folder,
            work=work,
            shard_bytes=config.shard_megabytes * 1_000_000,
        )
        _write_records(shards, WriteShard(source, source_name, config), beam_pipeline_args)
        reports = [ShardReport.read(shard.report) for shard in shards]
        tf.io.gfile.rmtree(work)
        info = summarise(reader.name, inventory, reports, config)
        unchanged = previous is not None and not damage.broken and previous.holds_same_records(info)
        images, earlier = images_of(reports), read_images(out) if previous else None
        target = out if unchanged else staging.folder
        write_images(target, images)
        _write_summary(target, info, annotations, inputs)
        if not unchanged:
            records = [shard.records[len(staging.folder) + 1 :] for shard in shards]
            digests = (report.sha256 for report in reports)
            write_checksums(staging.folder, dict(zip(records, digests, strict=True)))
            staging.publish(last=DATASET)
    if earlier is not None:
        _log.info("since the earlier result in %s: %s", out, describe_changes(earlier, images))
    _log_result(info, out)
    return info


def _previous_result(out: str) -> DatasetInfo | None:
    """What lies in `out` already; None where there is nothing."""
    if files.exists(out) and not files.is_folder(out):
        raise IngestError(f"`out` must be a folder. Received: {out}.")
    if not files.names_in(out):
        return None
    if not files.exists(files.join(out, DATASET)):
        raise IngestError(
            f"`out` must be a new or empty folder, or an earlier result. {out} holds other files "
            f"and no {DATASET}; nothing was written."
        )
    return DatasetInfo.read(out)


def _damage_of(out: str) -> Damage:
    """What an earlier result has lost since it was written.

    Raises:
      IngestError: There are files that the pipeline would read as records, and that may be the
        user's only copies.
    """
    damage = find_damage(out, SPLITS)
    if damage.unknown:
        raise IngestError(
            f"{out} holds files that no ingestion wrote: {', '.join(damage.unknown[:_EXAMPLES])} "
            f"({len(damage.unknown)} in all). The pipeline would read them as records. Move them "
            "away, or name another folder to write."
        )
    for path, problem in damage.broken.items():
        _log.warning(
            "%s is damaged: %s. The data set is written again.", files.join(out, path), problem
        )
    return damage


def _inputs(inventory: Inventory, config: IngestConfig) -> dict[str, Any]:
    """All that the result depends on, as far as can be told without reading an image."""
    source = inventory.source
    stamps = {path: dataclasses.astuple(stamp) for path, stamp in inventory.files.items()}
    return {
        "source": posixpath.basename(source),
        "annotations": {
            path: hashlib.sha256(files.read_bytes(files.join(source, path))).hexdigest()
            for path in inventory.annotations.files
        },
        "images": hash_of([stamps, dict(inventory.unusable)]),
        "settings": dataclasses.asdict(config),
        "code": code_of("*.py", "readers/*.py"),
    }


def _read_inputs(out: str) -> dict[str, Any] | None:
    path = files.join(out, _INPUTS)
    try:
        return json.loads(files.read_bytes(path)) if files.exists(path) else None
    except ValueError:  # damaged, so nothing is known of the inputs
        return None


def _write_records(
    shards: Sequence[Shard], writer: WriteShard, beam_pipeline_args: Sequence[str]
) -> None:
    """Runs the Beam pipeline.

    A shard is one element: its images are read one by one while its file is written, so memory
    does not grow with the shard, and the order within it is that of the plan, which Beam's own
    `WriteToTFRecord` would not promise.
    """
    with _pipeline(beam_pipeline_args) as pipeline:
        _ = (
            pipeline
            | "Shards" >> beam.Create(shards)
            | "Spread" >> beam.Reshuffle()
            | "Write" >> beam.ParDo(writer)
        )


def _pipeline(beam_pipeline_args: Sequence[str]) -> beam.Pipeline:
    options = PipelineOptions(list(beam_pipeline_args))
    standard = options.view_as(StandardOptions)
    # Beam's own default, the DirectRunner, first tries to download another runner from GitHub.
    standard.runner = standard.runner or "FnApiRunner"
    try:
        return beam.Pipeline(options=options)
    except ValueError as error:
        raise IngestError(
            f"Beam does not accept {' '.join(beam_pipeline_args)}: {error}"
        ) from error


def _write_summary(
    folder: str, info: DatasetInfo, annotations: Annotations, inputs: dict[str, Any]
) -> None:
    files.write_text(files.join(folder, REJECTED), rejected_lines(annotations.rejected))
    files.write_text(files.join(folder, DATASET), info.to_json())
    # Last: where they are up to date, all else is taken to be.
    files.write_text(files.join(folder, _INPUTS), json.dumps(inputs, indent=2) + "\n")


def _log_result(info: DatasetInfo, out: str) -> None:
    images = ", ".join(f"{split} {size.images}" for split, size in info.splits.items())
    _log.info("wrote %s: %s images; %d things set aside", out, images, sum(info.rejected.values()))
    if info.leaked_test_images:
        _log.warning(
            "%d test images are in train or val too, or nearly, see %s",
            info.leaked_test_images,
            DATASET,
        )
