"""Versions that come, go, break and are fetched back, without a server around them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from tfx_captioner.serving import versions
from tfx_captioner.serving.local import storage
from tfx_captioner.serving.local.manager import ModelManager, ServableHandle
from tfx_captioner.serving.local.status import Code, StatusError

NUMBERS = st.integers(1, 9)


def _in_an_hour(now: Callable[[], int] = time.time_ns) -> int:
    return now() + 3600 * 10**9


def _graph(text: str) -> bytes:
    """A SavedModel with some signatures, or what is none."""
    if text == "broken":
        return b"broken"
    saved = saved_model_pb2.SavedModel()
    meta_graph = saved.meta_graphs.add()
    meta_graph.meta_info_def.tags.append("serve")
    for name in text.split():
        meta_graph.signature_def[name].method_name = "predict"
    return saved.SerializeToString()


class FakeServable:
    """As much of a servable as the manager looks at."""

    def __init__(self, path: Path) -> None:
        if (path / "saved_model.pb").read_bytes() == b"broken":
            raise StatusError(Code.DATA_LOSS, "broken")
        self.version = int(path.name)
        self.closed = False

    def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True


def _push(base: Path, version: int, text: str = "serving_default") -> None:
    """Puts a version there whole, and long enough ago to be taken at once."""
    with tempfile.TemporaryDirectory(dir=base.parent) as folder:
        aside = Path(folder) / "version"
        aside.mkdir()
        (aside / "saved_model.pb").write_bytes(_graph(text))
        os.replace(aside, base / str(version))


def _config(base: Path, count: int = 2, **labels: int) -> config_pb2.ModelServerConfig:
    config = config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add(
        name="m", base_path=str(base), model_platform="tensorflow"
    )
    model.model_version_policy.latest.num_versions = count
    model.version_labels.update(labels)
    return config


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of versions, all of which count as old."""
    monkeypatch.setattr(storage.time, "time_ns", _in_an_hour)
    path = tmp_path / "m"
    path.mkdir()
    return path


def _manager(base: Path) -> ModelManager:
    manager = ModelManager(load=FakeServable)  # type: ignore[arg-type]
    manager.configure(_config(base))
    return manager


def _status(manager: ModelManager) -> list[Any]:
    """States of all versions, the newest first."""
    return list(manager.status(model_pb2.ModelSpec(name="m")).model_version_status)


def _available(manager: ModelManager) -> list[int]:
    return sorted(status.version for status in _status(manager) if status.state == 30)


def _answers(manager: ModelManager, version: int | None = None) -> int:
    spec = model_pb2.ModelSpec(name="m")
    if version is not None:
        spec.version.value = version
    handle = manager.acquire(spec)
    handle.release()
    return handle.version


def test_a_broken_version_leaves_the_one_to_go_back_to(base: Path) -> None:
    for version in (1, 2):
        _push(base, version)
    manager = _manager(base)
    _push(base, 3, "broken")
    for _ in range(3):
        manager.reconcile()
    assert _available(manager) == [1, 2]
    assert _answers(manager) == 2
    assert _answers(manager, 1) == 1
    _push(base, 4)
    manager.reconcile()
    assert _available(manager) == [2, 4]
    _push(base, 5)
    manager.reconcile()
    assert _available(manager) == [4, 5]


def test_a_version_that_is_deleted_is_let_go(base: Path) -> None:
    for version in (1, 2):
        _push(base, version)
    manager = _manager(base)
    shutil.rmtree(base / "1")
    _push(base, 3, "broken")
    manager.reconcile()
    assert _available(manager) == [2]


def test_what_is_loaded_after_a_restart_does_not_depend_on_broken_versions(base: Path) -> None:
    for version in (1, 2, 3, 4):
        _push(base, version, "broken" if version > 2 else "serving_default")
    manager = _manager(base)
    assert _available(manager) == [1, 2]
    assert _answers(manager) == 2
    shutil.rmtree(base / "4")
    _push(base, 4)
    manager.reconcile()
    assert _available(manager) == [2, 4]


def test_a_version_with_other_signatures_does_not_become_the_one_that_answers(base: Path) -> None:
    for version in (1, 2):
        _push(base, version)
    manager = _manager(base)
    _push(base, 3, "another")
    for _ in range(2):
        manager.reconcile()
    assert _available(manager) == [1, 2]
    assert _answers(manager) == 2
    status = _status(manager)[0]
    assert (status.version, status.status.error_code) == (3, Code.FAILED_PRECONDITION.value[0])
    assert status.status.error_message == (
        "other signatures than version 2 has: signature `serving_default` is missing"
    )
    _push(base, 4)
    manager.reconcile()
    assert _available(manager) == [2, 4]
    assert _available(_manager(base)) == [2, 4], "nor after a restart"
    shutil.rmtree(base / "4")
    assert _available(_manager(base)) == [1, 2], "nor where it is the newest then"


def test_a_version_with_more_signatures_is_served(base: Path) -> None:
    _push(base, 1)
    manager = _manager(base)
    _push(base, 2, "serving_default more")
    manager.reconcile()
    assert _answers(manager) == 2


