"""The fingerprint follows the code a node runs, and nothing else."""

from pathlib import Path

import pytest

from pipeline.fingerprint import code_fingerprint


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    files = {
        "models/__init__.py": "",
        "models/trainer.py": "import json\nfrom models import layers\n",
        "models/layers.py": "def layer():\n    from models.deep import x\n    return x\n",
        "models/deep.py": "x = 1\n",
        "models/other.py": "y = 1\n",
        "models/templates/page.j2": "hello",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def fingerprint(root: Path) -> str:
    code_fingerprint.cache_clear()
    return code_fingerprint("models.trainer", root=root)


@pytest.mark.parametrize("edited", ["models/trainer.py", "models/layers.py", "models/deep.py"])
def test_an_edit_of_code_that_is_reached_counts(rooms: Path, edited: str) -> None:
    before = fingerprint(rooms)
    (rooms / edited).write_text((rooms / edited).read_text() + "z = 2\n")
    assert fingerprint(rooms) != before


def test_an_edit_of_a_template_beside_the_code_counts(rooms: Path) -> None:
    before = fingerprint(rooms)
    (rooms / "models/templates/page.j2").write_text("good day")
    assert fingerprint(rooms) != before


def test_an_edit_of_other_code_does_not_count(rooms: Path) -> None:
    before = fingerprint(rooms)
    (rooms / "models/other.py").write_text("y = 2\n")
    assert fingerprint(rooms) == before


def test_comments_and_layout_do_not_count(rooms: Path) -> None:
    before = fingerprint(rooms)
    (rooms / "models/deep.py").write_text("# why\nx = (\n    1\n)\n")
    assert fingerprint(rooms) == before


def test_a_module_of_nobody_is_an_error(rooms: Path) -> None:
    with pytest.raises(ImportError, match="nowhere"):
        code_fingerprint("models.nowhere", root=rooms)


def test_nodes_of_different_code_differ() -> None:
    assert code_fingerprint("models.preprocessing") != code_fingerprint("models.trainer")
