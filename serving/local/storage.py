"""Model versions on disk: which are complete, and which of them the version policy wants."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tensorflow_serving.config import file_system_storage_path_source_pb2 as source_pb2

VersionPolicy: TypeAlias = source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
Fingerprint = tuple[tuple[str, int, int], ...]

_GRAPH = "saved_model.pb"
# A version that has not changed for so long while it was watched is whole. It is written file by
# file (TFX's Pusher begins with the graph), and a stall between two files may last a moment.
SETTLE_SECONDS = 1.0
# One whose files are all older than that was whole before anybody watched.
_OLD_SECONDS = 5.0
_MAX_VERSION = 2**63 - 1


@dataclass
class VersionDirectory:
    """Watches the versions below the base path of one model.

    A version is a directory with a whole number for a name (leading zeros are allowed) that holds
    `saved_model.pb`. A directory that is still being written is not seen: its files must have been
    the same for `SETTLE_SECONDS`, or old.

    Attributes:
      base_path: Directory of the versions.
      unsettled: Whether the last look found versions that may still be growing.
    """

    base_path: Path
    unsettled: bool = False
    _since: dict[int, tuple[Fingerprint, float]] = field(default_factory=dict)

    def look(self) -> dict[int, tuple[Path, Fingerprint]]:
        """The complete versions, with their paths and fingerprints."""
        now = time.monotonic()
        since: dict[int, tuple[Fingerprint, float]] = {}
        complete: dict[int, tuple[Path, Fingerprint]] = {}
        for version, path in _version_paths(self.base_path):
            fingerprint = _fingerprint(path)
            known, first_seen = self._since.get(version, (None, now))
            if known != fingerprint:
                first_seen = now
            since[version] = (fingerprint, first_seen)
            if now - first_seen >= SETTLE_SECONDS or _is_old(fingerprint):
                complete[version] = (path, fingerprint)
        self._since = since
        self.unsettled = len(complete) < len(since)
        return complete


def select_versions(policy: VersionPolicy, available: Iterable[int]) -> set[int]:
    """The versions that the policy wants served; by default the latest one."""
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return set(available)
    if choice == "specific":
        return set(available) & set(policy.specific.versions)
    count = policy.latest.num_versions or 1
    return set(sorted(available)[-count:])


def _version_paths(base_path: Path) -> Iterable[tuple[int, Path]]:
    try:
        entries = [entry for entry in os.scandir(base_path) if entry.name.isascii()]
    except OSError:
        return
    for entry in entries:
        if not entry.name.isdigit() or int(entry.name) > _MAX_VERSION:
            continue
        path = Path(entry.path)
        if (path / _GRAPH).is_file():
            yield int(entry.name), path


def _fingerprint(path: Path) -> Fingerprint:
    """Name, size in bytes and change time in nanoseconds of every file.

    Not the modification time: `cp -a` and rsync give a file that of its original as soon as it is
    written, however much is still to come.
    """
    files = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            try:
                stat = os.stat(file)
            except FileNotFoundError:
                continue  # Removed between listing and looking: the next look sees the rest.
            files.append((file, stat.st_size, stat.st_ctime_ns))
    return tuple(sorted(files))


def _is_old(fingerprint: Fingerprint) -> bool:
    newest = max((changed for _, _, changed in fingerprint), default=0)
    return newest < time.time_ns() - _OLD_SECONDS * 1e9
