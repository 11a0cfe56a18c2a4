"""Versions that come, go, break and are fetched back, without a server around them."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from tfx_captioner.serving.local import storage
from tfx_captioner.serving.local.manager import ModelManager, ServableHandle
from tfx_captioner.serving.local.status import Code, StatusError

NUMBERS = st.integers(1, 9)


def _in_an_hour(now: Callable[[], int] = time.time_ns) -> int:
    return now() + 3600 * 10**9


class FakeServable:
    """As much of a servable as the manager looks at."""

    def __init__(self, path: Path) -> None:
        text = (path / "saved_model.pb").read_text(encoding="utf-8")
        if text == "broken":
            raise StatusError(Code.DATA_LOSS, "broken")
        self.signatures = {text: meta_graph_pb2.SignatureDef()}
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
        (aside / "saved_model.pb").write_text(text, encoding="utf-8")
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


def _available(manager: ModelManager) -> list[int]:
    status = manager.status(model_pb2.ModelSpec(name="m"))
    return sorted(v.version for v in status.model_version_status if v.state == 30)


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


def test_another_signature_is_served_as_on_tf_serving_and_said(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _push(base, 1)
    manager = _manager(base)
    _push(base, 2)
    manager.reconcile()
    assert "other signatures" not in caplog.text
    _push(base, 3, "another")
    manager.reconcile()
    assert _answers(manager) == 3
    assert _answers(manager, 2) == 2
    assert "m version 3 has other signatures than version 2" in caplog.text


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
            int(path.name): (path / "saved_model.pb").read_text(encoding="utf-8")
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
        wanted = sorted(disk)[-self._count :]
        assert {number for number in wanted if disk[number] == "good"} <= set(served)
        if set(served) & set(wanted):
            assert len(served) <= self._count
            assert set(served) <= set(disk)


TestVersions = Versions.TestCase
TestVersions.settings = settings(
    max_examples=int(os.environ.get("CAPTIONER_FUZZ_EXAMPLES", "40")),
    stateful_step_count=30,
    deadline=None,
)
