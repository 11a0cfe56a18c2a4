"""Executor of the CaptionScorer."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from typing import Any

from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils

from tfx_captioner.components.artifacts import MODEL_ID, SCORED_BY, SPLIT_FINGERPRINT
from tfx_captioner.components.caption_files import (
    CAPTIONS_FILE,
    copy_file,
    read_captions,
    read_generation,
)
from tfx_captioner.components.reference_scorer.summary import read_references_summary
from tfx_captioner.components.statistics_files import (
    STATISTICS_FILE,
    TOKENIZED_FILE,
    read_bytes,
    read_tokenized_references,
    write_statistics,
)
from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import image_statistics

LOG = logging.getLogger("captioner.caption_scorer")

ArtifactDict = dict[str, list[Artifact]]


class Executor(BaseExecutor):
    """Counts captions against references."""

    def Do(
        self,
        input_dict: ArtifactDict,
        output_dict: ArtifactDict,
        exec_properties: dict[str, Any],
    ) -> None:
        """Counts the captions of the model and of its baseline.

        Args:
          input_dict: `references`, `captions`, `baseline_captions`, and, where there are some,
            `earlier_statistics`.
          output_dict: `statistics` and `baseline_statistics`.
          exec_properties: `code_fingerprint`.

        Raises:
          ValueError: The captions were generated for other images or references.
        """
        uri = artifact_utils.get_single_uri(input_dict["references"])
        references = read_tokenized_references(uri)
        summary = read_references_summary(uri)
        with_meteor = "meteor" not in summary.unavailable
        scored_with = [
            exec_properties["code_fingerprint"].encode(),
            b"METEOR" if with_meteor else b"",
            read_bytes(uri, TOKENIZED_FILE),
        ]
        for captions_key, key in (
            ("captions", "statistics"),
            ("baseline_captions", "baseline_statistics"),
        ):
            captions = artifact_utils.get_single_instance(input_dict[captions_key])
            output = artifact_utils.get_single_instance(output_dict[key])
            generation = read_generation(captions.uri)
            if generation.split_fingerprint != summary.split_fingerprint:
                raise ValueError(
                    f"`{captions_key}` must be of the images and references that are scored: "
                    f"{summary.split_fingerprint}. Received: {generation.split_fingerprint}."
                )
            fileio.makedirs(output.uri)
            if not generation.has_captions:
                continue
            scored_by = _hash([*scored_with, read_bytes(captions.uri, CAPTIONS_FILE)])
            output.set_string_custom_property(SCORED_BY, scored_by)
            output.set_string_custom_property(SPLIT_FINGERPRINT, generation.split_fingerprint)
            if captions.has_custom_property(MODEL_ID):
                # Kubeflow turns whole numbers into floats.
                output.set_int_custom_property(
                    MODEL_ID, int(captions.get_custom_property(MODEL_ID))
                )
            earlier = input_dict.get("earlier_statistics", []) if key != "statistics" else []
            _count(captions, output, references, earlier, with_meteor)


def _count(
    captions: Artifact,
    output: Artifact,
    references: TokenizedReferences,
    earlier: Sequence[Artifact],
    with_meteor: bool,
) -> None:
    """Writes the statistics of captions, or takes those that were counted before."""
    scored_by = output.get_string_custom_property(SCORED_BY)
    for artifact in earlier:
        if artifact.get_string_custom_property(SCORED_BY) == scored_by:
            LOG.info("statistics of the baseline are those of its own run")
            copy_file(artifact.uri, STATISTICS_FILE, output.uri)
            return
    texts = read_captions(captions.uri)
    wanted = {image_id: texts[image_id] for image_id in references.ids}
    write_statistics(output.uri, image_statistics(references, wanted, with_meteor=with_meteor))


def _hash(parts: Sequence[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]
