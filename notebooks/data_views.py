"""Tables and charts of `data.ipynb`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import tensorflow_data_validation as tfdv
from IPython.display import HTML
from page import chart, series
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from tfx_captioner.components.data_gate.executor import with_drift_limits

_STATISTICS, _ANOMALIES = "FeatureStats.pb", "SchemaDiff.pb"

Statistics = statistics_pb2.DatasetFeatureStatisticsList


def load_statistics(root: Path) -> dict[str, Statistics]:
    """The newest statistics of a run root, by split."""
    return {
        split: tfdv.load_stats_binary(str(folder / _STATISTICS))
        for split, folder in _splits(root, "StatisticsGen/statistics").items()
    }


def load_schema(root: Path) -> schema_pb2.Schema:
    """The schema that the newest run was held to."""
    paths = root.glob("artifacts/ImportSchemaGen/schema/*/schema.pbtxt")
    return tfdv.load_schema_text(str(max(paths, key=lambda path: int(path.parent.name))))


def load_anomalies(root: Path) -> dict[str, anomalies_pb2.Anomalies]:
    """What ExampleValidator found in the newest run, by split."""
    return {
        split: anomalies_pb2.Anomalies.FromString((folder / _ANOMALIES).read_bytes())
        for split, folder in _splits(root, "ExampleValidator/anomalies").items()
    }


def _splits(root: Path, artifact: str) -> dict[str, Path]:
    folders = list(root.glob(f"artifacts/{artifact}/*/Split-*"))
    newest = max(int(folder.parent.name) for folder in folders)
    found = {
        folder.name.removeprefix("Split-"): folder
        for folder in folders
        if folder.parent.name == str(newest)
    }
    return {split: found[split] for split in ("train", "val", "test") if split in found}


def feature_table(statistics: Mapping[str, Statistics]) -> pd.DataFrame:
    """What is known of every feature, a row per feature and data set."""
    rows = []
    for name, stats in statistics.items():
        dataset = stats.datasets[0]
        for feature in dataset.features:
            kind = feature.WhichOneof("stats")
            values = getattr(feature, kind)
            common = values.common_stats
            row: dict[str, Any] = {
                "feature": feature.path.step[0],
                "data": name,
                "examples": dataset.num_examples,
                "missing": dataset.num_examples - common.num_non_missing,
                "values per example": f"{common.min_num_values} to {common.max_num_values}",
            }
            if kind == "num_stats":
                bounds = {"min": values.min, "median": values.median, "max": values.max}
                row |= {heading: f"{bound:g}" for heading, bound in bounds.items()}
            elif kind == "string_stats":
                row |= {"different": str(values.unique), "mean length": f"{values.avg_length:.1f}"}
            else:
                # Of encoded images TFDV counts no different values, and says 0.
                row |= {"mean length": f"{values.avg_num_bytes:.1f}"}
            rows.append(row)
    table = pd.DataFrame(rows).sort_values("feature", kind="stable").set_index(["feature", "data"])
    return table.fillna("")


def histograms(statistics: Mapping[str, Statistics]) -> HTML:
    """Shares of the examples by value, of every numeric feature."""
    rows = []
    for name, stats in statistics.items():
        for feature in stats.datasets[0].features:
            if not feature.HasField("num_stats"):
                continue
            for bucket in feature.num_stats.histograms[0].buckets:
                rows.append(
                    {
                        "feature": feature.path.step[0],
                        "data": name,
                        "value": (bucket.low_value + bucket.high_value) / 2,
                        "share": bucket.sample_count / stats.datasets[0].num_examples,
                    }
                )
    return chart(
        {
            "data": {"values": rows},
            "facet": {"field": "feature", "type": "nominal", "title": None},
            "columns": 2,
            "spec": {
                "width": 260,
                "height": 150,
                "mark": {"type": "line", "point": True},
                "encoding": {
                    "x": {
                        "field": "value",
                        "type": "quantitative",
                        "axis": {"tickCount": 5},
                        "scale": {"zero": False},
                    },
                    "y": {
                        "field": "share",
                        "type": "quantitative",
                        "title": "share of images",
                        "axis": {"format": "%"},
                    },
                    "color": series("data", list(statistics)),
                },
            },
            "resolve": {"scale": {"x": "independent"}},
        }
    )


def top_values(statistics: Mapping[str, Statistics], feature: str, count: int = 10) -> HTML:
    """The most frequent values of a text feature and how often they come."""
    rows = [
        {"data": name, "value": top.value, "frequency": top.frequency}
        for name, stats in statistics.items()
        for found in stats.datasets[0].features
        if found.path.step[0] == feature
        for top in found.string_stats.top_values[:count]
    ]
    return chart(
        {
            "data": {"values": rows},
            "facet": {"field": "data", "type": "nominal", "title": None, "sort": list(statistics)},
            "columns": 1,
            # Letters of a page may be a fifth wider than Vega's: captions would lose their start.
            "padding": {"left": 80, "top": 5, "right": 5, "bottom": 5},
            "spec": {
                "width": 300,
                "height": {"step": 15},
                "mark": "bar",
                "encoding": {
                    "y": {
                        "field": "value",
                        "type": "nominal",
                        "sort": "-x",
                        "title": None,
                        "axis": {"labelLimit": 360},
                    },
                    "x": {
                        "field": "frequency",
                        "type": "quantitative",
                        "axis": {"tickMinStep": 1},
                    },
                    "color": {"value": "var(--model)"},
                },
            },
            "resolve": {"scale": {"y": "independent"}},
        }
    )


def drift(
    schema: schema_pb2.Schema, statistics: Statistics, earlier: Statistics, limits: dict[str, float]
) -> tuple[pd.DataFrame, anomalies_pb2.Anomalies]:
    """How far two data sets are apart, as the DataGate measures it.

    Args:
      schema: Schema of both.
      statistics: Of the data set to judge.
      earlier: Of the one to judge it by.
      limits: Feature to the largest distance that is no anomaly.

    Returns:
      A row per feature with its distance and limit; and TFDV's anomalies.
    """
    anomalies = tfdv.validate_statistics(
        statistics, with_drift_limits(schema, limits), previous_statistics=earlier
    )
    rows = []
    for info in anomalies.drift_skew_info:
        for measured in info.drift_measurements:
            kind = type(measured).Type.Name(measured.type).lower().replace("_", " ")
            rows.append(
                {
                    "feature": info.path.step[0],
                    "distance": measured.value,
                    "limit": measured.threshold,
                    "measure": kind,
                    "drifted": measured.value > measured.threshold,
                }
            )
    return pd.DataFrame(rows).set_index("feature"), anomalies
