"""What a local run checks and prepares before its first node."""

from pathlib import Path

import pytest

from tests.ingestion import datasets
from tfx_captioner.pipeline import local_runner
from tfx_captioner.pipeline.configs import load_config
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
