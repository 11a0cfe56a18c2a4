"""Pusher: a model that was blessed becomes a version that a server takes, whole or not at all."""

from __future__ import annotations

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.pusher.executor import Executor


class PusherSpec(ComponentSpec):
    """Contract of the Pusher."""

    PARAMETERS = {
        "base_directory": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "model_blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
        "infra_blessing": ChannelParameter(type=standard_artifacts.InfraBlessing, optional=True),
    }
    OUTPUTS = {"pushed_model": ChannelParameter(type=standard_artifacts.PushedModel)}


class Pusher(BaseComponent):
    """Pushes a blessed model as a new version, `<base_directory>/<version>`.

    Does what TFX's Pusher does, but a version is there whole or not at all, is what was validated,
    keeps the signatures of the version before it, and what is there already is not pushed again.

    Outputs:
      pushed_model: PushedModel as TFX's Pusher writes it, with a copy of the model. Custom
        properties: `pushed`, and where it is 1 `pushed_destination` and `pushed_version`.

    Example:

    ```python
    pusher = Pusher(
        model=selector.outputs["model"],
        model_blessing=selector.outputs["blessing"],
        infra_blessing=validator.outputs["blessing"],
        base_directory="runs/sample/serving/captioner",
        code_fingerprint=code_fingerprint("tfx_captioner.components.pusher.executor"),
    )
    ```
    """

    SPEC_CLASS = PusherSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        model: BaseChannel,
        model_blessing: BaseChannel,
        infra_blessing: BaseChannel | None = None,
        base_directory: str,
        code_fingerprint: str,
    ) -> None:
        """Builds the node.

        Args:
          model: SavedModel with the project's signatures.
          model_blessing: Verdict of the evaluation.
          infra_blessing: Verdict of the ServingValidator on this model; None where none served it
            on trial.
          base_directory: Folder of the versions; a local path or a URI.
          code_fingerprint: Hash of the executor's code, part of the cache key.
        """
        super().__init__(
            PusherSpec(
                model=model,
                model_blessing=model_blessing,
                infra_blessing=infra_blessing,
                base_directory=base_directory,
                code_fingerprint=code_fingerprint,
                pushed_model=Channel(type=standard_artifacts.PushedModel),
            )
        )
