"""What becomes of a run whose metadata store is damaged, gone or locked."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from tfx_captioner.pipeline import metadata_file
from tfx_captioner.pipeline.errors import UserError
from tfx_captioner.pipeline.runs import open_store


def _put_executions(database: Path, count: int) -> None:
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(database)
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
    store = MetadataStore(config)
    kind = store.put_execution_type(mlmd.ExecutionType(name="Trainer"))
    store.put_executions([mlmd.Execution(type_id=kind) for _ in range(count)])


def _executions(database: Path) -> int:
    return len(open_store(database).get_executions())


@pytest.fixture
def run_root(tmp_path: Path) -> Path:
    """A run with a backup after two executions, and a third one since."""
    _put_executions(tmp_path / "metadata.db", 2)
    metadata_file.back_up(tmp_path / "metadata.db")
    _put_executions(tmp_path / "metadata.db", 1)
    for number in (1, 2, 3):
        (tmp_path / "artifacts/Trainer.cnn/model" / str(number)).mkdir(parents=True)
        (tmp_path / "artifacts/Trainer.cnn/.system/executor_execution" / str(number)).mkdir(
            parents=True
        )
    return tmp_path


def _damage_page(database: Path) -> None:
    content = bytearray(database.read_bytes())
    content[100:4096] = b"\xff" * 3996
    database.write_bytes(content)


DAMAGES = {
    "another file": lambda path: path.write_bytes(b"this is no database" * 99),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:8192]),
    "empty": lambda path: path.write_bytes(b""),
    "a page": _damage_page,
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_backup_takes_the_place_of_a_damaged_store(damage: str, run_root: Path) -> None:
    database = run_root / "metadata.db"
    DAMAGES[damage](database)
    if damage != "gone":
        with pytest.raises(UserError, match=r"metadata\.db is damaged: .*puts back its backup of"):
            open_store(database)

    said = metadata_file.recover(database, run_root / "artifacts")

    assert "could not be used" in said[0]
    assert _executions(database) == 2
    kept = [path.name for path in (run_root / "artifacts/Trainer.cnn/model").iterdir()]
    assert sorted(kept) == ["1", "2"], "the next execution is number 3 again"
    (lost,) = run_root.glob("lost-*")
    assert (lost / "artifacts/Trainer.cnn/model/3").is_dir()
    assert (lost / "artifacts/Trainer.cnn/.system/executor_execution/3").is_dir()
    assert (lost / "metadata.db").exists() == (damage != "gone")
    assert metadata_file.recover(database, run_root / "artifacts") == []


def test_without_a_backup_nothing_is_touched(run_root: Path) -> None:
    database = run_root / "metadata.db"
    (run_root / "metadata.db.backup").unlink()
    database.write_bytes(b"this is no database")
    with pytest.raises(UserError, match=r"is damaged: .*There is no backup"):
        open_store(database)
    with pytest.raises(UserError, match=r"There is no backup .*another --run-root"):
        metadata_file.recover(database, run_root / "artifacts")
    assert database.read_bytes() == b"this is no database"
    assert (run_root / "artifacts/Trainer.cnn/model/3").is_dir()


def test_a_first_run_has_nothing_to_recover(tmp_path: Path) -> None:
    assert metadata_file.recover(tmp_path / "metadata.db", tmp_path / "artifacts") == []


def test_what_a_killed_run_left_in_a_transaction_is_rolled_back(run_root: Path) -> None:
    database = run_root / "metadata.db"
    # A copy in the middle of a transaction is what a kill leaves.
    writer = sqlite3.connect(database, isolation_level=None)
    writer.execute("PRAGMA cache_size=1")
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("CREATE TABLE filler (text)")
    writer.executemany("INSERT INTO filler VALUES (?)", [("x" * 2000,)] * 500)
    killed = run_root / "killed"
    killed.mkdir()
    for file in run_root.glob("metadata.db*"):
        shutil.copyfile(file, killed / file.name)
    writer.close()
    assert (killed / "metadata.db-journal").stat().st_size

    assert metadata_file.recover(killed / "metadata.db", killed / "artifacts") == []
    assert _executions(killed / "metadata.db") == 3


def test_a_locked_store_is_said_to_be(run_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_file, "_BUSY_SECONDS", 0.2)
    writer = sqlite3.connect(run_root / "metadata.db", isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UserError, match=r"metadata\.db is locked by another process"):
        open_store(run_root / "metadata.db")
    writer.close()
    assert _executions(run_root / "metadata.db") == 3


def test_a_backup_appears_whole_or_not_at_all(
    run_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(metadata_file.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        metadata_file.back_up(run_root / "metadata.db")
    assert _executions(run_root / "metadata.db.backup") == 2


def test_what_a_failed_write_left_counts_for_no_other_execution(tmp_path: Path) -> None:
    database = tmp_path / "metadata.db"
    _put_executions(database, 2)
    with sqlite3.connect(database) as store:
        store.execute("INSERT INTO Association (context_id, execution_id) VALUES (1, 3)")
        store.execute("INSERT INTO Event (artifact_id, execution_id, type) VALUES (9, 2, 4)")
    (line,) = metadata_file.recover(database, tmp_path / "artifacts")
    assert "2 rows" in line
    with sqlite3.connect(database) as store:
        assert store.execute("SELECT COUNT(*) FROM Association").fetchone() == (0,)
    assert _executions(database) == 2
    assert metadata_file.recover(database, tmp_path / "artifacts") == []
