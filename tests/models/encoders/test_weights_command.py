"""`captioner weights`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfx_captioner.models.encoders import encoder_names, weights
from tfx_captioner.pipeline.cli import main


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, no packages."""
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(weights, "package_file", lambda name: None)
    return tmp_path


def test_lists_every_encoder(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["encoder", "input", "grid", "channels", "weights"]
    assert [line.split()[0] for line in lines] == list(encoder_names())
    rows = {line.split()[0]: line.split(maxsplit=4)[1:] for line in lines}
    missing = "missing: captioner weights get resnet50"
    assert rows["resnet50"] == ["224", "7x7", "2048", missing]
    assert rows["small_cnn"][3] == "none: trained from scratch"


def test_list_of_a_preset_fails_while_weights_are_missing(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["weights", "list", "flickr8k"]) == 1
    fetched = weights.fetched_file("resnet50")
    fetched.parent.mkdir(parents=True)
    fetched.touch()
    capsys.readouterr()
    assert main(["weights", "list", "resnet50"]) == 0
    assert str(fetched) in capsys.readouterr().out
    assert main(["weights", "list", "sample"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["get"], "needs the name of an encoder or a preset"),
        (["get", "resnet5"], "Received: 'resnet5'."),
        (["get", "vgg16", "--from", "npm"], "encoder vgg16 can be got from: keras."),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    cache: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["weights", *arguments]) == 2
    assert message in capsys.readouterr().err
