"""The fingerprint follows the code a node runs, and nothing else."""

import shutil
from pathlib import Path

import pytest

from tfx_captioner.pipeline.fingerprint import PACKAGE, code_fingerprint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    files = {
        "__init__.py": "",
        "models/__init__.py": "",
        "models/trainer.py": "import json\nfrom tfx_captioner.models import layers\n",
        "models/layers.py": (
            "def layer():\n    from tfx_captioner.models.deep import x\n    return x\n"
        ),
        "models/deep.py": "x = 1\n",
        "models/other.py": "y = 1\n",
        "models/templates/page.j2": "hello",
    }
    for name, text in files.items():
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    return tmp_path / PACKAGE


def fingerprint(root: Path) -> str:
    code_fingerprint.cache_clear()
    return code_fingerprint("tfx_captioner.models.trainer", root=root.parent)


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


def test_comments_docstrings_and_layout_do_not_count(rooms: Path) -> None:
    before = fingerprint(rooms)
    (rooms / "models/deep.py").write_text('"""Deep."""\n# why\nx = (\n    1\n)\n')
    assert fingerprint(rooms) == before


def test_a_module_of_nobody_is_an_error(rooms: Path) -> None:
    with pytest.raises(ImportError, match="nowhere"):
        code_fingerprint("tfx_captioner.models.nowhere", root=rooms.parent)


def test_nodes_of_different_code_differ() -> None:
    assert code_fingerprint("tfx_captioner.models.preprocessing") != code_fingerprint(
        "tfx_captioner.models.trainer"
    )


@pytest.mark.parametrize(
    ("edited", "invalidated"),
    [
        ("models/data_config.py", {"Transform", "ImageFeaturizer", "Trainer", "Exporter"}),
        ("models/config.py", {"Trainer", "Exporter"}),
        ("models/training.py", {"Trainer"}),
        ("models/export.py", {"Exporter"}),
        ("components/exporter/executor.py", {"Exporter"}),
    ],
)
def test_an_edit_invalidates_the_nodes_that_run_the_code_and_no_others(
    tmp_path: Path, edited: str, invalidated: set[str]
) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE, ignore=ignored)
    nodes = {
        "Transform": "tfx_captioner.models.preprocessing",
        "ImageFeaturizer": "tfx_captioner.components.image_featurizer.executor",
        "Trainer": "tfx_captioner.models.trainer",
        "Exporter": "tfx_captioner.components.exporter.executor",
    }

    def fingerprints() -> dict[str, str]:
        code_fingerprint.cache_clear()
        return {node: code_fingerprint(module, root=tmp_path) for node, module in nodes.items()}

    before = fingerprints()
    edited_path = tmp_path / PACKAGE / edited
    edited_path.write_text(edited_path.read_text() + "\nFURTHER = 1\n")
    after = fingerprints()
    assert {node for node in nodes if before[node] != after[node]} == invalidated
