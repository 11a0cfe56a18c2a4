"""CaptionGen: captions of a split by a model, and by the baseline it is compared with."""

from __future__ import annotations

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.artifacts import GeneratedCaptions
from tfx_captioner.components.caption_gen.executor import Executor


class CaptionGenSpec(ComponentSpec):
    """Contract of the CaptionGen."""

    PARAMETERS = {
        "split": ExecutionParameter(type=str),
        "batch_size": ExecutionParameter(type=int),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": ChannelParameter(type=standard_artifacts.Examples),
        "model": ChannelParameter(type=standard_artifacts.Model),
        "baseline_model": ChannelParameter(type=standard_artifacts.Model, optional=True),
        "earlier_captions": ChannelParameter(type=GeneratedCaptions, optional=True),
    }
    OUTPUTS = {
        "captions": ChannelParameter(type=GeneratedCaptions),
        "baseline_captions": ChannelParameter(type=GeneratedCaptions),
    }


class CaptionGen(BaseComponent):
    """Captions a split with the SavedModel that would be shipped.

    Outputs:
      captions: `components.artifacts.GeneratedCaptions` of the model.
      baseline_captions: Those of the baseline: taken from its own run where split and references
        are the same, else generated now. Without captions where there is no baseline, or where it
        cannot caption; the file `generation.json` says which.

    Example:

    ```python
    captions = CaptionGen(
        examples=example_gen.outputs["examples"],
        model=exporter.outputs["model"],
        split="test",
        batch_size=32,
        code_fingerprint=code_fingerprint("tfx_captioner.components.caption_gen.executor"),
    )
    ```
    """

    SPEC_CLASS = CaptionGenSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        examples: BaseChannel,
        model: BaseChannel,
        split: str,
        batch_size: int,
        code_fingerprint: str,
        baseline_model: BaseChannel | None = None,
        earlier_captions: BaseChannel | None = None,
    ) -> None:
        """Builds the node.

        Args:
          examples: Raw Examples with the split to caption.
          model: SavedModel with `serving_default` from `image_bytes` to `caption` and `score`.
          split: Name of the split.
          batch_size: Images per call of the model.
          code_fingerprint: Hash of the executor's code, part of the cache key.
          baseline_model: The last blessed model; may resolve to none or to `model` itself.
          earlier_captions: Captions that the baseline's own run generated; may resolve to none.
        """
        super().__init__(
            CaptionGenSpec(
                examples=examples,
                model=model,
                baseline_model=baseline_model,
                earlier_captions=earlier_captions,
                split=split,
                batch_size=batch_size,
                code_fingerprint=code_fingerprint,
                captions=Channel(type=GeneratedCaptions),
                baseline_captions=Channel(type=GeneratedCaptions),
            )
        )
