"""Moving labels and versions of a running server, without a moment in which nothing is served.

Every move is two reloads: the first loads what is going to be needed beside what is served, the
second, once that is available, moves the labels and lets go of the rest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tfx_captioner.serving import messages
from tfx_captioner.serving.client import CaptionClient
from tfx_captioner.serving.config import LOADED_VERSIONS, loaded_versions
from tfx_captioner.serving.errors import ServingError


class PromotionError(Exception):
    """The move was refused; what was served before still is."""


@dataclass(frozen=True)
class Move:
    """A move of one model.

    Attributes:
      model: Its name.
      version: The version it is about.
      before: Configuration in force.
      preparation: Configuration that loads it beside what is served.
      result: Configuration afterwards.
      pinned: Whether versions pushed from now on wait for another promotion.
    """

    model: str
    version: int
    before: Any
    preparation: Any
    result: Any
    pinned: bool


def plan_promotion(
    config: Any, name: str, versions: Sequence[int], label: str, version: int | None = None
) -> Move:
    """Points a label at a version.

    Promoting the newest version also ends what a rollback began: newer ones are served again.

    Args:
      config: The ModelServerConfig in force.
      name: Name of the model.
      versions: Its versions on disk.
      label: Label to move.
      version: Where to; None for the newest.

    Raises:
      PromotionError: There is no such model or version.
    """
    model = _find(config, name)
    version = max(versions, default=None) if version is None else version
    if version is None or version not in versions:
        raise _no_version(name, version, versions)
    labels = {**model.version_labels, label: version}
    needed = {number for number in labels.values() if number in versions}
    pinned = model.model_version_policy.WhichOneof("policy_choice") == "specific"
    newest = sorted(versions)[-LOADED_VERSIONS:]
    if (version == max(versions) or not pinned) and needed <= set(newest):
        return _move(config, name, versions, version, labels, keep=None)
    keep = needed if pinned and version != max(versions) else needed | {max(versions)}
    return _move(config, name, versions, version, labels, keep=keep)


def plan_rollback(
    config: Any, name: str, versions: Sequence[int], version: int | None = None
) -> Move:
    """Serves an older version, and nothing newer until the newest one is promoted again.

    Args:
      config: The ModelServerConfig in force.
      name: Name of the model.
      versions: Its versions on disk.
      version: Where to; None for the one before the newest that is served.

    Raises:
      PromotionError: There is no such model or version, or nothing older.
    """
    model = _find(config, name)
    served = [number for number in loaded_versions(model, versions) if number in versions]
    if version is None:
        older = [number for number in versions if served and number < max(served)]
        if not older:
            raise PromotionError(
                f"{name} has no version before {max(served, default='the first')} to go back to. "
                f"On disk: {_list(versions)}."
            )
        version = max(older)
    elif version not in versions:
        raise _no_version(name, version, versions)
    labels = {label: min(number, version) for label, number in model.version_labels.items()}
    keep = {version} | {number for number in labels.values() if number in versions}
    return _move(config, name, versions, version, labels, keep=keep)


def carry_out(move: Move, client: CaptionClient, timeout: float) -> None:
    """Makes a server do a move.

    Args:
      move: What `plan_promotion` or `plan_rollback` gave.
      client: Client of the server's gRPC.
      timeout: Seconds the version may take to load.

    Raises:
      PromotionError: The version does not load.
      ServingError: The server refused a configuration or cannot be reached.
    """
    client.reload(move.preparation)
    try:
        _wait_until_available(move, client, timeout)
        client.reload(move.result)
    except (PromotionError, ServingError) as error:
        # Or the server would keep to the versions of the preparation, and take in no new ones.
        client.reload(move.before)
        if isinstance(error, PromotionError):
            raise
        raise PromotionError(
            f"The server refused to serve {move.model} version {move.version}: {error}. "
            "What was served before still is."
        ) from error


def _wait_until_available(move: Move, client: CaptionClient, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        states = {status.version: status for status in client.status()}
        status = states.get(move.version)
        if status is not None and status.state == "AVAILABLE":
            return
        failed = status is not None and status.state == "END" and bool(status.error)
        if failed or time.monotonic() > deadline:
            why = status.error if status and failed else f"not available after {timeout:.0f} s"
            raise PromotionError(
                f"{move.model} version {move.version} cannot be served: {why}. "
                "What was served before still is."
            )
        time.sleep(0.2)


def _move(
    config: Any,
    name: str,
    versions: Sequence[int],
    version: int,
    labels: dict[str, int],
    keep: set[int] | None,
) -> Move:
    """`keep` are the versions to serve; None for the newest ones, whatever they are."""
    preparation = messages.ModelServerConfig()
    preparation.CopyFrom(config)
    model = _find(preparation, name)
    before = {number for number in loaded_versions(model, versions) if number in versions}
    _serve_only(model, before | (keep or set(sorted(versions)[-LOADED_VERSIONS:])))

    result = messages.ModelServerConfig()
    result.CopyFrom(config)
    model = _find(result, name)
    if keep is None:
        model.model_version_policy.latest.num_versions = LOADED_VERSIONS
    else:
        _serve_only(model, keep)
    model.version_labels.clear()
    model.version_labels.update(
        {label: number for label, number in labels.items() if number in versions}
    )
    return Move(name, version, config, preparation, result, pinned=keep is not None)


def _serve_only(model: Any, versions: set[int]) -> None:
    del model.model_version_policy.specific.versions[:]
    model.model_version_policy.specific.versions.extend(sorted(versions))


def _find(config: Any, name: str) -> Any:
    for model in config.model_config_list.config:
        if model.name == name:
            return model
    names = ", ".join(model.name for model in config.model_config_list.config)
    raise PromotionError(f"No model `{name}` is configured, only {names}.")


def _no_version(name: str, version: int | None, versions: Sequence[int]) -> PromotionError:
    return PromotionError(
        f"{name} has no version {version} on disk; serving it would serve nothing. "
        f"On disk: {_list(versions)}."
    )


def _list(versions: Sequence[int]) -> str:
    return ", ".join(str(version) for version in sorted(versions)) or "none"
