"""CaptionEvaluator: scores, intervals, and the verdict on a model."""

from __future__ import annotations

from pydantic import TypeAdapter
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.artifacts import (
    CaptionReferences,
    CaptionStatistics,
    GeneratedCaptions,
)
from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
from tfx_captioner.components.caption_evaluator.executor import Executor


class CaptionEvaluatorSpec(ComponentSpec):
    """Contract of the CaptionEvaluator."""

    PARAMETERS = {
        "model_name": ExecutionParameter(type=str),
        "encoder_name": ExecutionParameter(type=str),
        "config": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "references": ChannelParameter(type=CaptionReferences),
        "captions": ChannelParameter(type=GeneratedCaptions),
        "statistics": ChannelParameter(type=CaptionStatistics),
        "baseline_captions": ChannelParameter(type=GeneratedCaptions),
        "baseline_statistics": ChannelParameter(type=CaptionStatistics),
        "model": ChannelParameter(type=standard_artifacts.Model),
        "baseline_model": ChannelParameter(type=standard_artifacts.Model, optional=True),
        "baseline_blessing": ChannelParameter(type=standard_artifacts.ModelBlessing, optional=True),
    }
    OUTPUTS = {
        "evaluation": ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class CaptionEvaluator(BaseBeamComponent):
    """Adds up per-image statistics, and blesses the model or not. It loads no model.

    Outputs:
      evaluation: Standard ModelEvaluation, read by `tfma.load_eval_result`; in the same folder
        `verdict.json`, `captions.json`, `references.json` and `image_statistics.npz`.
      blessing: Standard ModelBlessing, understood by TFX's resolver strategies and Pusher.

    Example:

    ```python
    evaluator = CaptionEvaluator(
        references=references.outputs["references"],
        captions=captions.outputs["captions"],
        statistics=scorer.outputs["statistics"],
        baseline_captions=captions.outputs["baseline_captions"],
        baseline_statistics=scorer.outputs["baseline_statistics"],
        model=exporter.outputs["model"],
        model_name="resnet_gru",
        config=EvaluatorConfig(thresholds={"bleu_4": 0.1}),
        code_fingerprint=code_fingerprint("tfx_captioner.components.caption_evaluator.executor"),
    )
    ```
    """

    SPEC_CLASS = CaptionEvaluatorSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        *,
        references: BaseChannel,
        captions: BaseChannel,
        statistics: BaseChannel,
        baseline_captions: BaseChannel,
        baseline_statistics: BaseChannel,
        model: BaseChannel,
        model_name: str,
        config: EvaluatorConfig,
        code_fingerprint: str,
        encoder_name: str = "",
        baseline_model: BaseChannel | None = None,
        baseline_blessing: BaseChannel | None = None,
    ) -> None:
        """Builds the node.

        Args:
          references: CaptionReferences of a ReferenceScorer.
          captions: GeneratedCaptions of the model.
          statistics: CaptionStatistics of these captions.
          baseline_captions: GeneratedCaptions of the baseline; may hold none.
          baseline_statistics: CaptionStatistics of these.
          model: Model that is blessed; it is named in the blessing and not loaded.
          model_name: Name of the model in the report.
          config: Rules, and the bootstrap.
          code_fingerprint: Hash of the executor's code, part of the cache key.
          encoder_name: Encoder whose nearest neighbours the model is held against; empty for none.
          baseline_model: The last blessed model; may resolve to none or to `model` itself.
          baseline_blessing: The blessing of `baseline_model`, which tells what split it was judged
            on.
        """
        super().__init__(
            CaptionEvaluatorSpec(
                references=references,
                captions=captions,
                statistics=statistics,
                baseline_captions=baseline_captions,
                baseline_statistics=baseline_statistics,
                model=model,
                baseline_model=baseline_model,
                baseline_blessing=baseline_blessing,
                model_name=model_name,
                encoder_name=encoder_name,
                config=TypeAdapter(EvaluatorConfig).dump_json(config).decode(),
                code_fingerprint=code_fingerprint,
                evaluation=Channel(type=standard_artifacts.ModelEvaluation),
                blessing=Channel(type=standard_artifacts.ModelBlessing),
            )
        )
