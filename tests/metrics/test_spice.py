"""SPICE by its own program: fetching what it needs, running it, and what keeps it from scores."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

from tests.metrics.systems import HYPOTHESES, REFERENCES
from tfx_captioner import spice_jars
from tfx_captioner.metrics import spice
from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import ImageStatistics, image_statistics, score

CONTENT = {"org/models.jar": b"models" * 50_000, "org/engine.jar": b"engine"}
JARS = tuple(
    spice_jars.Jar(path, len(content), hashlib.sha256(content).hexdigest())
    for path, content in CONTENT.items()
)


class Repository(http.server.BaseHTTPRequestHandler):
    """A repository in which a file may be damaged, break off, or hang half way."""

    content: dict[str, bytes]
    asked: list[str]
    breaks_off = hangs = False
    half_sent: threading.Event
    go_on: threading.Event

    def do_GET(self) -> None:
        path = self.path.removeprefix("/maven/")
        self.asked.append(path)
        if path not in self.content:
            self.send_error(404)
            return
        content = self.content[path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        if self.hangs:
            self.half_sent.set()
            self.go_on.wait(60)
        if not (self.breaks_off or self.hangs):
            self.wfile.write(content[half:])

    def log_message(self, *arguments: object) -> None:
        """Nothing: the test says what went wrong."""


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Repository]]:
    class Mine(Repository):
        content: ClassVar[dict[str, bytes]] = dict(CONTENT)
        asked: ClassVar[list[str]] = []
        half_sent, go_on = threading.Event(), threading.Event()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mine)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    monkeypatch.setenv("CAPTIONER_MAVEN_URL", f"http://127.0.0.1:{server.server_port}/maven/")
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(spice_jars, "JARS", JARS)
    yield Mine
    Mine.go_on.set()
    server.shutdown()
    server.server_close()


def kept(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "spice").iterdir())


def test_jars_are_fetched_once_and_announced(repository: type[Repository], tmp_path: Path) -> None:
    said: list[str] = []
    spice_jars.fetch(said.append)
    for jar, file in zip(JARS, spice_jars.files(), strict=True):
        assert file.read_bytes() == CONTENT[jar.path]
    assert "fetching 2 jars, 0.3 MB, from http://127.0.0.1" in said[0]
    assert "separate program under the GNU GPL" in said[0]
    assert spice_jars.missing() == []
    spice_jars.fetch(said.append)
    assert repository.asked == list(CONTENT)


def test_another_file_than_the_pinned_one_is_not_kept(
    repository: type[Repository], tmp_path: Path
) -> None:
    path = JARS[0].path
    repository.content[path] = b"x" + CONTENT[path][1:]
    with pytest.raises(spice_jars.SpiceJarsError, match=r"models.jar is not the file .* SHA-256"):
        spice_jars.fetch(lambda text: None)
    assert kept(tmp_path) == [".lock"]
    repository.content[path] = CONTENT[path] + b"x"
    with pytest.raises(spice_jars.SpiceJarsError, match="is not the file it should be"):
        spice_jars.fetch(lambda text: None)
    assert kept(tmp_path) == [".lock"]


def test_a_connection_that_breaks_off_leaves_nothing(
    repository: type[Repository], tmp_path: Path
) -> None:
    repository.breaks_off = True
    with pytest.raises(spice_jars.SpiceJarsError, match=r"models\.jar broke off: it has 300,000"):
        spice_jars.fetch(lambda text: None)
    assert kept(tmp_path) == [".lock"]
    repository.breaks_off = False
    spice_jars.fetch(lambda text: None)
    assert spice_jars.missing() == []


def test_a_file_that_is_not_there_is_named(repository: type[Repository]) -> None:
    del repository.content[JARS[1].path]
    with pytest.raises(spice_jars.SpiceJarsError, match=r"engine\.jar cannot be fetched: .*404"):
        spice_jars.fetch(lambda text: None)
    assert [jar.name for jar in spice_jars.missing()] == ["engine.jar"]


FETCH = """\
import sys
from tfx_captioner import spice_jars

