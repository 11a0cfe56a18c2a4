"""A push that is killed, disturbed or met by another: what is there by a number is whole."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
import tensorflow as tf

from tfx_captioner.components.pusher import publishing
from tfx_captioner.components.pusher.publishing import ASIDE, publish
from tfx_captioner.serving import versions

FILES = ("saved_model.pb", "fingerprint.pb", "variables/variables.index", "assets/words.txt")


def _model(
    folder: Path, word: str = "first", files: Sequence[str] = FILES
) -> tuple[str, versions.Content]:
    """Something that looks like a SavedModel."""
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{word} {name}".encode() * 100)
    return str(folder), versions.content_of(str(folder))


@pytest.fixture(params=["file system", "bucket"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With one rename for a folder, and without."""
    if request.param == "bucket":
        monkeypatch.setattr(publishing, "_is_bucket", lambda base: True)
    return str(request.param)


def _disturb(at_step: Callable[[], object]) -> None:
    """Tells before every step that touches the disk, and once more when a copy is half done."""

    def told(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            at_step()
            return function(*args, **kwargs)

        return call

    def copy(source: str, target: str) -> None:
        at_step()
        content = Path(source).read_bytes()
        Path(target).write_bytes(content[: len(content) // 2])
        at_step()
        Path(target).write_bytes(content)

    publishing.fileio = type("FileIO", (), dict(vars(publishing.fileio)))  # type: ignore[misc]
    for name in ("makedirs", "open", "rmtree"):
        setattr(publishing.fileio, name, staticmethod(told(getattr(publishing.fileio, name))))
    publishing.fileio.copy = staticmethod(copy)  # type: ignore[attr-defined]
    for name in ("mkdir", "rename", "fsync"):
        setattr(publishing.os, name, told(getattr(os, name)))


def _push_in_a_process(push: Callable[[], object], at_step: Callable[[], object]) -> int:
    """Pushes in a child; returns its exit status, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        try:
            _disturb(at_step)
            push()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _check_whole(base: Path, *known: versions.Content) -> list[int]:
    """All that counts as a version is one of the models, as it was validated."""
    whole = versions.whole_versions(str(base))
    for path in whole.values():
        assert versions.content_of(path) in known
        assert versions.damage(path) == []
    return list(whole)


def test_a_push_that_is_killed_leaves_nothing_half(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kill -9` before every step of a push, one after the other, until one comes to its end."""
    first, old = _model(tmp_path / "first")
    second, new = _model(tmp_path / "second", "second")
    later = publishing.time.time() + 2 * publishing._DEAD_SECONDS
    for kill_at in itertools.count():
        base = tmp_path / f"base{kill_at}"
        before, _ = publish(first, old, str(base))
        steps = itertools.count()

        def kill(steps: Any = steps, kill_at: int = kill_at) -> None:
            if next(steps) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        status = _push_in_a_process(lambda base=base: publish(second, new, str(base)), kill)
        found = _check_whole(base, old, new)
        assert before in found
        if store == "file system":
            assert set(versions.numbered(str(base))) == set(found), "nothing half has a number"
        with monkeypatch.context() as patch:
            if store == "bucket":  # It cannot tell a dead push from a live one, but by its age.
                patch.setattr(publishing.time, "time", lambda: later)
            version, path = publish(second, new, str(base))
        assert versions.content_of(path) == new
        assert version == max(_check_whole(base, old, new)) > before
        assert set(versions.numbered(str(base))) == set(versions.whole_versions(str(base)))
        assert not list(base.glob(f"{ASIDE}*"))
        if status == 0:
            break
        assert status == -signal.SIGKILL
    print(f"killed at {kill_at} points")
    assert kill_at > 3 * len(FILES)


def test_a_full_disk_leaves_what_was_there(store: str, tmp_path: Path) -> None:
    """The last step of all may fail when the version is there already: then it is whole."""
    first, old = _model(tmp_path / "first")
    second, new = _model(tmp_path / "second", "second")
    base = tmp_path / "base"
    before, _ = publish(first, old, str(base))
    for fail_at in itertools.count():
        steps = itertools.count()

        def fail(steps: Any = steps, fail_at: int = fail_at) -> None:
            if next(steps) == fail_at:
                raise OSError(errno.ENOSPC, "no space left on device")

        failed = _push_in_a_process(lambda: publish(second, new, str(base)), fail)
        assert failed == 0
        found = _check_whole(base, old, new)
        assert not list(base.glob(f"{ASIDE}*"))
        assert set(versions.numbered(str(base))) == set(found)
        if found != [before]:
            break
    assert fail_at > 3 * len(FILES)


def test_what_is_not_read_back_as_it_was_is_not_pushed(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, content = _model(tmp_path / "model")
    copy = publishing.fileio.copy
    for spoilt in FILES:

        def spoil(path: str, target: str, spoilt: str = spoilt) -> None:
            copy(path, target)
            if target.endswith(spoilt):
                Path(target).write_bytes(bytes(Path(target).stat().st_size))

        monkeypatch.setattr(publishing.fileio, "copy", spoil)
        with pytest.raises(OSError, match=rf"not on disk what was validated.*{spoilt} must have"):
            publish(source, content, str(tmp_path / "base"))
        assert versions.numbered(str(tmp_path / "base")) == {}


def test_versions_grow_and_never_meet(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pushes in the same second, and one after the clock was put back."""
    base = str(tmp_path / "base")
    pushed = []
    for number, now in enumerate((1_000_000, 1_000_000, 500_000)):
        monkeypatch.setattr(publishing.time, "time", lambda now=now: now)
        pushed.append(publish(*_model(tmp_path / str(number), str(number)), base)[0])
    assert pushed == [1_000_000, 1_000_001, 1_000_002]
    assert list(versions.whole_versions(base)) == pushed


def test_the_newest_version_is_not_pushed_again_unless_it_was_damaged(
    store: str, tmp_path: Path
) -> None:
    source, content = _model(tmp_path / "model")
    base = str(tmp_path / "base")
    version, path = publish(source, content, base)
    assert publish(source, content, base) == (version, path)
    graph = Path(path, "saved_model.pb")
    graph.write_bytes(bytes(graph.stat().st_size))
    again, path = publish(source, content, base)
    assert again > version
    assert versions.content_of(path) == content


def test_another_push_is_waited_for_and_not_taken_for_a_dead_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = tmp_path / "base"
    slow, quick = _model(tmp_path / "slow", "slow"), _model(tmp_path / "quick", "quick")
    copying, go_on = os.pipe(), os.pipe()

    steps = itertools.count()

    def wait() -> None:
        if next(steps) == 3 * len(FILES):
            os.write(copying[1], b"!")
            os.read(go_on[0], 1)

    child = threading.Thread(
        target=_push_in_a_process, args=[lambda: publish(*slow, str(base)), wait]
    )
    child.start()
    os.read(copying[0], 1)
    waiting = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: waiting.set()  # type: ignore[method-assign]
    publishing.LOG.addHandler(handler)
    other = threading.Thread(target=publish, args=[*quick, str(base)])
    other.start()
    assert waiting.wait(60)
    assert len(list(base.glob(f"{ASIDE}*"))) == 1
    assert versions.numbered(str(base)) == {}
    os.write(go_on[1], b"!")
    child.join()
    other.join()
    publishing.LOG.removeHandler(handler)
    assert "waiting for another push" in caplog.text
    assert [
        Path(path, FILES[0]).read_bytes().split()[0]
        for path in versions.whole_versions(str(base)).values()
    ] == [b"slow", b"quick"]


def test_without_locks_only_what_is_old_is_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> NoReturn:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(publishing.fcntl, "flock", no_locks)
    now = int(publishing.time.time())
    base = tmp_path / "base"
    for began in (now - 2 * publishing._DEAD_SECONDS, now):
        (base / f"{ASIDE}{began}").mkdir(parents=True)
    publish(*_model(tmp_path / "model"), str(base))
    assert [path.name for path in base.glob(f"{ASIDE}*")] == [f"{ASIDE}{now}"]
    assert len(_check_whole(base, versions.content_of(str(tmp_path / "model")))) == 1


def test_a_uri_is_read_and_written_through_tensorflow(tmp_path: Path) -> None:
    # Without `assets/`: TensorFlow's store in memory lists `assets.extra` as a part of it.
    source, content = _model(tmp_path / "model", files=FILES[:3])
    base = "ram://pushed/captioner"
    version, path = publish(source, content, base)
    assert path == f"{base}/{version}"
    assert versions.whole_versions(base) == {version: path}
    assert versions.content_of(path) == content
    assert versions.damage(path) == []
    with tf.io.gfile.GFile(f"{path}/fingerprint.pb", "wb") as file:
        file.write(b"less")
    assert versions.whole_versions(base) == {}
    assert "fingerprint.pb must have" in versions.damage(path)[0]
