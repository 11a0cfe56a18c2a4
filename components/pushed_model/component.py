"""PushedModel: the model that was pushed last, for orchestrators without resolvers of our own."""

from __future__ import annotations

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import standard_artifacts
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.pushed_model.executor import Executor


class PushedModelSpec(ComponentSpec):
    """Contract of the PushedModel."""

    PARAMETERS = {
        "base_directory": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS: dict[str, ChannelParameter] = {}
    OUTPUTS = {"model": ChannelParameter(type=standard_artifacts.Model)}


class PushedModel(BaseComponent):
    """Takes a copy of the highest whole version under a folder of pushed models.

    What it finds depends on that folder and on no input, so it must never be cached, and must run
    before the Pusher that writes there.

    Outputs:
      model: Standard Model; an empty one where nothing was pushed yet. Its custom property
        `pushed_version` tells which version it is, and is 0 where there is none.

    Example:

    ```python
    baseline = PushedModel(
        base_directory="/mnt/captioner/serving/resnet_gru",
        code_fingerprint=code_fingerprint("tfx_captioner.components.pushed_model.executor"),
    )
    ```
    """

    SPEC_CLASS = PushedModelSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(self, *, base_directory: str, code_fingerprint: str) -> None:
        """Builds the node.

        Args:
          base_directory: Folder with one folder per version, as a Pusher writes it.
          code_fingerprint: Hash of the executor's code.
        """
        super().__init__(
            PushedModelSpec(
                base_directory=base_directory,
                code_fingerprint=code_fingerprint,
                model=Channel(type=standard_artifacts.Model),
            )
        )
