"""The SQLite file of the metadata store: whether it is sound, its backup, and the way back.

TFX knows by it alone what the folders of artifacts are and what may be used again: their types,
properties and cache keys are nowhere else. So each run ends with a backup beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from pathlib import Path

from tfx_captioner.pipeline.errors import UserError

# Longer than any transaction of ML Metadata takes.
_BUSY_SECONDS = 5.0
# Columns that hold the number of a row of another table.
_REFERENCES = {
    "Execution": {"Association": "execution_id", "Event": "execution_id",
                  "ExecutionProperty": "execution_id"},
    "Artifact": {"Attribution": "artifact_id", "Event": "artifact_id",
                 "ArtifactProperty": "artifact_id"},
    "Context": {"Association": "context_id", "Attribution": "context_id",
                "ContextProperty": "context_id"},
    "Event": {"EventPath": "event_id"},
}  # fmt: skip


def check(database: Path) -> None:
    """Reads a store through, where there is one.

    Args:
      database: The SQLite file.

    Raises:
      UserError: It is damaged, empty, no database, or locked by another process all the while.
    """
    if not database.exists():
        return
    damage = _damage(database)
    if damage:
        backup = _backup_of(database)
        way = (
            f"`captioner run` puts back its backup of {_time_of(backup)}."
            if backup.is_file()
            else "There is no backup of it."
        )
        raise UserError(f"{database} is damaged: {damage}. {way}")


def back_up(database: Path) -> None:
    """Copies a store beside itself, whole or not at all.

    Args:
      database: The SQLite file.
    """
    backup = _backup_of(database)
    partial = backup.with_name(f"{backup.name}.partial")
    partial.unlink(missing_ok=True)
    with (
        contextlib.closing(_connect(database)) as source,
        contextlib.closing(sqlite3.connect(partial)) as target,
    ):
        source.backup(target)
    os.replace(partial, backup)


def recover(database: Path, artifacts: Path) -> list[str]:
    """Puts the backup in the place of a store that is damaged or gone, and mends what dangles.

    What the lost executions put out is moved aside with the damaged file, since the next executions
    get their numbers, and with them their folders.

    Args:
      database: The SQLite file.
      artifacts: TFX's pipeline root.

    Returns:
      What was done, in sentences; empty where the store is sound, or nothing was run yet.

    Raises:
      UserError: There is no backup, or the store is locked.
    """
    damage = _damage(database) if database.exists() else "it is gone"
    if not damage:
        return _drop_dangling(database)
    if not database.exists() and not _executions(artifacts):
        return []
    backup = _backup_of(database)
    if not backup.is_file() or _damage(backup):
        raise UserError(
            f"{database}, by which TFX knows what it made, cannot be used: {damage}. There is no "
            f"backup of it, and without it the folders below {artifacts} cannot be told. Choose "
            f"another --run-root, or move {database.name} and {artifacts.name}/ away to run "
            "everything again; ingested data and pushed models stay."
        )
    aside = database.with_name(f"lost-{time.strftime('%Y%m%d-%H%M%S')}")
    aside.mkdir()
    if database.exists():
        shutil.move(database, aside / database.name)
    for journal in database.parent.glob(f"{database.name}-*"):  # of the damaged file
        shutil.move(journal, aside / journal.name)
    shutil.copyfile(backup, aside / "restored")
    os.replace(aside / "restored", database)
    with contextlib.closing(_connect(database)) as store:
        (last,) = store.execute("SELECT COALESCE(MAX(id), 0) FROM Execution").fetchone()
    lost = [folder for folder in _executions(artifacts) if int(folder.name) > last]
    for folder in lost:
        target = aside / folder.relative_to(artifacts.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, target)
    return [
        f"{database} could not be used: {damage}.",
        f"Its backup of {_time_of(backup)} was put in its place; what ran since then runs again.",
        f"The damaged file and {len(lost)} folders of outputs since then are in {aside}.",
    ]


def _drop_dangling(database: Path) -> list[str]:
    """Removes rows that refer to rows that are not there.

    Where SQLite cannot write, it rolls a transaction back, and ML Metadata goes on all the same:
    the rest of it stays. The next execution would get the number of the lost one, and so count as
    the other node's too, which then would not run.
    """
    dropped = 0
    with contextlib.closing(_connect(database)) as store, store:
        for target, columns in _REFERENCES.items():
            for table, column in columns.items():
                dropped += store.execute(
                    f"DELETE FROM {table} WHERE {column} NOT IN (SELECT id FROM {target})"
                ).rowcount
    if not dropped:
        return []
    return [f"{dropped} rows of {database}, left by a write that failed, were removed."]


def _damage(database: Path) -> str:
    """What is wrong with a file; empty where nothing is."""
    if not database.is_file():
        return "it is no file"
    if not database.stat().st_size:
        return "it is empty"
    try:
        with contextlib.closing(_connect(database)) as store:
            (answer,) = store.execute("PRAGMA quick_check(1)").fetchone()
            if answer == "ok":
                store.execute("SELECT 1 FROM Execution LIMIT 1")
                return ""
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise UserError(
                f"{database} is locked by another process for more than {_BUSY_SECONDS:.0f} s. "
                f"Who has it open: `fuser -v {database}`."
            ) from error
        return str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    return answer


def _connect(database: Path) -> sqlite3.Connection:
    """Opens a store; a journal that a killed run left is rolled back."""
    return sqlite3.connect(database, timeout=_BUSY_SECONDS)


def _backup_of(database: Path) -> Path:
    return database.with_name(f"{database.name}.backup")


def _time_of(backup: Path) -> str:
    return time.strftime("%F %T", time.localtime(backup.stat().st_mtime))


def _executions(artifacts: Path) -> list[Path]:
    """Folders of outputs, named by the number of their execution."""
    return [
        folder
        for pattern in ("*/*/*", "*/.system/*/*")
        for folder in artifacts.glob(pattern)
        if folder.name.isdigit() and folder.is_dir()
    ]
