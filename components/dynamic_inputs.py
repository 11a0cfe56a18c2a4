"""Inputs of nodes that take one artifact of a kind for each model, or each encoder, of a run.

Each has an input of its own, named after it (`model_resnet_gru`), so that lineage says which
artifact played which part. A list in one channel would need a union of channels, which Kubeflow
Pipelines cannot express.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from tfx.types import Artifact, artifact_utils
from tfx.types.channel import BaseChannel
from tfx.types.component_spec import ChannelParameter, ComponentSpec

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def input_key(role: str, name: str) -> str:
    """Key of an input, such as `model_resnet_gru`.

    Args:
      role: Role that the artifact plays, such as "model".
      name: Name of the model or the encoder.
    """
    return f"{role}_{name}"


def artifact_of(input_dict: Mapping[str, Sequence[Artifact]], role: str, name: str) -> Artifact:
    """The one artifact that plays a role for a model or an encoder."""
    return artifact_utils.get_single_instance(list(input_dict[input_key(role, name)]))


def named_channels(
    channels: Mapping[str, Mapping[str, BaseChannel]],
) -> dict[str, BaseChannel]:
    """Channels by their input key.

    Args:
      channels: Name of each model or encoder to role to channel.

    Raises:
      ValueError: A name cannot be part of the name of an input.
    """
    for name in channels:
        if not _NAME.fullmatch(name):
            raise ValueError(
                "A name must be letters, digits and underscores and begin with a letter. "
                f"Received: {name!r}."
            )
    return {
        input_key(role, name): channel
        for name, roles in channels.items()
        for role, channel in roles.items()
    }


def spec_with_inputs(
    base: type[ComponentSpec], names: Iterable[str], roles: Mapping[str, type[Artifact]]
) -> type[ComponentSpec]:
    """A contract with inputs for each name beside those of a base class.

    Args:
      base: Contract of what is the same for all names.
      names: Names of the models or the encoders.
      roles: Role to type of artifact.
    """
    inputs = {
        input_key(role, name): ChannelParameter(type=artifact_type)
        for name in names
        for role, artifact_type in roles.items()
    }
    return type(base.__name__, (base,), {"INPUTS": {**base.INPUTS, **inputs}})
