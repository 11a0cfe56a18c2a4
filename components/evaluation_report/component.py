"""EvaluationReport: pages for people, on which nothing depends."""

from __future__ import annotations

from collections.abc import Mapping

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.artifacts import EvaluationPages
from tfx_captioner.components.dynamic_inputs import named_channels, spec_with_inputs
from tfx_captioner.components.evaluation_report.executor import ROLES, Executor


class EvaluationReportSpec(ComponentSpec):
    """Contract of the EvaluationReport, but for the inputs of each model."""

    PARAMETERS = {
        "models": ExecutionParameter(type=str),
        "gallery_size": ExecutionParameter(type=int),
        "seed": ExecutionParameter(type=int),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "selection": ChannelParameter(type=standard_artifacts.ModelBlessing, optional=True),
    }
    OUTPUTS = {"pages": ChannelParameter(type=EvaluationPages)}


class EvaluationReport(BaseComponent):
    """Draws a page for each evaluation, and one that holds them side by side.

    Outputs:
      pages: `components.artifacts.EvaluationPages`: `comparison.html`, and for each model a folder
        with `report.html`, `gallery.json`, `history.json` and `evaluation.json`.

    Example:

    ```python
    EvaluationReport(
        examples=example_gen.outputs["examples"],
        models={
            "resnet_gru": {
                "evaluation": evaluator.outputs["evaluation"],
                "model": exporter.outputs["model"],
                "model_run": trainer.outputs["model_run"],
            }
        },
        code_fingerprint=code_fingerprint("tfx_captioner.components.evaluation_report.executor"),
    )
    ```
    """

    SPEC_CLASS = EvaluationReportSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        examples: BaseChannel,
        models: Mapping[str, Mapping[str, BaseChannel]],
        code_fingerprint: str,
        selection: BaseChannel | None = None,
        gallery_size: int = 9,
        seed: int = 1,
    ) -> None:
        """Builds the node.

        Args:
          examples: Raw Examples, for the pictures.
          models: Name of each model to its `evaluation` (ModelEvaluation of a CaptionEvaluator),
            `model` (SavedModel, for the attention) and `model_run` (ModelRun, for the learning
            curves).
          code_fingerprint: Hash of the executor's code and templates, part of the cache key.
          selection: Blessing of the ModelSelector, beside which it says what it chose.
          gallery_size: Number of images of each group (best, worst, random).
          seed: Seed of the random images.

        Raises:
          ValueError: The name of a model cannot be part of the name of an input.
        """
        spec = spec_with_inputs(EvaluationReportSpec, models, ROLES)
        super().__init__(
            spec(
                examples=examples,
                selection=selection,
                models=",".join(models),
                gallery_size=gallery_size,
                seed=seed,
                code_fingerprint=code_fingerprint,
                pages=Channel(type=EvaluationPages),
                **named_channels(models),
            )
        )
