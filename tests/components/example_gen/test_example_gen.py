"""ExampleGen: reads what the ingestion wrote, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from tfx.components.example_gen.import_example_gen import executor as import_example_gen
from tfx.proto import example_gen_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from tfx_captioner.checksums import sha256_of, write_checksums
from tfx_captioner.components.example_gen.executor import DamagedRecordsError, Executor

SPLITS = ("train", "val")


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Two shards of train and one of val, with their checksums."""
    digests = {}
    for name in ("train/0.gz", "train/1.gz", "val/0.gz"):
        path = tmp_path / "records" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            writer.write(tf.train.Example().SerializeToString())
        digests[name] = sha256_of(str(path))
    write_checksums(str(tmp_path / "records"), digests)
    return tmp_path / "records"


def run(records: Path) -> Path:
    """Executes the node; returns the folder of its examples."""
    splits = [example_gen_pb2.Input.Split(name=split, pattern=f"{split}/*") for split in SPLITS]
    examples = standard_artifacts.Examples()
    examples.uri = str(records.parent / "examples")
    Executor(import_example_gen.Executor.Context(beam_pipeline_args=[])).Do(
        {},
        {"examples": [examples]},
        {
            "input_base": str(records),
            "input_config": proto_utils.proto_to_json(example_gen_pb2.Input(splits=splits)),
            "output_config": proto_utils.proto_to_json(example_gen_pb2.Output()),
            "output_data_format": example_gen_pb2.FORMAT_TF_EXAMPLE,
        },
    )
    return Path(examples.uri)


def test_whole_records_are_imported(records: Path) -> None:
    folder = run(records)
    assert sorted(path.name for path in folder.iterdir()) == ["Split-train", "Split-val"]
    files = tf.io.gfile.glob(f"{folder}/Split-train/*")
    assert len(list(tf.data.TFRecordDataset(files, "GZIP"))) == 2


def test_every_damaged_file_is_named_and_nothing_is_imported(records: Path) -> None:
    content = bytearray((records / "train/0.gz").read_bytes())
    content[-9] ^= 1
    (records / "train/0.gz").write_bytes(content)
    (records / "train/1.gz").unlink()
    (records / "val/extra.gz").touch()
    with pytest.raises(DamagedRecordsError) as caught:
        run(records)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{records} is not as the ingestion wrote it:"
    assert lines[1].startswith("  - train/0.gz: its SHA-256 must be ")
    assert lines[2:4] == [
        "  - train/1.gz: it is missing",
        "  - val/extra.gz: no ingestion wrote it",
    ]
    assert "Run `captioner ingest` again" in lines[4]
    assert not (records.parent / "examples").exists()
