"""Executor of the EvaluationReport."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils, standard_artifacts
from tfx.utils import io_utils, path_utils

from tfx_captioner.components.caption_evaluator.summary import read_summary
from tfx_captioner.components.caption_files import (
    BASELINE_CAPTIONS_FILE,
    read_captions,
    read_json,
    read_references,
    write_json,
)
from tfx_captioner.components.dynamic_inputs import artifact_of
from tfx_captioner.components.evaluation_report.comparison import (
    COMPARISON_FILE,
    Evaluation,
    compare,
)
from tfx_captioner.components.evaluation_report.gallery import (
    Picture,
    choose,
    make_gallery,
    write_gallery,
)
from tfx_captioner.components.evaluation_report.report import (
    REPORT_FILE,
    read_history,
    render_report,
    write_history,
)
from tfx_captioner.components.examples import split_files
from tfx_captioner.components.model_selector.selection import SELECTION_FILE
from tfx_captioner.components.statistics_files import read_statistics
from tfx_captioner.serving.saved_model import SavedCaptioner

LOG = logging.getLogger("captioner.evaluation_report")
# Artifacts of each model.
ROLES = {
    "evaluation": standard_artifacts.ModelEvaluation,
    "model": standard_artifacts.Model,
    "model_run": standard_artifacts.ModelRun,
}
# Which evaluation a report is of.
SOURCE_FILE = "evaluation.json"

ArtifactDict = dict[str, list[Artifact]]


class Executor(BaseExecutor):
    """Draws pages."""

    def Do(
        self,
        input_dict: ArtifactDict,
        output_dict: ArtifactDict,
        exec_properties: dict[str, Any],
    ) -> None:
        """Draws the page of each model, and that of all of them.

        Args:
          input_dict: `examples`, `evaluation_<model>`, `model_<model>` and `model_run_<model>` for
            each of `models`, and, where there is one, `selection`.
          output_dict: `pages`.
          exec_properties: `models` (names with commas between), `gallery_size`, `seed`.
        """
        uri = artifact_utils.get_single_uri(output_dict["pages"])
        evaluations = []
        for name in exec_properties["models"].split(","):
            folder = os.path.join(uri, name)
            fileio.makedirs(folder)
            evaluation = _evaluation(name, input_dict, exec_properties)
            _write_report(folder, evaluation)
            evaluations.append(evaluation)
        headline = ""
        for selection in input_dict.get("selection", []):
            headline = read_json(selection.uri, SELECTION_FILE)["reason"]
        page = compare(evaluations, headline).html
        io_utils.write_string_file(os.path.join(uri, COMPARISON_FILE), page)
        LOG.info("pages of %d models", len(evaluations))


def _evaluation(
    name: str, input_dict: ArtifactDict, exec_properties: Mapping[str, Any]
) -> Evaluation:
    """An evaluation with the pictures and curves of its report."""
    uri = artifact_of(input_dict, "evaluation", name).uri
    summary = read_summary(uri)
    captions = read_captions(uri)
    captioner = SavedCaptioner(
        path_utils.serving_model_path(artifact_of(input_dict, "model", name).uri)
    )
    return Evaluation(
        uri,
        name,
        summary,
        captions,
        _pictures(uri, summary.split, captions, captioner, input_dict, exec_properties),
        read_history([artifact_of(input_dict, "model_run", name).uri]),
    )


def _pictures(
    uri: str,
    split: str,
    captions: Mapping[str, str],
    captioner: SavedCaptioner,
    input_dict: ArtifactDict,
    exec_properties: Mapping[str, Any],
) -> list[Picture]:
    statistics = read_statistics(uri)
    scores = dict(zip(statistics.ids, statistics.cider_d.tolist(), strict=True))
    has_baseline = fileio.exists(os.path.join(uri, BASELINE_CAPTIONS_FILE))
    return make_gallery(
        split_files(input_dict["examples"], split),
        choose(scores, exec_properties["gallery_size"], exec_properties["seed"]),
        read_references(uri),
        captions,
        read_captions(uri, BASELINE_CAPTIONS_FILE) if has_baseline else None,
        captioner if captioner.has("attention") else None,
    )


def _write_report(folder: str, evaluation: Evaluation) -> None:
    references = read_references(evaluation.uri)
    page = render_report(
        evaluation.summary,
        evaluation.captions,
        references,
        evaluation.pictures,
        evaluation.training,
    )
    io_utils.write_string_file(os.path.join(folder, REPORT_FILE), page)
    write_gallery(folder, evaluation.pictures)
    if evaluation.training is not None:
        write_history(folder, evaluation.training)
    write_json(folder, SOURCE_FILE, {"evaluation": evaluation.uri})
