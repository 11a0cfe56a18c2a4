"""One definition of a whole version, for all who look for one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tfx_captioner.serving import config, versions
from tfx_captioner.serving.local.storage import VersionDirectory
from tfx_captioner.serving.pushed import find_saved_model, newest_serving_dir


def _push(base: Path, version: int | str) -> Path:
    path = base / str(version)
    (path / "variables").mkdir(parents=True)
    (path / versions.GRAPH).write_bytes(b"graph")
    (path / "variables/variables.index").write_bytes(b"index")
    manifest = path / versions.MANIFEST
    manifest.parent.mkdir()
    manifest.write_text(versions.manifest_text(versions.content_of(str(path))), encoding="utf-8")
    return path


def _cut(path: Path) -> None:
    (path / "variables/variables.index").write_bytes(b"ind")


HALF: dict[str, Callable[[Path], object]] = {
    "no graph": lambda path: (path / versions.GRAPH).unlink(),
    "no variables": lambda path: shutil.rmtree(path / "variables"),
    "a file that is cut": _cut,
    "a manifest that is cut": lambda path: (path / versions.MANIFEST).write_text('{"files": {"a"'),
    "a manifest of something else": lambda path: (path / versions.MANIFEST).write_text("[1]"),
    "another name": lambda path: path.rename(path.with_name(".pushing-3")),
    "no ASCII digit": lambda path: path.rename(path.with_name("²")),
}


@pytest.mark.parametrize("what", HALF)
def test_nobody_takes_half_a_version(what: str, tmp_path: Path) -> None:
    serving_dir = tmp_path / "run/serving"
    base = serving_dir / "captioner"
    whole = _push(base, 2)
    HALF[what](_push(base, 3))
    assert versions.whole_versions(str(base)) == {2: str(whole)}
    assert config.find_models(serving_dir) == {"captioner": [2]}
    assert find_saved_model(base) == whole
    assert set(VersionDirectory(base).look()) == {2}
    shutil.rmtree(whole)
    assert config.find_models(serving_dir) == {}
    assert VersionDirectory(base).look() == {}
    with pytest.raises(ValueError, match=r"holds no SavedModel.* that is whole"):
        find_saved_model(base)
    with pytest.raises(ValueError, match="No model was pushed below"):
        newest_serving_dir(tmp_path)


def test_a_whole_version_needs_no_second_look(tmp_path: Path) -> None:
    _push(tmp_path, "007")
    assert set(VersionDirectory(tmp_path).look()) == {7}
    assert find_saved_model(tmp_path / "007") == tmp_path / "007"


def test_damage_is_told_in_words(tmp_path: Path) -> None:
    path = _push(tmp_path, 1)
    assert versions.damage(str(path)) == []
    (path / "variables/variables.index").write_bytes(b"INDEX")
    (path / versions.GRAPH).unlink()
    graph, index = versions.damage(str(path))
    assert "saved_model.pb cannot be read" in graph
    assert "variables.index must have 5 bytes with SHA-256" in index


def test_digests_tell_models_apart(tmp_path: Path) -> None:
    one, two = (versions.content_of(str(_push(tmp_path, version))) for version in (1, 2))
    assert versions.digest_of(one) == versions.digest_of(two)
    two["assets/words.txt"] = two["saved_model.pb"]
    assert versions.digest_of(one) != versions.digest_of(two)
