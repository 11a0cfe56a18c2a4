"""The wheel installs one import name that is ours, beside Kubeflow's own SDK."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UV = ROOT / "scripts/uv"
# The name of the folder `kubeflow/` is also the import name of this package on PyPI.
SDK = "kubeflow==0.1.0"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    # By way of the source distribution, so that this is whole too.
    _run([UV, "build", "--quiet", "--out-dir", out, ROOT])
    [path] = out.glob("*.whl")
    return path


@pytest.mark.slow(reason="builds the package and fetches one")
def test_it_holds_all_rooms_and_their_files_below_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"tfx_captioner"}
    rooms = {name.split("/")[1] for name in names if name.startswith("tfx_captioner/")}
    assert rooms == {
        "__init__.py",
        *(path.name for path in (ROOT / "tfx_captioner").glob("[a-z]*")),
    }
    for file in (
        "components/evaluation_report/templates/base.html.j2",
        "kubeflow/settings/kubeflow.yaml",
        "pipeline/presets/sample.yaml",
        "schema/schema.pbtxt",
        "serving/deploy/start_model_server.sh",
    ):
        assert f"tfx_captioner/{file}" in names


@pytest.mark.slow(reason="builds the package and fetches one")
def test_it_leaves_the_sdk_of_kubeflow_working(wheel: Path, tmp_path: Path) -> None:
    _run([UV, "venv", "--quiet", tmp_path])
    python = tmp_path / "bin" / "python"
    _run([UV, "pip", "install", "--quiet", "--python", python, wheel])
    _run([UV, "pip", "install", "--quiet", "--python", python, "--no-deps", SDK])
    program = (
        "import kubeflow, tfx_captioner.kubeflow as ours\n"
        "print(*kubeflow.__path__, *ours.__path__, sep='\\n')"
    )
    theirs, ours = _run([python, "-I", "-c", program], cwd=tmp_path).splitlines()
    assert Path(theirs).parts[-2:] == ("site-packages", "kubeflow")
    assert Path(ours).parts[-2:] == ("tfx_captioner", "kubeflow")
    assert (Path(theirs) / "trainer").is_dir()
    assert "compile" in _run([tmp_path / "bin" / "captioner", "--help"], cwd=tmp_path)


def _run(command: list[str | Path], cwd: Path = ROOT) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout
