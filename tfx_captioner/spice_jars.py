"""The programs that SPICE needs beside `pycocoevalcap`, fetched where the user asks for SPICE.

They are not part of this package and not shipped with it: Stanford CoreNLP, which is under the GNU
GPL and runs as a separate program, and the JavaScript engine that Java has not had since release
15. Each is fetched once per machine from Maven Central, or from a mirror with the same paths that
`CAPTIONER_MAVEN_URL` names.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tfx_captioner.caches import cache_folder

MAVEN_CENTRAL = "https://repo1.maven.org/maven2"
URL_VARIABLE = "CAPTIONER_MAVEN_URL"

_BLOCK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte


class SpiceJarsError(RuntimeError):
    """A jar cannot be fetched; the message says which, from where and why."""


@dataclass(frozen=True)
class Jar:
    """A file of Maven Central, pinned.

    Attributes:
        path: Path in the repository.
        size: Bytes.
        sha256: Checksum, in hexadecimal.
    """

    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.rpartition("/")[2]


JARS = (
    Jar(
        "edu/stanford/nlp/stanford-corenlp/3.6.0/stanford-corenlp-3.6.0.jar",
        7_270_741,
        "d341d5863276f55782c5ef73212222d6b3b48e02ae1951ab6de7618d28b12742",
    ),
    Jar(
        "edu/stanford/nlp/stanford-corenlp/3.6.0/stanford-corenlp-3.6.0-models.jar",
        378_116_526,
        "d285157bd7887ee3018094b5dbae092e49088b023361ccdb550ee1daf9b2c9bd",
    ),
    Jar(
        "org/openjdk/nashorn/nashorn-core/15.4/nashorn-core-15.4.jar",
        2_167_292,
        "6f816e84dfd63a81d4eaa7829c08337bbaff3ec683ff3bf6bbd90d017a00dc6f",
    ),
    Jar(
        "org/ow2/asm/asm/7.3.1/asm-7.3.1.jar",
        121_836,
        "2f67e11ceec819ebd88ddee5300aba699b1cbab2e20c22e97cf027d3be93959b",
    ),
    Jar(
        "org/ow2/asm/asm-commons/7.3.1/asm-commons-7.3.1.jar",
        71_548,
        "87cd8bb3c6bf6bcbb33fca48060c5065f66ebf6a3d7de9bf18bff51bcf156ebc",
    ),
    Jar(
        "org/ow2/asm/asm-util/7.3.1/asm-util-7.3.1.jar",
        84_817,
        "182128592742ed4883ac82bf205f137b6bfbe1234c68e6feb13759e75a85b729",
    ),
    Jar(
        "org/ow2/asm/asm-tree/7.3.1/asm-tree-7.3.1.jar",
        52_826,
        "f91a4a8aa868c5c4665bb4fd134019a91f9f8b9216527fba295e3c8b5422b78b",
    ),
    Jar(
        "org/ow2/asm/asm-analysis/7.3.1/asm-analysis-7.3.1.jar",
        33_446,
        "46b8a8efd4b94facb5ab4b35afe30ee0546ae7a43d2c64e6def56c2f168fefa5",
    ),
)


def folder() -> Path:
    """Where the jars are kept on this machine."""
    return cache_folder("spice")


def files() -> list[Path]:
    """Where each jar is, or would be."""
    return [folder() / jar.name for jar in JARS]


def missing() -> list[Jar]:
    """The jars that are not on this machine, or not whole."""
    return [jar for jar in JARS if not _is_whole(folder() / jar.name, jar)]


def fetch(say: Callable[[str], None]) -> None:
    """Fetches the jars that are missing.

    A jar appears under its name only when it is whole and its SHA-256 is right. What a killed
    process left is overwritten; a second process waits for the first.

    Args:
        say: Is told what is fetched, from where and how large it is.

    Raises:
        SpiceJarsError: One cannot be fetched, or is not the file it should be.
    """
    if not missing():
        return
    base = os.environ.get(URL_VARIABLE, MAVEN_CENTRAL).rstrip("/")
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with open(folder() / ".lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (jars := missing()):
                return
            megabytes = sum(jar.size for jar in jars) / 1e6
            say(
                f"SPICE: fetching {len(jars)} jars, {megabytes:,.1f} MB, from {base} into "
                f"{folder()}, once per machine. Among them is Stanford CoreNLP 3.6.0, a separate "
                "program under the GNU GPL, which is not part of tfx-captioner."
            )
            for jar in jars:
                say(f"SPICE: {jar.name}, {jar.size / 1e6:,.1f} MB")
                _fetch(jar, f"{base}/{jar.path}", folder() / jar.name)
    except OSError as error:
        raise SpiceJarsError(f"{folder()} cannot be written: {error.strerror or error}") from error


def _fetch(jar: Jar, url: str, target: Path) -> None:
    part = target.with_name(f"{jar.name}.part")
    digest, size = hashlib.sha256(), 0
    try:
        with part.open("wb") as file:
            try:
                with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
                    # One byte too many is enough to know that it is another file.
                    while block := answer.read(min(_BLOCK, jar.size + 1 - size)):
                        digest.update(block)
                        size += len(block)
                        file.write(block)
            except (OSError, http.client.HTTPException, ValueError) as error:
                # Also of a full disk, whose error says so.
                raise SpiceJarsError(f"{url} cannot be fetched: {error}") from error
        if size < jar.size:
            raise SpiceJarsError(
                f"{url} broke off: it has {jar.size:,} bytes. Received: {size:,}. Run the command "
                "again"
            )
        if size > jar.size or digest.hexdigest() != jar.sha256:
            raise SpiceJarsError(
                f"{url} is not the file it should be: its SHA-256 must be {jar.sha256}. Received: "
                f"{digest.hexdigest()}. Nothing was kept"
            )
        part.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _is_whole(path: Path, jar: Jar) -> bool:
    try:
        return path.stat().st_size == jar.size
    except OSError:
        return False