spice_jars.JARS = (spice_jars.Jar(sys.argv[1], int(sys.argv[2]), sys.argv[3]),)
spice_jars.fetch(print)
"""


def test_a_process_that_is_killed_half_way_leaves_no_jar(repository: type[Repository]) -> None:
    repository.hangs = True
    jar = JARS[0]
    arguments = [sys.executable, "-c", FETCH, jar.path, str(jar.size), jar.sha256]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as process:
        assert repository.half_sent.wait(60)
        process.send_signal(signal.SIGKILL)
    assert jar in spice_jars.missing()
    repository.hangs = False
    spice_jars.fetch(lambda text: None)
    assert spice_jars.files()[0].read_bytes() == CONTENT[jar.path]
    assert not list(spice_jars.folder().glob("*.part"))


JAVA = """\
#!{python}
import json, pathlib, sys, time

arguments = sys.argv[1:]
log = pathlib.Path({log!r})
log.write_text((log.read_text() if log.is_file() else "") + json.dumps(arguments) + "\\n")
place = arguments.index("edu.anu.spice.SpiceScorer")
asked = json.loads(pathlib.Path(arguments[place + 1]).read_text())
out = pathlib.Path(arguments[arguments.index("-out") + 1])
tests = [item["test"] for item in asked]
if "crash" in tests:
    sys.exit("at here\\njava.lang.OutOfMemoryError: Java heap space")
if "sleep" in tests:
    time.sleep(60)
if "garbage" in tests:
    out.write_text("[")
else:
    f = lambda item: len(set(item["test"].split()) & set(item["refs"][0].split())) / 8
    answers = [{{"image_id": i["image_id"], "scores": {{"All": {{"f": f(i)}}}}}} for i in asked]
    out.write_text(json.dumps(answers[::-1][("short" in tests):]))
"""


@pytest.fixture
def fake_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in for Java that scores words; the log of its arguments."""
    log, bin_folder, home = tmp_path / "log", tmp_path / "bin", tmp_path / "package" / "spice"
    bin_folder.mkdir()
    java = bin_folder / "java"
    java.write_text(JAVA.format(python=sys.executable, log=str(log)))
    java.chmod(0o755)
    (home / "lib").mkdir(parents=True)
    for name in ("spice-1.0.jar", "lib/parser.jar"):
        (home / name).touch()
    package = SimpleNamespace(submodule_search_locations=[str(home.parent)])
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: package if "coco" in name else find_spec(name)
    )
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(spice_jars, "JARS", JARS)
    (tmp_path / "cache" / "spice").mkdir(parents=True)
    for path, content in CONTENT.items():
        (tmp_path / "cache" / "spice" / Path(path).name).write_bytes(content)
    return log


def test_one_start_scores_all_images_in_their_order(fake_program: Path) -> None:
    images = [("a dog", ["a dog"]), ("", ["x"]), ("a dog runs", ["a dog runs", "y"])]
    assert spice.image_scores(images).tolist() == [2 / 8, 0.0, 3 / 8]
    (arguments,) = map(json.loads, fake_program.read_text().splitlines())
    assert any(argument.startswith("-Xmx") for argument in arguments)
    jars = arguments[arguments.index("-cp") + 1].split(":")
    names = [Path(jar).name for jar in jars]
    assert names == ["spice-1.0.jar", "parser.jar", "models.jar", "engine.jar"]


def test_spice_is_one_of_the_scores(fake_program: Path) -> None:
    references = TokenizedReferences.of(REFERENCES)
    statistics = image_statistics(references, HYPOTHESES, with_meteor=False, with_spice=True)
    # Words shared with the first reference: a dog runs in grass | a man sits on bench | all four |
    # a boy red ball.
    expected = [5 / 8, 5 / 8, 4 / 8, 4 / 8]
    assert statistics.images()["spice"].tolist() == expected
    assert statistics.corpus()["spice"] == np.mean(expected)
    file = io.BytesIO()
    statistics.save(file)
    file.seek(0)
    assert ImageStatistics.load(file).images()["spice"].tolist() == expected
    assert statistics.select(["3", "0"]).corpus()["spice"] == (4 + 5) / 16
    assert score(REFERENCES, HYPOTHESES, with_meteor=False).keys().isdisjoint({"spice"})


