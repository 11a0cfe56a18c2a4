"""Runs the job on a folder, and says in plain values what came out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.dataset import DatasetInfo
from tfx_captioner.ingestion.job import ingest

LAX = {"max_rejected_share": 1.0, "max_leaked_share": 1.0}


@dataclass(frozen=True)
class Outcome:
    """What came out.

    Attributes:
      info: `dataset.json`.
      captions: Captions of each image that was written.
      splits: Split of each image that was written.
      encoded: Picture of each image that was written.
      rejected: Reason, what and detail of all that was set aside.
    """

    info: DatasetInfo
    captions: dict[str, list[str]]
    splits: dict[str, str]
    encoded: dict[str, bytes]
    rejected: list[tuple[str, str, str]]

    @property
    def reasons(self) -> dict[str, str]:
        """Reason of each thing that was set aside."""
        return {what: reason for reason, what, _ in self.rejected}


def run(source: Path, **settings: object) -> Outcome:
    """Ingests a folder into another one beside it, nothing being too much to set aside."""
    out = source.parent / f"{source.name}.out"
    info = ingest(source, out, config=IngestConfig(**(LAX | settings)))
    captions, splits, encoded = {}, {}, {}
    for split in ("train", "val", "test"):
        files = sorted(str(path) for path in (out / split).iterdir())
        for record in tf.data.TFRecordDataset(files, compression_type="GZIP"):
            features = tf.train.Example.FromString(record.numpy()).features.feature
            image = features["image/id"].bytes_list.value[0].decode()
            assert image not in splits
            splits[image] = split
            captions[image] = [text.decode() for text in features["caption/text"].bytes_list.value]
            encoded[image] = features["image/encoded"].bytes_list.value[0]
    entries = map(json.loads, (out / "rejected.jsonl").read_text().split("\n")[:-1])
    rejected = [(entry["reason"], entry["what"], entry["detail"]) for entry in entries]
    return Outcome(info, captions, splits, encoded, rejected)
