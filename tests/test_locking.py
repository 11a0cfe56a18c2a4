"""One owner at a time, whoever comes and however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest

from tfx_captioner.locking import LockedError, locked

OWNER = """
import sys, time
from pathlib import Path
from tfx_captioner.locking import locked
with locked(Path(sys.argv[1]), "The run"):
    print("mine", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path: Path):
    """A process that holds the lock until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "run" / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "mine\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_told_who_is_first(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    path = tmp_path / "run" / ".lock"
    with pytest.raises(LockedError) as error, locked(path, "The run"):
        pass
    message = str(error.value)
    assert f"The run is held by process {owner.pid} (`" in message
    assert "import sys, time" in message, "its command"
    assert ", since 20" in message
    assert f"The lock is {path}." in message


def test_a_lock_is_free_after_its_block(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    owner.communicate()
    for _ in range(2):
        with locked(tmp_path / "run" / ".lock", "The run"):
            pass


def test_a_killed_owner_is_succeeded_at_once(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    owner.kill()
    owner.wait()
    assert (tmp_path / "run" / ".lock").exists()
    with locked(tmp_path / "run" / ".lock", "The run"):
        pass


def test_a_stopped_owner_keeps_its_lock(owner: subprocess.Popen[str], tmp_path: Path) -> None:
    os.kill(owner.pid, signal.SIGSTOP)
    with (
        pytest.raises(LockedError, match=f"held by process {owner.pid}"),
        locked(tmp_path / "run" / ".lock", "The run"),
    ):
        pass


def _compete(path: str, begin: float, winners: str) -> None:
    time.sleep(max(0.0, begin - time.time()))
    try:
        with locked(Path(path), "The run"):
            # Fails where another is within the block.
            os.mkdir(f"{winners}/inside")
            time.sleep(0.02)
            os.rmdir(f"{winners}/inside")
            (Path(winners) / str(os.getpid())).touch()
    except LockedError:
        pass


def test_of_many_that_find_a_dead_owner_one_succeeds(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    dead = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "dead")],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # fmt: skip
    assert dead.stdout
    assert dead.stdout.readline()
    dead.kill()
    dead.communicate()
    marker = (tmp_path / "dead").read_bytes()
    for turn in range(5):
        path, winners = tmp_path / f"lock{turn}", tmp_path / f"winners{turn}"
        path.write_bytes(marker)
        winners.mkdir()
        begin = time.time() + 1.0
        processes = [
            context.Process(target=_compete, args=(str(path), begin, str(winners)))
            for _ in range(6)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * 6, "two were inside"
        assert list(winners.iterdir()), "nobody was"


def _as_of_another_host(path: Path) -> None:
    """Makes the owner of a lock one whose life nobody here can look up."""
    text = path.read_text()
    host = next(line for line in text.splitlines() if line.startswith("host="))
    path.write_text(text.replace(host, "host=elsewhere"))


def test_an_owner_on_another_host_is_one_that_renews(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    lock = filelock.SoftFileLease(path, lease_duration=2.0, on_compromise=lambda _: None)
    lock.acquire()
    marker = path.read_text()
    lock.release()
    path.write_text(marker)
    _as_of_another_host(path)
    renewing = subprocess.Popen(
        [sys.executable, "-c",
         "import os, sys, time\nfor _ in range(100): os.utime(sys.argv[1]); time.sleep(0.1)",
         str(path)]
    )  # fmt: skip
    try:
        with (
            pytest.raises(LockedError, match="on elsewhere"),
            locked(path, "The run", lease_seconds=2.0),
        ):
            pass
    finally:
        renewing.kill()
        renewing.wait()
    with locked(path, "The run", lease_seconds=2.0):  # it renews no more
        assert "elsewhere" not in path.read_text()


def _lose(path: Path) -> None:
    with locked(path, "The run", lease_seconds=0.6):
        path.unlink()
        for _ in range(300):
            time.sleep(0.1)


def test_who_loses_the_lock_ends(tmp_path: Path) -> None:
    with pytest.raises(LockedError, match=r"no longer this process's.*marker-missing"):
        _lose(tmp_path / ".lock")
    with pytest.raises(KeyboardInterrupt), locked(tmp_path / ".lock", "The run"):
        raise KeyboardInterrupt
