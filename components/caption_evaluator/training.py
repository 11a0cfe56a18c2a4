"""What the evaluation takes from the train split: captions to repeat, and how rare words are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tfx.types import Artifact, artifact_utils

from tfx_captioner.components.caption_evaluator.context import TRAIN_SPLIT
from tfx_captioner.components.caption_evaluator.images import (
    fingerprint_of,
    read_captions,
    split_files,
)
from tfx_captioner.metrics import cider, ptb

_CAPTIONS_FILE = "training_captions.txt"
_FREQUENCIES_FILE = "training_document_frequencies.json.gz"


@dataclass(frozen=True)
class TrainingText:
    """Captions of the train split.

    Attributes:
      captions: By image id; empty where the examples have no train split.
      frequencies: Document frequencies for CIDEr-D; None without captions.
      tokenised: The different captions after tokenisation; None without captions.
      captions_path: The captions as a file, for metrics in Beam; None without captions.
      frequencies_path: The frequencies as a file; None without captions.
    """

    captions: Mapping[str, Sequence[str]]
    frequencies: cider.DocumentFrequencies | None = None
    tokenised: frozenset[str] | None = None
    captions_path: str | None = None
    frequencies_path: str | None = None

    @property
    def fingerprint(self) -> str:
        """`images.fingerprint_of` the captions; empty without any."""
        return fingerprint_of(self.captions) if self.captions else ""


def read_training_text(examples: Sequence[Artifact], folder: str) -> TrainingText:
    """Reads the captions of the train split and leaves what Beam's workers need in a folder.

    Args:
      examples: Raw Examples.
      folder: Of the evaluation; workers must be able to read it.
    """
    if TRAIN_SPLIT not in artifact_utils.decode_split_names(examples[0].split_names):
        return TrainingText({})
    captions = read_captions(split_files(examples, TRAIN_SPLIT))
    tokenised = [[ptb.tokenize(text) for text in texts] for texts in captions.values()]
    frequencies = cider.DocumentFrequencies.of(tokenised)
    captions_path = os.path.join(folder, _CAPTIONS_FILE)
    frequencies_path = os.path.join(folder, _FREQUENCIES_FILE)
    lines = [" ".join(text.split()) for texts in captions.values() for text in texts]
    Path(captions_path).write_text("\n".join(lines) + "\n", encoding="utf-8")
    frequencies.save(frequencies_path)
    return TrainingText(
        captions,
        frequencies,
        frozenset(text for texts in tokenised for text in texts),
        captions_path,
        frequencies_path,
    )
