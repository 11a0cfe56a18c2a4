"""CaptionScorer: captions of a model counted against the references, image by image."""

from __future__ import annotations

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.artifacts import (
    CaptionReferences,
    CaptionStatistics,
    GeneratedCaptions,
)
from tfx_captioner.components.caption_scorer.executor import Executor


class CaptionScorerSpec(ComponentSpec):
    """Contract of the CaptionScorer."""

    PARAMETERS = {"code_fingerprint": ExecutionParameter(type=str)}
    INPUTS = {
        "references": ChannelParameter(type=CaptionReferences),
        "captions": ChannelParameter(type=GeneratedCaptions),
        "baseline_captions": ChannelParameter(type=GeneratedCaptions),
        "earlier_statistics": ChannelParameter(type=CaptionStatistics, optional=True),
    }
    OUTPUTS = {
        "statistics": ChannelParameter(type=CaptionStatistics),
        "baseline_statistics": ChannelParameter(type=CaptionStatistics),
    }


class CaptionScorer(BaseComponent):
    """Tokenises and counts every caption once; all scores are sums of what it leaves.

    Outputs:
      statistics: `components.artifacts.CaptionStatistics` of the model.
      baseline_statistics: Those of the baseline; taken from its own run where captions, references
        and metrics are the same. Without a file where the baseline has no captions.

    Example:

    ```python
    scorer = CaptionScorer(
        references=references.outputs["references"],
        captions=captions.outputs["captions"],
        baseline_captions=captions.outputs["baseline_captions"],
        code_fingerprint=code_fingerprint("tfx_captioner.components.caption_scorer.executor"),
    )
    ```
    """

    SPEC_CLASS = CaptionScorerSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        references: BaseChannel,
        captions: BaseChannel,
        baseline_captions: BaseChannel,
        code_fingerprint: str,
        earlier_statistics: BaseChannel | None = None,
    ) -> None:
        """Builds the node.

        Args:
          references: CaptionReferences of a ReferenceScorer.
          captions: GeneratedCaptions of the model.
          baseline_captions: GeneratedCaptions of the baseline; may hold none.
          code_fingerprint: Hash of the executor's code, part of the cache key.
          earlier_statistics: CaptionStatistics of the baseline's own run; may resolve to none.
        """
        super().__init__(
            CaptionScorerSpec(
                references=references,
                captions=captions,
                baseline_captions=baseline_captions,
                earlier_statistics=earlier_statistics,
                code_fingerprint=code_fingerprint,
                statistics=Channel(type=CaptionStatistics),
                baseline_statistics=Channel(type=CaptionStatistics),
            )
        )
