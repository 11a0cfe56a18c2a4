"""Work of the ModelSelector."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from tfx.components.util import model_utils
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import Artifact, artifact_utils
from tfx.utils import io_utils

from tfx_captioner.components.caption_evaluator.blessing import write_blessing
from tfx_captioner.components.caption_evaluator.summary import EvaluationSummary, read_summary
from tfx_captioner.components.caption_files import write_json
from tfx_captioner.components.dynamic_inputs import artifact_of
from tfx_captioner.components.model_selector.selection import (
    SELECTION_FILE,
    Candidate,
    select,
)
from tfx_captioner.components.scores import OVERALL

LOG = logging.getLogger("captioner.model_selector")

ArtifactDict = dict[str, list[Artifact]]


class Executor(BaseExecutor):
    """Copies the chosen model and passes its verdict on."""

    def Do(
        self,
        input_dict: ArtifactDict,
        output_dict: ArtifactDict,
        exec_properties: dict[str, Any],
    ) -> None:
        """Chooses.

        Args:
          input_dict: `model_<name>`, `evaluation_<name>` and `blessing_<name>` of each candidate.
          output_dict: `model` and `blessing`.
          exec_properties: `candidates` (names with commas between), `metric`.

        Raises:
          ValueError: The candidates were scored on different images or references, or the metric
            was not computed for one of them.
        """
        metric = exec_properties["metric"]
        names = exec_properties["candidates"].split(",")
        summaries = {
            name: read_summary(artifact_of(input_dict, "evaluation", name).uri) for name in names
        }
        _check_comparable(summaries)
        candidates = [
            Candidate(
                name,
                model_utils.is_model_blessed(artifact_of(input_dict, "blessing", name)),
                _score(summary, metric),
            )
            for name, summary in summaries.items()
        ]
        selection = select(candidates, metric)
        chosen = selection.chosen
        source = artifact_of(input_dict, "model", chosen.name)
        io_utils.copy_dir(source.uri, artifact_utils.get_single_uri(output_dict["model"]))
        blessing = artifact_utils.get_single_instance(output_dict["blessing"])
        write_blessing(
            blessing,
            blessed=chosen.blessed,
            model=source,
            baseline=None,
            component_id=exec_properties.get("current_component_id"),
            split_fingerprint=summaries[chosen.name].split_fingerprint,
        )
        report = {
            "metric": metric,
            "candidates": [dataclasses.asdict(candidate) for candidate in candidates],
            "champion": chosen.name,
            "blessed": chosen.blessed,
            "reason": selection.reason,
        }
        write_json(blessing.uri, SELECTION_FILE, report)
        LOG.info(selection.reason)


def _score(summary: EvaluationSummary, metric: str) -> float | None:
    scores = summary.scores[OVERALL]
    if metric not in scores:
        raise ValueError(
            f"`metric` must be one of those computed for {summary.model_name}: "
            f"{', '.join(scores)}. Received: {metric!r}."
        )
    return scores[metric]


def _check_comparable(summaries: dict[str, EvaluationSummary]) -> None:
    scored_on = {
        name: f"{summary.split_fingerprint} in {summary.segmentation}"
        for name, summary in summaries.items()
    }
    if len(set(scored_on.values())) > 1:
        raise ValueError(
            "The candidates were scored on different images, references or words and cannot be "
            f"compared. Fingerprints of their splits: {scored_on}."
        )
