"""The commands of a person who serves and asks, on a server of their own."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import saved_models
import yaml
from PIL import Image

from tfx_captioner.pipeline import cli
from tfx_captioner.serving import config, launcher
from tfx_captioner.serving.client import CaptionClient
from tfx_captioner.serving.launcher import Server, free_endpoint

DEPLOY = Path(launcher.__file__).with_name("deploy")
README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(saved_models.image(saved_models.RED, size=64, form="JPEG"))
    return path


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_caption_by_a_server(
    scheme: str, any_server: Server, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = any_server.endpoint
    url = endpoint.grpc_url if scheme == "grpc" else endpoint.rest_url
    assert cli.main(["caption", str(photo), "--server", url]) == 0
    assert capsys.readouterr().out == "a captioner scene in red\n"


def test_caption_by_the_pushed_model(
    serving_dir: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "looks.png"
    arguments = ["caption", str(photo), "--serving-dir", str(serving_dir), "--name", "cnn_lstm"]
    assert cli.main([*arguments, "--beams", "--attention", str(sheet)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "a cnn_lstm scene in red", "a cnn_lstm scene in red again",
    ]  # fmt: skip
    with Image.open(sheet) as drawn:
        assert drawn.size == (4 * 224, 2 * (224 + 26))


def test_a_folder_gives_json_lines_and_names_what_failed(
    server: Server, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photo.parent / "broken.png").write_bytes(saved_models.image(saved_models.RED)[:40])
    (photo.parent / "notes.jpg").write_bytes(b"no photograph")
    (photo.parent / "readme.txt").write_text("not looked at")
    code = cli.main(["caption", str(photo.parent), "--server", server.endpoint.grpc_url])

    captured = capsys.readouterr()
    records = {
        Path(line["photo"]).name: line for line in map(json.loads, captured.out.splitlines())
    }
    assert code == 1
    assert records["photo.jpg"]["caption"] == "a captioner scene in red"
    assert records["photo.jpg"]["version"] == 1
    assert records["broken.png"]["error"].startswith("INVALID_ARGUMENT")
    assert records["notes.jpg"]["error"] == "no JPEG or PNG"
    assert len(records) == 3
    assert "2 of 3 got no caption" in captured.err


def test_a_folder_of_what_people_have_is_captioned_and_the_rest_is_named(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """WebP named .jpg, a transparent PNG, what macOS leaves, and formats that nobody here reads."""
    album = tmp_path / "album"
    (album / "sub").mkdir(parents=True)
    (album / "__MACOSX").mkdir()
    red, webp = (saved_models.image(saved_models.RED, form=form) for form in ("JPEG", "WEBP"))
    for name in ("a.jpg", "._a.jpg", "__MACOSX/a.jpg", "h.heic", ".hidden.jpg", "notes.txt"):
        (album / name).write_bytes(red)
    for name in ("w.webp", "sub/whatsapp.JPG"):
        (album / name).write_bytes(webp)
    Image.new("RGBA", (8, 8), (*saved_models.RED, 255)).save(album / "clear.png")
    (album / os.fsdecode(b"z\xff.jpg")).write_bytes(red)
    (album / os.fsdecode(b"z.\xff")).write_bytes(red)
    assert cli.main(["caption", str(album), "--server", server.endpoint.grpc_url]) == 0

    captured = capsys.readouterr()
    records = [json.loads(line) for line in captured.out.encode().splitlines()]
    names = [str(Path(record["photo"]).relative_to(album)) for record in records]
    assert names == ["a.jpg", "clear.png", "sub/whatsapp.JPG", "w.webp", "z\\xff.jpg"]
    assert all(record["caption"] == "a captioner scene in red" for record in records)
    assert "left out 6 files (1 .\\xff, 1 .heic, 1 .txt, 3 hidden)" in captured.err


@pytest.mark.parametrize("options", [[], ["--beams"]])
def test_a_list_gives_json_whatever_is_in_it(
    options: list[str],
    server: Server,
    photo: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes = photo.parent / "notes.jpg"
    notes.write_bytes(b"no photograph")
    names = [str(photo), str(notes), str(photo.parent / "gone.jpg")]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(names)))
    url = server.endpoint.grpc_url
    assert cli.main(["caption", "-", "--server", url, *options]) == 1

    lines = capsys.readouterr().out.splitlines()
    good, text, gone = (json.loads(line, parse_constant=pytest.fail) for line in lines)
    assert (good["captions"][0] if options else good)["caption"] == "a captioner scene in red"
    assert good["version"] == 1
    assert text == {"photo": str(notes), "error": "no JPEG or PNG"}
    assert "No such file" in gone["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no-such-file.jpg"], "no-such-file.jpg does not exist"),
        (["PHOTO", "--server", "ftp://here"], "A server's URL is grpc://HOST:PORT"),
        (["PHOTO", "--server", "grpc://h:1", "--model", "m"], "not both"),
        (["PHOTO", "--model", "/nowhere"], "/nowhere holds no SavedModel"),
        (["PHOTO", "PHOTO", "--attention", "a.png"], "--attention draws one photograph"),
        (["PHOTO", "--label", "stable"], "give --server too"),
    ],
)
def test_what_cannot_be_done_is_said_in_words(
    arguments: list[str], message: str, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [str(photo) if argument == "PHOTO" else argument for argument in arguments]
    assert cli.main(["caption", *named]) == 2
    assert message in capsys.readouterr().err


def test_a_server_that_is_away(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = free_endpoint().grpc_url
    assert cli.main(["caption", str(photo), "--server", url, "--timeout", "2"]) == 2
    assert f"{url} did not answer: UNAVAILABLE" in capsys.readouterr().err


@dataclass(frozen=True)
class Served:
    directory: Path
    endpoint: launcher.Endpoint

    def run(self, command: str, *arguments: str, url: str = "") -> int:
        url = url or self.endpoint.grpc_url
        where = ["--server", url, "--serving-dir", str(self.directory)]
        return cli.main([command, *arguments, *where])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`captioner serve` on three versions, of which the last does not load."""
    directory = tmp_path_factory.mktemp("own") / "serving"
    for version in (1, 2):
        saved_models.save_captioner(directory / "captioner", version)
    endpoint = free_endpoint()
    argv = [
        sys.executable, "-m", "tfx_captioner.pipeline.cli", "serve", "--server=local",
        f"--serving-dir={directory}", f"--port={endpoint.port}",
        f"--rest-port={endpoint.rest_api_port}",
    ]  # fmt: skip
    with launcher.running(argv, endpoint, directory.parent / "serve.log") as process:
        process.wait_until_available(["captioner"], timeout=120)
        yield Served(directory, endpoint)
    assert "the local model server" in (directory.parent / "serve.log").read_text()


