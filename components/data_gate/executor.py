"""Work of the DataGate."""

from __future__ import annotations

import json
import logging
from pathlib import PurePosixPath
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.dsl.io import fileio
from tfx.types import Artifact, artifact_utils
from tfx.utils import io_utils

from tfx_captioner.components.artifacts import STATISTICS_ID

LOG = logging.getLogger("captioner.data_gate")
REPORT = "approval.json"
DRIFT_SPLIT = "train"


class DataAnomalyError(ValueError):
    """The data does not fit the schema, or drifted; the message lists every anomaly."""


class Executor(BaseExecutor):
    """Raises on any anomaly, else writes `approval.json`."""

    def Do(
        self,
        input_dict: dict[str, list[Artifact]],
        output_dict: dict[str, list[Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Checks all splits.

        Args:
          input_dict: `anomalies`, `statistics`, `schema`, and, where there are some,
            `previous_statistics`.
          output_dict: `approval`.
          exec_properties: `drift` (JSON: feature to the largest distance).

        Raises:
          DataAnomalyError: Anomalies were found; lists feature, split and what is wrong.
        """
        drift = json.loads(exec_properties["drift"])
        anomalies = artifact_utils.get_single_instance(input_dict["anomalies"])
        splits = artifact_utils.decode_split_names(anomalies.split_names)
        found = [
            line
            for split in splits
            for line in _lines(_read_anomalies(anomalies, split), f"split {split}")
        ]
        compared = bool(drift and input_dict.get("previous_statistics"))
        if compared:
            found += self._drift(input_dict, drift)
        if found:
            listing = "\n".join(f"  - {line}" for line in found)
            raise DataAnomalyError(
                f"The data was not approved; nothing was trained. {len(found)} anomalies:\n"
                f"{listing}\n"
                "Mend the data, or, where it is right, schema/schema.pbtxt or data_gate.drift."
            )
        report = {"splits": splits, "anomalies": 0, "compared_with_previous": compared}
        approval = artifact_utils.get_single_instance(output_dict["approval"])
        statistics = artifact_utils.get_single_instance(input_dict["statistics"])
        approval.set_int_custom_property(STATISTICS_ID, statistics.id)
        io_utils.write_string_file(
            str(PurePosixPath(approval.uri) / REPORT), json.dumps(report, indent=1)
        )
        LOG.info("data approved: no anomalies in %s", ", ".join(splits))

    def _drift(self, input_dict: dict[str, list[Artifact]], drift: dict[str, float]) -> list[str]:
        """Anomalies of this run's train split against that approved before."""
        schema_uri = artifact_utils.get_single_uri(input_dict["schema"])
        schema = io_utils.SchemaReader().read(io_utils.get_only_uri_in_dir(schema_uri))
        current, previous = (
            stats_artifact_utils.load_statistics(
                artifact_utils.get_single_instance(input_dict[key]), DRIFT_SPLIT
            ).proto()
            for key in ("statistics", "previous_statistics")
        )
        anomalies = tfdv.validate_statistics(
            current, with_drift_limits(schema, drift), previous_statistics=previous
        )
        return _lines(anomalies, f"split {DRIFT_SPLIT}, against the data approved before")


def with_drift_limits(schema: schema_pb2.Schema, drift: dict[str, float]) -> schema_pb2.Schema:
    """A copy of the schema that also limits drift.

    Args:
      schema: Schema with typed features.
      drift: Feature name to the largest distance: L-infinity for bytes features,
        Jensen-Shannon divergence for numbers.

    Raises:
      ValueError: A feature is not in the schema.
    """
    limited = schema_pb2.Schema()
    limited.CopyFrom(schema)
    features = {feature.name: feature for feature in limited.feature}
    for name, threshold in drift.items():
        if name not in features:
            raise ValueError(
                f"`data_gate.drift` must name features of the schema: {', '.join(features)}. "
                f"Received: {name!r}."
            )
        comparator = features[name].drift_comparator
        if features[name].type == schema_pb2.BYTES:
            comparator.infinity_norm.threshold = threshold
        else:
            comparator.jensen_shannon_divergence.threshold = threshold
    return limited


def _read_anomalies(artifact: Artifact, split: str) -> anomalies_pb2.Anomalies:
    path = PurePosixPath(artifact_utils.get_split_uri([artifact], split)) / DEFAULT_FILE_NAME
    anomalies = anomalies_pb2.Anomalies()
    with fileio.open(str(path), "rb") as file:
        anomalies.ParseFromString(file.read())
    return anomalies


def _lines(anomalies: anomalies_pb2.Anomalies, where: str) -> list[str]:
    """One line per anomaly: where, feature, what."""
    lines = [
        f"{where}, feature {name}: {info.description}"
        for name, info in sorted(anomalies.anomaly_info.items())
    ]
    if anomalies.HasField("dataset_anomaly_info"):
        lines.append(f"{where}, whole data set: {anomalies.dataset_anomaly_info.description}")
    return lines
