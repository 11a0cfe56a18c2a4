"""Model versions on disk: which are complete, and which of them the version policy wants."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tensorflow_serving.config import file_system_storage_path_source_pb2 as source_pb2

from tfx_captioner.serving import versions

_LOG = logging.getLogger("captioner.serving")

VersionPolicy: TypeAlias = source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy
Fingerprint = tuple[tuple[str, int, int], ...]

# A version without a manifest that has not changed for so long while it was watched is whole. It is
# written file by file (`cp` may begin with the graph), and a stall between two may last a moment.
SETTLE_SECONDS = 1.0
# One whose files are all older than that was whole before anybody watched.
_OLD_SECONDS = 5.0


@dataclass
class VersionDirectory:
    """Watches the versions below the base path of one model.

    Only versions that are whole are seen (`serving.versions`). Where no manifest tells, one may
    still be written: its files must have been the same for `SETTLE_SECONDS`, or old.

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
        try:
            whole = versions.whole_versions(str(self.base_path))
        except OSError as error:
            _LOG.warning("%s cannot be looked at: %s", self.base_path, error)
            whole = {}
        for version, name in whole.items():
            path = Path(name)
            fingerprint = _fingerprint(path)
            if versions.has_manifest(name):
                complete[version] = (path, fingerprint)
                continue
            known, first_seen = self._since.get(version, (None, now))
            if known != fingerprint:
                first_seen = now
            since[version] = (fingerprint, first_seen)
            if now - first_seen >= SETTLE_SECONDS or _is_old(fingerprint):
                complete[version] = (path, fingerprint)
        self._since = since
        self.unsettled = bool(since.keys() - complete.keys())
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