@pytest.mark.parametrize(
    ("caption", "message"),
    [
        ("crash", r"exit status 1\): java\.lang\.OutOfMemoryError: Java heap space"),
        ("garbage", r"ended without scores \(exit status 0\)"),
        ("short", r"ended without scores \(exit status 0\)"),
    ],
)
def test_a_program_without_scores_is_an_error_that_says_how(
    fake_program: Path, caption: str, message: str
) -> None:
    with pytest.raises(spice.SpiceProgramError, match=message):
        spice.image_scores([("a dog", ["a dog"]), (caption, ["a dog"])])


def test_a_program_that_does_not_end_is_stopped(
    fake_program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spice, "DEADLINE", 0.5)
    monkeypatch.setattr(spice, "DEADLINE_PER_IMAGE", 0.0)
    with pytest.raises(spice.SpiceProgramError, match=r"did not end within 0\.5 s"):
        spice.image_scores([("sleep", ["a dog"])])


def test_other_scores_survive_a_failure_of_spice(fake_program: Path) -> None:
    references = TokenizedReferences.of({"1.jpg": ["a dog"], "2.jpg": ["a cat " * 20]})
    captions = {"1.jpg": "crash", "2.jpg": "a cat"}
    statistics = image_statistics(references, captions, with_meteor=False, with_spice=True)
    assert statistics.spice is None
    file = io.BytesIO()
    statistics.save(file)
    file.seek(0)
    assert ImageStatistics.load(file).spice_failure == statistics.spice_failure
    assert "OutOfMemoryError" in statistics.spice_failure
    assert statistics.corpus().keys() >= {"bleu_4", "cider_d"}


def test_a_text_too_long_for_the_parser_is_named_before_the_program_runs(
    fake_program: Path,
) -> None:
    texts = {"1.jpg": ["a dog"], "2.jpg": ["a cat", "cat " * (spice.MAX_WORDS + 1)]}
    statistics = image_statistics(
        TokenizedReferences.of(texts), dict.fromkeys(texts, "a"), with_meteor=False, with_spice=True
    )
    assert f"{spice.MAX_WORDS} words" in statistics.spice_failure
    assert "image 2.jpg" in statistics.spice_failure
    assert not fake_program.exists()


def test_references_are_required(fake_program: Path) -> None:
    with pytest.raises(ValueError, match="SPICE needs at least one reference per image"):
        spice.image_scores([("a dog", [])])


def test_what_is_missing_is_said(
    fake_program: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert spice.unavailable_reason() is None
    assert "English alone, and the language is `de`" in str(spice.unavailable_reason("de"))
    (tmp_path / "cache" / "spice" / "engine.jar").unlink()
    assert "engine.jar first; `captioner score --spice`" in str(spice.unavailable_reason())
    with pytest.raises(spice.SpiceUnavailableError, match="1 of its 2 jars are not in"):
        spice.image_scores([("a dog", ["a dog"])])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "no `java` on the PATH" in str(spice.unavailable_reason())
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pycocoevalcap" in str(spice.unavailable_reason())


# Five images of hostile captions, scored by pycocoevalcap's own class on the same Java.
IMAGES: Sequence[tuple[str, Sequence[str]]] = [
    ("a dog runs in the grass", ["a dog runs fast in the grass", "the dog is running"]),
    ("a young girl in a red dress", ["a girl wearing a red dress", "a little girl stands"]),
    ("", ["a quiet lake"]),
    ("\x01 \ud83d \u20ac \U0001f600 \"'\\", ["a dog"]),
    ("a dog runs " * 33, ["a dog runs on grass"]),
]
SCORES = [0.8571428571428571, 0.6, 0.0, 0.0, 0.4]


@pytest.mark.skipif(
    spice.unavailable_reason() is not None,
    reason=f"SPICE is not available: {spice.unavailable_reason()}",
)
@pytest.mark.slow(reason="the real program, which loads its models for ten seconds")
def test_scores_of_pycocoevalcap() -> None:
    assert spice.image_scores(IMAGES).tolist() == SCORES
