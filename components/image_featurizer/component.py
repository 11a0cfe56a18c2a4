"""ImageFeaturizer: what is frozen of an encoder applied once to every image."""

from __future__ import annotations

import json

from pydantic import TypeAdapter
from tfx.dsl.components.base.base_beam_component import BaseBeamComponent
from tfx.dsl.components.base.executor_spec import BeamExecutorSpec
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.image_featurizer.executor import Executor
from tfx_captioner.models.data_config import EncoderConfig
from tfx_captioner.models.encoders import encoder_info


class ImageFeaturizerSpec(ComponentSpec):
    """Contract of the ImageFeaturizer."""

    PARAMETERS = {
        "encoder": ExecutionParameter(type=str),
        "batch_size": ExecutionParameter(type=int),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    # TFX wants names unique across inputs and outputs.
    INPUTS = {"transformed_examples": ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {"examples": ChannelParameter(type=standard_artifacts.Examples)}


class ImageFeaturizer(BaseBeamComponent):
    """Replaces the picture in each example by what the frozen part of an encoder makes of it.

    A picture is decoded and encoded here once, not once per epoch, caption or model. Of an encoder
    that is trained from a stage on, it is what goes into that stage. One shard of the examples is
    one Beam element, so shards are what a runner can spread over workers.

    Outputs:
      examples: The input examples, split by split and shard by shard in the same order, without
        `image/encoded` and with `image/features`, [rows * columns, channels] of a frozen encoder,
        [rows, columns, channels] of one that is trained from a stage on, and with
        `image/mean_features`, the mean over the positions of the features of the whole encoder as
        it is before training; both float16, little-endian, in row-major order, as one bytes value.
        Custom properties `encoder`, `trained_from` (empty if it is frozen), `input_size`, `shape`
        ("49x2048") and `weights_sha256` say what they are.

    Example:

    ```python
    featurizer = ImageFeaturizer(
        examples=transform.outputs["transformed_examples"],
        encoder=EncoderConfig(name="resnet50", weights="imagenet"),
        batch_size=32,
        code_fingerprint=code_fingerprint("tfx_captioner.components.image_featurizer.executor"),
    )
    ```
    """

    SPEC_CLASS = ImageFeaturizerSpec
    EXECUTOR_SPEC = BeamExecutorSpec(Executor)

    def __init__(
        self,
        *,
        examples: BaseChannel,
        encoder: EncoderConfig,
        batch_size: int,
        code_fingerprint: str,
    ) -> None:
        """Builds the node.

        Args:
          examples: Examples with `image/id` and `image/encoded`, GZIP TFRecords.
          encoder: An encoder that is not trained, or from a stage on.
          batch_size: Images per call of the encoder.
          code_fingerprint: Hash of the executor's code, part of the cache key.

        Raises:
          ValueError: There is no such encoder, all of it is to be trained, or it has no weights.
        """
        encoder_info(encoder)
        if not encoder.has_frozen_part:
            raise ValueError(
                f"`encoder` of an ImageFeaturizer must have a frozen part; all of {encoder.name} "
                f"is to be trained, so the Trainer must see pixels."
            )
        if encoder.weights is None:
            raise ValueError(
                "`encoder` of an ImageFeaturizer must have weights that the Trainer finds again. "
                f"Received: weights=None of {encoder.name}, which are other random ones each time."
            )
        settings = TypeAdapter(EncoderConfig).dump_python(encoder, mode="json")
        super().__init__(
            ImageFeaturizerSpec(
                transformed_examples=examples,
                examples=Channel(type=standard_artifacts.Examples),
                encoder=json.dumps(settings, sort_keys=True),
                batch_size=batch_size,
                code_fingerprint=code_fingerprint,
            )
        )