def test_other_signatures_are_served_where_a_label_names_them(base: Path) -> None:
    _push(base, 1)
    manager = _manager(base)
    _push(base, 2, "another")
    manager.reconcile()
    assert _answers(manager) == 1
    manager.configure(_config(base, stable=2))
    assert _answers(manager) == 2
    restarted = ModelManager(load=FakeServable)  # type: ignore[arg-type]
    restarted.configure(_config(base, stable=2))
    assert _available(restarted) == [1, 2]
    assert _answers(restarted) == 2


def test_a_version_that_is_not_what_was_pushed_is_not_served(base: Path) -> None:
    """Half a copy is not seen; one of the same size, but with other bytes, is reported."""
    _push(base, 1)
    manager = _manager(base)
    _push(base, 2)
    _write_manifest(base / "2")
    graph = base / "2/saved_model.pb"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:-1])
    manager.reconcile()
    assert [version.version for version in _status(manager)] == [1]
    graph.write_bytes(whole.swapcase())
    manager.reconcile()
    status = _status(manager)[0].status
    assert status.error_code == Code.DATA_LOSS.value[0]
    assert f"2/saved_model.pb must have {len(whole)} bytes with SHA-256" in status.error_message
    assert _answers(manager) == 1
    graph.write_bytes(whole)
    manager.reconcile()
    assert _answers(manager) == 2


def _write_manifest(path: Path) -> None:
    manifest = path / versions.MANIFEST
    manifest.parent.mkdir()
    manifest.write_text(versions.manifest_text(versions.content_of(str(path))), encoding="utf-8")


def _expect(error: StatusError, *codes: Code) -> None:
    assert error.code in codes, error


class Versions(RuleBasedStateMachine):
    """Pushes, deletions, repairs, reloads and requests in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = mock.patch.object(storage.time, "time_ns", _in_an_hour)
        self._clock.start()
        self._folder = tempfile.TemporaryDirectory()
        self._base = Path(self._folder.name) / "m"
        self._base.mkdir()
        self._opened: list[FakeServable] = []
        self._manager = ModelManager(load=self._load)  # type: ignore[arg-type]
        self._count = 2
        self._manager.configure(_config(self._base))
        self._handles: list[ServableHandle] = []
        self._was_served = False

    def teardown(self) -> None:
        for handle in self._handles:
            handle.release()
        self._manager.stop()
        assert all(servable.closed for servable in self._opened)
        self._folder.cleanup()
        self._clock.stop()

    def _load(self, path: Path) -> FakeServable:
        self._opened.append(FakeServable(path))
        return self._opened[-1]

    def _on_disk(self) -> dict[int, str]:
        return {
            int(path.name): "broken"
            if (path / "saved_model.pb").read_bytes() == b"broken"
            else "good"
            for path in self._base.iterdir()
        }

    def _served(self) -> list[int]:
        try:
            return _available(self._manager)
        except StatusError:
            return []

    @rule(version=NUMBERS, text=st.sampled_from(["good", "broken"]))
    def push(self, version: int, text: str) -> None:
        shutil.rmtree(self._base / str(version), ignore_errors=True)
        _push(self._base, version, text)

    @rule(version=NUMBERS)
    def delete(self, version: int) -> None:
        shutil.rmtree(self._base / str(version), ignore_errors=True)

    @rule()
    def look(self) -> None:
        self._manager.reconcile()
        self._check_policy()

    @rule(count=st.integers(1, 3), label=NUMBERS)
    def reload(self, count: int, label: int) -> None:
        try:
            self._manager.configure(_config(self._base, count, stable=label))
            assert self._labelled() == label
        except StatusError as error:
            _expect(error, Code.FAILED_PRECONDITION, Code.DATA_LOSS)
        self._count = count
        self._check_policy()

    @rule(version=st.none() | NUMBERS)
    def ask(self, version: int | None) -> None:
        spec = model_pb2.ModelSpec(name="m")
        if version is not None:
            spec.version.value = version
        served = self._served()
        try:
            handle = self._manager.acquire(spec)
        except StatusError as error:
            _expect(error, Code.NOT_FOUND)
            if version is not None:
                served = [number for number in served if number == version]
            handle = None
        if handle is None:
            assert served == []
            return
        assert handle.version == (version or max(served))
        self._handles.append(handle)

    @precondition(lambda self: self._handles)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self._handles) - 1))
        self._handles.pop(index).release()

    @invariant()
    def what_answers_is_loaded_and_what_does_not_is_not(self) -> None:
        for handle in self._handles:
            assert not handle.servable.closed  # type: ignore[attr-defined]
            assert handle.servable.version == handle.version  # type: ignore[attr-defined]
        needed = set(self._served()) | {handle.version for handle in self._handles}
        assert {servable.version for servable in self._opened if not servable.closed} == needed

    @invariant()
    def who_was_served_is_served(self) -> None:
        served = self._served()
        assert served or not self._was_served
        self._was_served = bool(served)

    def _labelled(self) -> int:
        handle = self._manager.acquire(model_pb2.ModelSpec(name="m", version_label="stable"))
        handle.release()
        return handle.version

    def _check_policy(self) -> None:
        served, disk = self._served(), self._on_disk()
        # One that was loaded before its directory got another content goes on to answer.
        usable = sorted(n for n in disk if disk[n] == "good" or n in served)
        if usable:
            assert served == usable[-self._count :]


TestVersions = Versions.TestCase
TestVersions.settings = settings(
    max_examples=int(os.environ.get("CAPTIONER_FUZZ_EXAMPLES", "40")),
    stateful_step_count=30,
    deadline=None,
)
