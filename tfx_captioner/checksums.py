"""Checksums of the files of a data set, in the form of `sha256sum`.

Every room may use it. Where the files lie on this machine, `sha256sum --check SHA256SUMS` in their
folder does the same by hand.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tensorflow.io import gfile

CHECKSUMS = "SHA256SUMS"

_BLOCK = 1 << 22
_THREADS = 4
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


@dataclass(frozen=True)
class Damage:
    """What is not as it was when the checksums were written.

    Attributes:
      broken: What is wrong with a file, by its path relative to the folder.
      unknown: Files that have no checksum, likewise.
    """

    broken: Mapping[str, str] = field(default_factory=dict)
    unknown: Sequence[str] = ()


def sha256_of(path: str) -> str:
    """SHA-256 of a file, in hexadecimal; any path of `tf.io.gfile`."""
    digest = hashlib.sha256()
    with gfile.GFile(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_checksums(folder: str, digests: Mapping[str, str]) -> None:
    """Writes the checksums of a folder's files.

    Args:
      folder: The folder; any path of `tf.io.gfile`.
      digests: SHA-256 of each file, by path relative to the folder.
    """
    lines = [f"{digest}  {path}\n" for path, digest in sorted(digests.items())]
    with gfile.GFile(f"{folder}/{CHECKSUMS}", "w") as file:
        file.write("".join(lines))


def find_damage(folder: str, subfolders: Sequence[str]) -> Damage:
    """Holds all files of a folder's subfolders against the checksums in the folder.

    Args:
      folder: The folder; any path of `tf.io.gfile`.
      subfolders: Folders in it of which every file is to have a checksum.
    """
    if not gfile.exists(f"{folder}/{CHECKSUMS}"):
        return Damage({CHECKSUMS: "it is missing"})
    with gfile.GFile(f"{folder}/{CHECKSUMS}", "rb") as file:
        lines = file.read().decode("utf-8", "replace").splitlines()
    matches = [_LINE.fullmatch(line) for line in lines]
    expected = {match[2]: match[1] for match in matches if match}
    if not all(matches) or not expected:
        return Damage({CHECKSUMS: "it holds other lines than checksums, or none"})
    present = {
        f"{subfolder}/{name.rstrip('/')}"
        for subfolder in subfolders
        if gfile.isdir(f"{folder}/{subfolder}")
        for name in gfile.listdir(f"{folder}/{subfolder}")
    }
    broken = dict.fromkeys(expected.keys() - present, "it is missing")
    owners = {digest: path for path, digest in expected.items()}
    paths = sorted(expected.keys() & present)
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = pool.map(lambda path: sha256_of(f"{folder}/{path}"), paths)
        for path, digest in zip(paths, digests, strict=True):
            if digest != expected[path]:
                problem = f"its SHA-256 must be {expected[path]}. Received: {digest}"
                if digest in owners:
                    problem += f", which is that of {owners[digest]}"
                broken[path] = problem
    return Damage(dict(sorted(broken.items())), sorted(present - expected.keys()))