@pytest.mark.slow(reason="a server of its own")
def test_the_server_ends_with_a_command_that_is_killed(tmp_path: Path) -> None:
    saved_models.save_half_plus_two(tmp_path / "half_plus_two", 1)
    endpoint = free_endpoint()
    argv = [
        sys.executable, "-m", "tfx_captioner.pipeline.cli", "serve", "--server=local",
        f"--serving-dir={tmp_path}", f"--port={endpoint.port}",
        f"--rest-port={endpoint.rest_api_port}",
    ]  # fmt: skip
    with launcher.running(argv, endpoint, tmp_path / "serve.log") as command:
        command.wait_until_available(["half_plus_two"], timeout=120)
        (child,) = psutil.Process(command.process.pid).children()
        assert any(part.endswith("serving.local") for part in child.cmdline())
        command.process.kill()
        child.wait(timeout=60)
    launcher.check_free(endpoint)


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(launcher.ServerError, match="no-such-server does not start"),
        launcher.running(["no-such-server"], free_endpoint(), tmp_path / "log"),
    ):
        pass


def _states(served: Served, capsys: pytest.CaptureFixture[str], url: str = "") -> list[list[str]]:
    capsys.readouterr()
    assert served.run("models", url=url) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()[1:]]


@pytest.mark.slow(reason="a server of its own")
def test_rollback_and_promote_on_a_running_server(
    served: Served, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = served.endpoint.rest_url
    assert _states(served, capsys)[0] == ["captioner", "2", "AVAILABLE", "canary,", "stable"]

    assert served.run("rollback") == 0
    states = _states(served, capsys)
    assert ["captioner", "1", "AVAILABLE", "canary,", "stable"] in states
    assert ["captioner", "2", "END"] in states
    assert cli.main(["caption", str(photo), "--server", url]) == 0
    assert capsys.readouterr().out == "a v1 scene in red\n"
    assert served.run("rollback") == 2
    assert "no version before 1 to go back to" in capsys.readouterr().err

    saved_models.save_broken(served.directory / "captioner", 3)
    assert served.run("promote", "3") == 2
    assert "version 3 cannot be served" in capsys.readouterr().err
    assert cli.main(["caption", str(photo), "--server", url, "--label", "stable"]) == 0
    assert capsys.readouterr().out == "a v1 scene in red\n"

    assert served.run("promote", "2") == 0
    assert ["captioner", "2", "AVAILABLE", "stable"] in _states(served, capsys)
    assert cli.main(["caption", str(photo), "--server", url, "--label", "stable"]) == 0
    assert capsys.readouterr().out == "a v2 scene in red\n"
    assert served.run("promote", "9") == 2


@pytest.mark.slow(reason="a server of its own")
def test_models_tells_the_labels_of_the_server(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another hand than `captioner promote` reloads: the file here is out of date."""
    in_force = config.read_models(served.directory / config.MODELS_FILE)
    (model,) = in_force.model_config_list.config
    with CaptionClient(served.endpoint.grpc_url) as client:
        for versions, labels in [([1, 2], {}), ([1, 2], {"stable": 1}), ([2], {"stable": 1})]:
            model.model_version_policy.specific.versions[:] = versions
            model.version_labels.clear()
            model.version_labels.update(labels)
            client.reload(in_force)
            for url in (served.endpoint.grpc_url, served.endpoint.rest_url):
                rows = [  # without what ended, and why
                    row
                    for row in _states(served, capsys, url)
                    if row[0] == "captioner" and "END" not in row
                ]
                wanted = [["captioner", str(version), "AVAILABLE"] for version in versions]
                if labels and versions == [2]:
                    wanted.append(["captioner", "?", "not", "loaded", "stable"])
                elif labels:
                    wanted[0].append("stable")
                assert sorted(rows) == sorted(wanted)


def test_a_second_server_does_not_take_the_first_for_itself(
    server: Server, serving_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = server.endpoint
    ports = [f"--port={free_endpoint().port}", f"--rest-port={taken.rest_api_port}"]
    assert cli.main(["serve", "--server=local", f"--serving-dir={serving_dir}", *ports]) == 2
    told = capsys.readouterr()
    assert f"Cannot listen on 127.0.0.1:{taken.rest_api_port}" in told.err
    assert "ready" not in told.out


def test_the_health_check_of_the_compose_file(any_server: Server) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    _, *command = compose["services"]["captioner"]["healthcheck"]["test"]
    codes = []
    for port in (any_server.endpoint.rest_api_port, free_endpoint().port):
        here = [part.replace("8501", str(port)) for part in command]
        codes.append(subprocess.run(here, stderr=subprocess.DEVNULL, timeout=60).returncode)
    assert codes == [0, 1]


def test_the_curl_line_of_the_readme(any_server: Server, photo: Path) -> None:
    line = re.search(r"^.*curl .*:predict.*$", README.read_text(encoding="utf-8"), re.MULTILINE)
    assert line is not None
    assert "photo.jpg" in line[0]
    command = line[0].replace("http://127.0.0.1:8501", any_server.endpoint.rest_url)
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, cwd=photo.parent, check=True, timeout=60
    )
    (prediction,) = json.loads(result.stdout)["predictions"]
    assert prediction["caption"] == "a captioner scene in red"


def test_the_command_lines_of_all_servers(serving_dir: Path) -> None:
    endpoint = launcher.Endpoint("127.0.0.1", 1, 2)
    binary = launcher.command("binary", serving_dir, endpoint)
    docker = launcher.command("docker", serving_dir, endpoint)
    local = launcher.command("local", serving_dir, endpoint)
    flags = binary[3:]
    assert binary[:3] == ["tensorflow_model_server", "--port=1", "--rest_api_port=2"]
    assert f"--model_config_file={serving_dir / config.MODELS_FILE}" in flags
    assert local[-len(flags) :] == flags
    assert docker[-len(flags) :] == flags
    assert "--publish=127.0.0.1:1:8500" in docker
    assert launcher.DOCKER_IMAGE in docker


def test_a_server_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert launcher.choose("auto") == "local"
    with pytest.raises(launcher.ServerError, match="tensorflow_model_server is not on the PATH"):
        launcher.choose("binary")
    with pytest.raises(launcher.ServerError, match="Docker is not on this machine"):
        launcher.choose("docker")


def test_the_start_scripts_are_the_same_server(serving_dir: Path) -> None:
    """The scripts for hands and the command for `captioner serve` may not drift apart."""
    script = (DEPLOY / "start_model_server.sh").read_text(encoding="utf-8")
    compose = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert launcher.DOCKER_IMAGE in compose
    for flag in launcher.command("binary", serving_dir, launcher.Endpoint())[3:]:
        name, value = flag.split("=")
        value = value.replace(str(serving_dir), "")
        assert name in script
        assert name in compose
        assert value in script
        assert value in compose
