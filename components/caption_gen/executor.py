"""Executor of the CaptionGen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import Artifact, artifact_utils
from tfx.utils import path_utils

from tfx_captioner.components.artifacts import MODEL_ID, PUSHED_VERSION, SPLIT_FINGERPRINT
from tfx_captioner.components.caption_files import (
    CAPTIONS_FILE,
    Generation,
    copy_file,
    read_generation,
    write_captions,
    write_generation,
)
from tfx_captioner.components.examples import (
    fingerprint_of,
    raw_records,
    read_captions,
    split_files,
)
from tfx_captioner.progress import ProgressLog
from tfx_captioner.serving.saved_model import RefusedImage, SavedCaptioner, UnusableModelError

LOG = logging.getLogger("captioner.caption_gen")

ArtifactDict = dict[str, list[Artifact]]


class Executor(BaseExecutor):
    """Captions a split by a model, and by its baseline unless that was done before."""

    def Do(
        self,
        input_dict: ArtifactDict,
        output_dict: ArtifactDict,
        exec_properties: dict[str, Any],
    ) -> None:
        """Captions.

        Args:
          input_dict: `examples`, `model`, and, where there are some, `baseline_model` and
            `earlier_captions`.
          output_dict: `captions` and `baseline_captions`.
          exec_properties: `split`, `batch_size`.

        Raises:
          ValueError: The examples have no such split.
          UnusableModelError: The model has no usable `serving_default`.
        """
        split, batch_size = exec_properties["split"], int(exec_properties["batch_size"])
        files = split_files(input_dict["examples"], split)
        generation = Generation(split, fingerprint_of(read_captions(files)))
        model = artifact_utils.get_single_instance(input_dict["model"])
        output = artifact_utils.get_single_instance(output_dict["captions"])
        _caption(model, output, files, generation, batch_size)

        output = artifact_utils.get_single_instance(output_dict["baseline_captions"])
        baseline = _baseline(input_dict.get("baseline_model", []), model)
        if baseline is None:
            _finish(output, generation, None)
        elif earlier := _earlier(input_dict.get("earlier_captions", []), generation):
            LOG.info("captions of the baseline are those of its own run")
            copy_file(earlier.uri, CAPTIONS_FILE, output.uri)
            _finish(output, read_generation(earlier.uri), baseline)
        else:
            try:
                _caption(baseline, output, files, generation, batch_size)
            except UnusableModelError as error:
                # A baseline that is gone does not stop a new model from being evaluated.
                LOG.warning("no captions of the baseline: %s", error)
                _finish(output, _by(generation, baseline, failure=str(error)), baseline)


def _baseline(models: Sequence[Artifact], candidate: Artifact) -> Artifact | None:
    """The model to compare with; a candidate is no baseline of its own."""
    for model in models:
        nothing_pushed = model.has_custom_property(
            PUSHED_VERSION
        ) and not model.get_custom_property(PUSHED_VERSION)
        if model.uri != candidate.uri and not nothing_pushed:
            return model
    return None


def _earlier(captions: Sequence[Artifact], generation: Generation) -> Artifact | None:
    """Captions of the baseline that were generated for the same images and references."""
    for artifact in captions:
        known = read_generation(artifact.uri)
        same = (known.split, known.split_fingerprint)
        if known.has_captions and same == (generation.split, generation.split_fingerprint):
            return artifact
    return None


def _caption(
    model: Artifact,
    output: Artifact,
    files: Sequence[str],
    generation: Generation,
    batch_size: int,
) -> None:
    """Captions all images of the files and writes them down."""
    captioner = SavedCaptioner(path_utils.serving_model_path(model.uri))
    captions: dict[str, str] = {}
    refused = []
    progress = ProgressLog(LOG, "captions", "images")
    records = raw_records(files).map(lambda record: (record["image/id"], record["image/encoded"]))
    for ids, encoded in records.batch(batch_size).prefetch(2):
        names = [image_id.decode() for image_id in ids.numpy()]
        answers = captioner.captions(list(encoded.numpy()))
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, RefusedImage):
                LOG.warning("%s is refused by the model: %s", name, answer.message)
                refused.append(name)
                captions[name] = ""
            else:
                captions[name] = answer[0]
        progress.add(len(names))
    progress.done()
    write_captions(output.uri, captions)
    _finish(output, _by(generation, model, refused=tuple(refused)), model)


def _by(generation: Generation, model: Artifact, **changes: Any) -> Generation:
    return Generation(
        generation.split, generation.split_fingerprint, model_uri=model.uri, **changes
    )


def _finish(output: Artifact, generation: Generation, model: Artifact | None) -> None:
    """Writes what there is to say beside the captions."""
    write_generation(output.uri, generation)
    output.set_string_custom_property(SPLIT_FINGERPRINT, generation.split_fingerprint)
    if model is not None:
        output.set_int_custom_property(MODEL_ID, model.id)
