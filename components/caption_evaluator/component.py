"""CaptionEvaluator: captions the test split, scores the captions and blesses the model, or not."""

from __future__ import annotations

from pydantic import TypeAdapter
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
from tfx_captioner.components.caption_evaluator.executor import Executor


class CaptionEvaluatorSpec(ComponentSpec):
    """Contract of the CaptionEvaluator."""

    PARAMETERS = {
        "model_name": ExecutionParameter(type=str),
        "config": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "model": ChannelParameter(type=standard_artifacts.Model),
        "baseline_model": ChannelParameter(type=standard_artifacts.Model, optional=True),
        "baseline_blessing": ChannelParameter(type=standard_artifacts.ModelBlessing, optional=True),
        "model_run": ChannelParameter(type=standard_artifacts.ModelRun, optional=True),
        "features": ChannelParameter(type=standard_artifacts.Examples, optional=True),
    }
    OUTPUTS = {
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class CaptionEvaluator(BaseBeamComponent):
    """Evaluates the SavedModel that would be shipped, on images it was not trained on.

    Outputs:
      evaluation: Standard ModelEvaluation, read by `tfma.load_eval_result`; in the same folder
        `verdict.json`, `captions.json`, `references.json` and `report.html`.
      blessing: Standard ModelBlessing, understood by TFX's resolver strategies and Pusher.
    """

    SPEC_CLASS = CaptionEvaluatorSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        *,
        examples: BaseChannel,
        model: BaseChannel,
        model_name: str,
        config: EvaluatorConfig,
        code_fingerprint: str,
        baseline_model: BaseChannel | None = None,
        baseline_blessing: BaseChannel | None = None,
        model_run: BaseChannel | None = None,
        features: BaseChannel | None = None,
    ) -> None:
        """Builds the node.

        Args:
          examples: Raw Examples with the split to caption, and the train split.
          model: Model to evaluate: a SavedModel with `serving_default` from `image_bytes` to
            `caption`.
          model_name: Name of the model in the report.
          config: Thresholds, slices and sizes.
          code_fingerprint: Hash of the executor's code, part of the cache key.
          baseline_model: The last blessed model; may resolve to none or to `model` itself.
          baseline_blessing: The blessing of `baseline_model`, which tells what split it was judged
            on.
          model_run: ModelRun of the trainer, for the learning curves of the report.
          features: Featurized Examples, for the comparison with the nearest neighbour.
        """
        super().__init__(
            CaptionEvaluatorSpec(
                examples=examples,
                model=model,
                baseline_model=baseline_model,
                baseline_blessing=baseline_blessing,
                model_run=model_run,
                features=features,
                model_name=model_name,
                config=TypeAdapter(EvaluatorConfig).dump_json(config).decode(),
                code_fingerprint=code_fingerprint,
                evaluation=Channel(type=standard_artifacts.ModelEvaluation),
                blessing=Channel(type=standard_artifacts.ModelBlessing),
            )
        )
