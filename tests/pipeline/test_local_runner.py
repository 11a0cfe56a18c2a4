"""What a local run checks and prepares before its first node."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ingestion import datasets
from tfx_captioner.locking import locked
from tfx_captioner.pipeline import local_runner
from tfx_captioner.pipeline.configs import PipelineConfig, load_config
from tfx_captioner.pipeline.errors import UserError


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("models.cnn_lstm.encoder.weights=/nowhere.h5", "Received: '/nowhere.h5'"),
        ("models.cnn_lstm.encoder.name=vgg61", "must be one of small_cnn"),
        ("models.cnn_lstm.encoder.input_size=4", "must be at least"),
    ],
)
def test_weights_that_are_not_there_stop_a_run_before_it_starts(
    override: str, message: str, tmp_path: Path
) -> None:
    datasets.write_flickr8k(tmp_path)
    values = {"run_root": str(tmp_path / "run"), "data.source": str(tmp_path)}
    config = load_config("flickr8k", [override], values=values)
    with pytest.raises(UserError, match=rf"`models\.cnn_lstm\.encoder.*{message}"):
        local_runner.run(config)
    assert not (tmp_path / "run" / "data").exists()


def test_a_folder_that_is_not_there_stops_a_run_before_weights_are_fetched(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    values = {"run_root": str(tmp_path / "run"), "data.source": str(tmp_path / "photos")}
    config = load_config("flickr8k", values=values)
    with pytest.raises(UserError, match=r"`data\.source`, which --data sets.*photos"):
        local_runner.run(config)
    assert "Weights" not in capfd.readouterr().out


@pytest.mark.parametrize("name", ["run [1]", "run*", "what?"])
def test_wildcards_in_the_path_of_a_run_are_refused(name: str, tmp_path: Path) -> None:
    """Beam writes the artifacts of a run through patterns of their names, and finds none."""
    root = tmp_path / name
    config = load_config("sample", values={"run_root": str(root)})
    with pytest.raises(UserError, match=r"--run-root sets, must not contain `\*`, .*, with [*?\[]"):
        local_runner.run(config)
    assert not root.exists()


def test_a_folder_without_a_data_set_is_explained(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    config = load_config(
        "sample",
        values={"run_root": str(tmp_path / "run"), "data.source": str(tmp_path / "photos")},
    )
    with pytest.raises(UserError, match=r"photos is no data set(.|\n)*Flickr8k\.token\.txt"):
        local_runner.run(config)


def test_the_schema_of_a_run_has_a_path_of_its_own_content(tmp_path: Path) -> None:
    folders = local_runner.RunFolders(tmp_path)
    first = local_runner._keep_schema(folders)
    assert first == local_runner._keep_schema(folders)
    assert first.read_text().startswith("# What a raw example must look like")
    assert [path.name for path in first.parent.iterdir()] == ["schema.pbtxt"]


def _config(root: Path) -> PipelineConfig:
    return load_config("sample", values={"run_root": str(root)})


def test_a_root_in_use_is_left_alone(tmp_path: Path) -> None:
    message = f"The run root {tmp_path} is held by process "
    with (
        locked(local_runner.RunFolders(tmp_path).lock, "The run root"),
        pytest.raises(UserError, match=message),
    ):
        local_runner.run(_config(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_root_that_is_a_file_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(UserError, match=rf"run root {tmp_path}/run cannot be written: .*exists"):
        local_runner.run(_config(tmp_path / "run"))


@pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs the right to mount: root is not stopped by the modes of files",
)
def test_a_root_that_is_read_only_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    script = (
        f"mount --bind {tmp_path}/run {tmp_path}/run && mount -o remount,ro,bind {tmp_path}/run && "
        f"exec {sys.executable} -m tfx_captioner.pipeline.cli run --run-root {tmp_path}/run"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert f"captioner: The run root {tmp_path}/run cannot be written: " in done.stderr
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow(reason="starts the command line and waits for its imports")
def test_ctrl_c_ends_a_run_and_gives_its_lock_back(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tfx_captioner.pipeline.cli", "run", "--run-root", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout
    assert any("▸ Data" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "captioner: interrupted"
    assert "Traceback" not in errors
    assert not local_runner.RunFolders(tmp_path).lock.exists()
