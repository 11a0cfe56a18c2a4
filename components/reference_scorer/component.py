"""ReferenceScorer: references, counted once, and the scores of what needs no model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.artifacts import CaptionReferences
from tfx_captioner.components.dynamic_inputs import named_channels, spec_with_inputs
from tfx_captioner.components.reference_scorer.executor import FEATURES, Executor
from tfx_captioner.metrics.languages import ENGLISH


class ReferenceScorerSpec(ComponentSpec):
    """Contract of the ReferenceScorer, but for the features of each encoder."""

    PARAMETERS = {
        "split": ExecutionParameter(type=str),
        "encoders": ExecutionParameter(type=str),
        "slices": ExecutionParameter(type=str),
        "word_slices": ExecutionParameter(type=str),
        "language": ExecutionParameter(type=str),
        "meteor": ExecutionParameter(type=int),
        "seed": ExecutionParameter(type=int),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {"examples": ChannelParameter(type=standard_artifacts.Examples)}
    OUTPUTS = {"references": ChannelParameter(type=CaptionReferences)}


class ReferenceScorer(BaseComponent):
    """Does once per run what is the same for all models.

    It tokenises the references, puts the images into slices, and scores people against each other,
    the most frequent and a random training caption, and the captions of nearest neighbours.

    Outputs:
      references: `components.artifacts.CaptionReferences`.

    Example:

    ```python
    references = ReferenceScorer(
        examples=example_gen.outputs["examples"],
        features={"resnet50": featurizer.outputs["examples"]},
        split="test",
        slices=("people", "brightness"),
        code_fingerprint=code_fingerprint("tfx_captioner.components.reference_scorer.executor"),
    )
    ```
    """

    SPEC_CLASS = ReferenceScorerSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        examples: BaseChannel,
        split: str,
        slices: Sequence[str],
        code_fingerprint: str,
        features: Mapping[str, BaseChannel] | None = None,
        word_slices: Mapping[str, Sequence[str]] | None = None,
        language: str = ENGLISH,
        meteor: bool = True,
        seed: int = 1,
    ) -> None:
        """Builds the node.

        Args:
          examples: Raw Examples with the split to evaluate, and the train split.
          split: Name of the split.
          slices: Names of slicing features, among `scores.SLICES` and keys of `word_slices`.
          code_fingerprint: Hash of the executor's code, part of the cache key.
          features: Encoder to its featurized Examples, for the nearest neighbours.
          word_slices: Further slicing features: name to words of which one occurs in a reference.
          language: Language of the captions; it decides what a word is for all scores.
          meteor: Whether METEOR is computed where it is available.
          seed: Seed of the random captions.

        Raises:
          ValueError: The name of an encoder cannot be part of the name of an input.
        """
        features = features or {}
        inputs = named_channels({name: {FEATURES: of} for name, of in features.items()})
        spec = spec_with_inputs(
            ReferenceScorerSpec, features, {FEATURES: standard_artifacts.Examples}
        )
        super().__init__(
            spec(
                examples=examples,
                split=split,
                encoders=",".join(features),
                slices=json.dumps(list(slices)),
                word_slices=json.dumps(
                    {name: list(of) for name, of in (word_slices or {}).items()}
                ),
                language=language,
                meteor=int(meteor),
                seed=seed,
                code_fingerprint=code_fingerprint,
                references=Channel(type=CaptionReferences),
                **inputs,
            )
        )
