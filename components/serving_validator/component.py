"""ServingValidator: a model server really loads the model, and really answers."""

from __future__ import annotations

from pydantic import TypeAdapter
from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.serving_validator.config import ServingValidatorConfig
from tfx_captioner.components.serving_validator.executor import Executor


class ServingValidatorSpec(ComponentSpec):
    """Contract of the ServingValidator."""

    PARAMETERS = {
        "config": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "examples": ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"blessing": ChannelParameter(type=standard_artifacts.InfraBlessing)}


class ServingValidator(BaseComponent):
    """Serves the model on trial, asks it, and blesses it if every answer is right and in time.

    Does what TFX's InfraValidator is for, but also compiles for Kubeflow v2, needs no Docker, looks
    at the answers, and says in words why it does not bless.

    Outputs:
      blessing: InfraBlessing as TFX's InfraValidator writes it, so that Pusher takes it as
        `infra_blessing`; beside the mark file `validation.json` (verdict, reasons, measurements)
        and `server.log`. Custom properties: `blessed`, `reasons`, `server`, and `model_digest`,
        by which the Pusher knows the model that was validated.

    Example:

    ```python
    validator = ServingValidator(
        model=selector.outputs["model"],
        examples=example_gen.outputs["examples"],
        config=ServingValidatorConfig(max_latency_p95_ms=2000),
        code_fingerprint=code_fingerprint("tfx_captioner.components.serving_validator.executor"),
    )
    ```
    """

    SPEC_CLASS = ServingValidatorSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        model: BaseChannel,
        examples: BaseChannel,
        config: ServingValidatorConfig,
        code_fingerprint: str,
    ) -> None:
        """Builds the node.

        Args:
          model: SavedModel with the project's signatures.
          examples: Raw examples, from which the images are taken.
          config: Limits, and what the model is asked.
          code_fingerprint: Hash of the executor's code, part of the cache key.
        """
        super().__init__(
            ServingValidatorSpec(
                model=model,
                examples=examples,
                config=TypeAdapter(ServingValidatorConfig).dump_json(config).decode(),
                code_fingerprint=code_fingerprint,
                blessing=Channel(type=standard_artifacts.InfraBlessing),
            )
        )
