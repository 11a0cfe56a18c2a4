"""The model that was pushed last, as an artifact."""

from __future__ import annotations

from pathlib import Path

import pytest
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from tests.artifacts import make_artifact
from tfx_captioner.components.pushed_model.executor import PUSHED_VERSION, Executor, latest_version


def take(base: Path, out: Path) -> standard_artifacts.Model:
    model = make_artifact(standard_artifacts.Model, out)
    Executor().Do({}, {"model": [model]}, {"base_directory": str(base), "code_fingerprint": "1"})
    return model


def test_the_highest_version_is_copied_to_where_tfx_looks_for_it(tmp_path: Path) -> None:
    for version in ("9", "10"):
        saved_model = tmp_path / "pushed" / version / "saved_model.pb"
        saved_model.parent.mkdir(parents=True)
        saved_model.write_text(version)
    model = take(tmp_path / "pushed", tmp_path / "out")
    assert model.get_int_custom_property(PUSHED_VERSION) == 10
    copied = Path(path_utils.serving_model_path(model.uri)) / "saved_model.pb"
    assert copied.read_text() == "10"


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_pushed_is_an_empty_model(exists: bool, tmp_path: Path) -> None:
    base = tmp_path / "pushed"
    if exists:
        base.mkdir()
    model = take(base, tmp_path / "out")
    assert model.get_int_custom_property(PUSHED_VERSION) == 0
    assert not any((tmp_path / "out").rglob("*.pb"))


def test_what_is_no_version_does_not_count(tmp_path: Path) -> None:
    for name in ("3", "models.config", ".pushing-4"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "saved_model.pb").touch()
    (tmp_path / "5").mkdir()
    assert latest_version(str(tmp_path)) == (3, f"{tmp_path}/3")
