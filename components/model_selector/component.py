"""ModelSelector: the better of the blessed candidates becomes the champion."""

from __future__ import annotations

from collections.abc import Mapping

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.dynamic_inputs import named_channels, spec_with_inputs
from tfx_captioner.components.model_selector.executor import Executor

Candidate = tuple[BaseChannel, BaseChannel, BaseChannel]

_ROLES = {
    "model": standard_artifacts.Model,
    "evaluation": standard_artifacts.ModelEvaluation,
    "blessing": standard_artifacts.ModelBlessing,
}


class ModelSelectorSpec(ComponentSpec):
    """Contract of the ModelSelector, but for the inputs of each candidate."""

    PARAMETERS = {
        "metric": ExecutionParameter(type=str),
        "candidates": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS: dict[str, ChannelParameter] = {}
    OUTPUTS = {
        "model": ChannelParameter(type=standard_artifacts.Model),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class ModelSelector(BaseComponent):
    """Chooses among candidates; only a blessed one comes out blessed.

    Each candidate has inputs of its own, named after it (`model_resnet_gru`).

    Outputs:
      model: Standard Model: a copy of the chosen candidate.
      blessing: Standard ModelBlessing of the chosen one: its own verdict. Beside it
        `selection.json`, which tells all scores and why.

    Example:

    ```python
    selector = ModelSelector(
        candidates={
            "resnet_gru": (
                exporter.outputs["model"],
                evaluator.outputs["evaluation"],
                evaluator.outputs["blessing"],
            )
        },
        metric="cider_d",
        code_fingerprint=code_fingerprint("tfx_captioner.components.model_selector.executor"),
    )
    ```
    """

    SPEC_CLASS = ModelSelectorSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self, *, candidates: Mapping[str, Candidate], metric: str, code_fingerprint: str
    ) -> None:
        """Builds the node.

        Args:
          candidates: Model name to the channels of its Model, ModelEvaluation (by a
            CaptionEvaluator) and ModelBlessing. The order breaks ties.
          metric: Name of the metric compared over all images; higher is better.
          code_fingerprint: Hash of the executor's code, part of the cache key.

        Raises:
          ValueError: There are no candidates, or a name cannot be part of an input's name.
        """
        if not candidates:
            raise ValueError("`candidates` must name at least one model. Received: none.")
        inputs = named_channels(
            {
                name: dict(zip(_ROLES, channels, strict=True))
                for name, channels in candidates.items()
            }
        )
        super().__init__(
            spec_with_inputs(ModelSelectorSpec, candidates, _ROLES)(
                metric=metric,
                candidates=",".join(candidates),
                code_fingerprint=code_fingerprint,
                model=Channel(type=standard_artifacts.Model),
                blessing=Channel(type=standard_artifacts.ModelBlessing),
                **inputs,
            )
        )
