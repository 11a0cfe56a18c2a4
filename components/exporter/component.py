"""Exporter: trained weights become the SavedModel that is evaluated and served."""

from __future__ import annotations

import json

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.exporter.executor import Executor
from tfx_captioner.models.config import DecodingConfig
from tfx_captioner.models.data_config import to_plain


class ExporterSpec(ComponentSpec):
    """Contract of the Exporter."""

    PARAMETERS = {
        "decoding": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "weights": ChannelParameter(type=standard_artifacts.Model),
        "transform_graph": ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS = {"model": ChannelParameter(type=standard_artifacts.Model)}


class Exporter(BaseComponent):
    """Adds decoding, signatures and warm-up requests to what the Trainer trained.

    A node of its own, so that another beam size or length normalisation takes an export of seconds
    and not a training.

    Example:

    ```python
    exporter = Exporter(
        weights=trainer.outputs["model"],
        transform_graph=transform.outputs["transform_graph"],
        decoding=DecodingConfig(beam_size=5),
        code_fingerprint=code_fingerprint("tfx_captioner.components.exporter.executor"),
    )
    pusher = Pusher(model=exporter.outputs["model"], push_destination=...)
    ```

    Outputs:
      model: SavedModel with the signatures `serving_default`, `beams`, `attention` and
        `serving_examples`; in its `assets.extra`, warm-up requests for TensorFlow Serving and
        `captioner.json` (model, encoder, vocabulary size, decoding, code fingerprint of the
        training, scores of its best epoch).
    """

    SPEC_CLASS = ExporterSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        weights: BaseChannel,
        transform_graph: BaseChannel,
        decoding: DecodingConfig,
        code_fingerprint: str,
    ) -> None:
        """Builds the node.

        Args:
          weights: Weights of `models.trainer.run_fn`, the `model` of a TFX Trainer.
          transform_graph: Vocabulary that the model was trained with.
          decoding: Settings of the beam search.
          code_fingerprint: Hash of the executor's code, part of the cache key.
        """
        super().__init__(
            ExporterSpec(
                weights=weights,
                transform_graph=transform_graph,
                decoding=json.dumps(to_plain(decoding), sort_keys=True),
                code_fingerprint=code_fingerprint,
                model=Channel(type=standard_artifacts.Model),
            )
        )
