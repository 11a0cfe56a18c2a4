"""Executor of the ReferenceScorer."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import Artifact, artifact_utils

from tfx_captioner.components.artifacts import SPLIT_FINGERPRINT
from tfx_captioner.components.caption_files import write_references
from tfx_captioner.components.dynamic_inputs import artifact_of
from tfx_captioner.components.examples import (
    TRAIN_SPLIT,
    fingerprint_of,
    read_captions,
    split_files,
)
from tfx_captioner.components.reference_scorer import context
from tfx_captioner.components.reference_scorer.slices import slice_features
from tfx_captioner.components.reference_scorer.split import read_split
from tfx_captioner.components.reference_scorer.summary import (
    ReferencesSummary,
    write_references_summary,
)
from tfx_captioner.components.scores import (
    ENGLISH_SLICES,
    HUMAN,
    MOST_FREQUENT,
    OVERALL,
    RANDOM,
    SliceScores,
)
from tfx_captioner.components.statistics_files import write_tokenized_references
from tfx_captioner.metrics import languages, meteor
from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import (
    ImageStatistics,
    human_statistics,
    image_statistics,
)

LOG = logging.getLogger("captioner.reference_scorer")
# Role of the featurized Examples of an encoder.
FEATURES = "features"

ArtifactDict = dict[str, list[Artifact]]


class Executor(BaseExecutor):
    """Tokenises references and scores the lines that models are read against."""

    def Do(
        self,
        input_dict: ArtifactDict,
        output_dict: ArtifactDict,
        exec_properties: dict[str, Any],
    ) -> None:
        """Scores what needs no model.

        Args:
          input_dict: `examples`, and `features_<encoder>` for each of `encoders`.
          output_dict: `references`.
          exec_properties: `split`, `encoders` (names with commas between), `slices` and
            `word_slices` (JSON), `language`, `meteor`, `seed`.

        Raises:
          ValueError: The examples have no such split, or none of its images can be decoded.
        """
        output = artifact_utils.get_single_instance(output_dict["references"])
        examples, name = input_dict["examples"], exec_properties["split"]
        language, slices = exec_properties["language"], json.loads(exec_properties["slices"])
        split = read_split(split_files(examples, name))
        training: Mapping[str, Sequence[str]] = {}
        if TRAIN_SPLIT in artifact_utils.decode_split_names(examples[0].split_names):
            training = read_captions(split_files(examples, TRAIN_SPLIT))
        references = TokenizedReferences.of(
            split.references,
            slices=slice_features(
                split.images.values(),
                slices,
                json.loads(exec_properties["word_slices"]),
                language,
            ),
            training_captions=training.values() if training else None,
            language=language,
        )
        unavailable = _unavailable(bool(exec_properties["meteor"]), references, slices)
        lines = Lines(references, "meteor" not in unavailable, exec_properties["seed"])
        encoders = [encoder for encoder in exec_properties["encoders"].split(",") if encoder]
        summary = ReferencesSummary(
            split=name,
            split_fingerprint=fingerprint_of(split.captions),
            train_fingerprint=fingerprint_of(training) if training else "",
            undecodable=split.undecodable,
            context=dict(lines.without_model(training)),
            nearest={
                encoder: lines.nearest(artifact_of(input_dict, FEATURES, encoder), name, training)
                for encoder in encoders
                if training
            },
            unavailable=unavailable,
            language=language,
            segmentation=languages.segmentation(language),
            warning=_warning(split.references, language),
        )
        write_references(output.uri, split.references)
        write_tokenized_references(output.uri, references)
        write_references_summary(output.uri, summary)
        output.set_string_custom_property(SPLIT_FINGERPRINT, summary.split_fingerprint)
        LOG.info(
            "%d images, %d references, language %s: %s",
            len(references.ids),
            sum(map(len, references.texts)),
            language,
            summary.segmentation,
        )


class Lines:
    """Scores of captioners that need no model, by slice.

    Args:
      references: References of the images to caption.
      with_meteor: Whether METEOR is computed.
      seed: Seed of what is random.
    """

    def __init__(self, references: TokenizedReferences, with_meteor: bool, seed: int) -> None:
        self._references = references
        self._with_meteor = with_meteor
        self._seed = seed

    def without_model(
        self, training: Mapping[str, Sequence[str]]
    ) -> Iterator[tuple[str, SliceScores]]:
        """Each line that needs neither model nor encoder, and its scores.

        Args:
          training: Captions of the train split by image id; may be empty.
        """
        rounds = human_statistics(self._references, with_meteor=self._with_meteor)
        if rounds:
            yield HUMAN, _mean([_by_slice(statistics) for statistics in rounds])
        if training:
            ids = self._references.ids
            captions = [text for texts in training.values() for text in texts]
            frequent = context.most_frequent_caption(captions)
            yield MOST_FREQUENT, self._score(dict.fromkeys(ids, frequent))
            yield RANDOM, self._score(context.random_captions(ids, captions, self._seed))

    def nearest(
        self, features: Artifact, split: str, training: Mapping[str, Sequence[str]]
    ) -> SliceScores:
        """Scores of the captions of nearest neighbours; empty where an image has no features.

        Args:
          features: Featurized Examples of an encoder.
          split: Split of the images.
          training: Captions of the train split by image id.
        """
        captions = context.nearest_captions(
            features, self._references.ids, split, training, self._seed
        )
        return self._score(captions) if captions else {}

    def _score(self, captions: Mapping[str, str]) -> SliceScores:
        return _by_slice(
            image_statistics(self._references, captions, with_meteor=self._with_meteor)
        )


def _warning(references: Mapping[str, Sequence[str]], language: str) -> str:
    """That the captions are not in the language they are said to be in; empty where they are."""
    found = languages.warning(language, (text for texts in references.values() for text in texts))
    if not found:
        return ""
    warning = f"{found}, as `text.language`."
    LOG.warning(warning)
    return warning


def _unavailable(
    wants_meteor: bool, references: TokenizedReferences, slices: Sequence[str]
) -> dict[str, str]:
    """Metric, or slices, to why it is not computed."""
    reasons = {}
    if not wants_meteor:
        reasons["meteor"] = "switched off by `evaluation.meteor`"
    elif reason := meteor.unavailable_reason(references.language):
        reasons["meteor"] = reason
    if references.language != languages.ENGLISH:
        why = f"it is told by English words, and the language is `{references.language}`"
        reasons["dangling_captions"] = why
        reasons |= {f"slice {name}": why for name in slices if name in ENGLISH_SLICES}
    if references.training is None:
        why = "the examples have no train split"
        reasons |= {"cider_d_train_idf": why, "novel_captions": why}
    return reasons


def _by_slice(statistics: ImageStatistics) -> SliceScores:
    """All scores over all images, and in each slice those that are means over images.

    These compare from slice to slice; the others would take as long as a model's own.
    """
    scores = {OVERALL: statistics.corpus()}
    for name, part in statistics.by_slice().items():
        means = {"rouge_l": part.rouge_l, "cider_d_train_idf": part.cider_d_train_idf}
        scores[name] = {
            metric: float(np.mean(values)) for metric, values in means.items() if values is not None
        }
    return scores


def _mean(rounds: Sequence[SliceScores]) -> SliceScores:
    """Mean over the rounds, value by value."""
    return {
        name: {
            metric: float(np.mean([scores[name][metric] for scores in rounds])) for metric in values
        }
        for name, values in rounds[0].items()
    }
