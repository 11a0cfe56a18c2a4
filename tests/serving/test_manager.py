"""Versions that come, go, break and are fetched back, without a server around them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from tfx_captioner.serving.local.manager import ModelManager
from tfx_captioner.serving.local.status import Code, StatusError

LONG_AGO = 1_000_000_000


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
    monkeypatch.setattr("tfx_captioner.serving.local.storage._is_old", lambda fingerprint: True)
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
