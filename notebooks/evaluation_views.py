"""Tables and charts of `evaluation.ipynb`."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd
import tensorflow_model_analysis as tfma
from IPython.display import HTML
from page import chart, series

from tfx_captioner.components.caption_evaluator.evaluation import slice_name
from tfx_captioner.components.caption_evaluator.summary import read_summary
from tfx_captioner.components.caption_evaluator.tfma_metrics import CANDIDATE
from tfx_captioner.components.caption_files import read_captions, read_references
from tfx_captioner.components.evaluation_report.gallery import thumbnail
from tfx_captioner.components.examples import encoded_images
from tfx_captioner.components.scores import OVERALL
from tfx_captioner.components.statistics_files import read_statistics
from tfx_captioner.pipeline.evaluations import history


def load_result(folder: Path) -> tfma.EvalResult:
    """TFMA's result of the candidate; the baseline's captions were scored beside them, or not."""
    with_baseline = bool(read_summary(str(folder)).baseline_scores)
    name = CANDIDATE if with_baseline else None
    return tfma.load_eval_result(str(folder), model_name=name)


def load_scores(root: Path) -> pd.DataFrame:
    """Every score of every evaluation of a run root.

    Returns:
      One row per model, evaluation (1 is the earliest), slice and metric, with the `score` and when
      it was `made`.
    """
    rows = []
    for model, folders in history(root).items():
        for number, folder in enumerate(folders, 1):
            made = datetime.fromtimestamp((folder / "verdict.json").stat().st_mtime)
            slices = load_result(folder).get_metrics_for_all_slices()
            for key, metrics in slices.items():
                for metric, value in metrics.items():
                    rows.append(
                        {
                            "model": model,
                            "evaluation": number,
                            "made": made,
                            "slice": slice_name(key),
                            "metric": metric,
                            "score": value.get("doubleValue"),
                        }
                    )
    return pd.DataFrame(rows)


def over_time(scores: pd.DataFrame, metric: str, slices: Sequence[str] = (OVERALL,)) -> HTML:
    """A metric from evaluation to evaluation, a panel per slice, a line per model."""
    wanted = scores[(scores.metric == metric) & scores["slice"].isin(slices)]
    models = sorted(wanted.model.unique())
    panel = {
        "width": 210,
        "height": 130,
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": {"field": "evaluation", "type": "ordinal", "axis": {"labelAngle": 0}},
            "y": {
                "field": "score",
                "type": "quantitative",
                "title": metric,
                "axis": {"titlePadding": 14, "tickCount": 5},
                "scale": {"zero": False},
            },
            "color": series("model", models),
        },
    }
    return chart(
        {
            "data": {"values": wanted.drop(columns="made").to_dict("records")},
            "facet": {"field": "slice", "type": "nominal", "title": None, "sort": list(slices)},
            "columns": 3,
            "spec": panel,
        }
    )


def by_slice(folders: Mapping[str, Path], metric: str) -> HTML:
    """A metric in every slice that is not the whole, models side by side, with intervals.

    Args:
      folders: An evaluation of each model.
      metric: `cider_d_train_idf` compares from slice to slice, `cider_d` does not.
    """
    rows = []
    for model, folder in folders.items():
        summary = read_summary(str(folder))
        for name, values in summary.scores.items():
            if name != OVERALL and summary.slice_sizes[name] == summary.image_count:
                continue  # the whole split once more
            interval = summary.interval(metric, name)
            size = summary.slice_sizes[name]
            rows.append(
                {
                    "model": model,
                    "slice": f"{name} ({size})",
                    "score": values.get(metric),
                    "lower": interval.lower if interval else None,
                    "upper": interval.upper if interval else None,
                }
            )
    names = list(dict.fromkeys(row["slice"] for row in rows))
    place = {
        "y": {
            "field": "slice",
            "type": "nominal",
            "sort": names,
            "title": None,
            "axis": {"labelLimit": 300, "grid": True},
        },
        "yOffset": {"field": "model", "sort": list(folders)},
        "color": series("model", list(folders)),
    }
    scale = {
        "type": "quantitative",
        "title": metric,
        "scale": {"zero": False},
        "axis": {"tickCount": 6},
    }
    return chart(
        {
            "width": 380,
            "height": {"step": 11},
            "data": {"values": rows},
            "layer": [
                {
                    "mark": {"type": "rule", "strokeWidth": 1.5},
                    "encoding": {
                        **place,
                        "x": {"field": "lower", **scale},
                        "x2": {"field": "upper"},
                    },
                },
                {
                    "mark": {"type": "point", "filled": True, "size": 45},
                    "encoding": {**place, "x": {"field": "score", **scale}},
                },
            ],
        }
    )


def captioned_images(folders: Mapping[str, Path]) -> pd.DataFrame:
    """Every scored image: its slices, references, and each model's caption with its own CIDEr-D.

    Args:
      folders: An evaluation of each model, on the same images.
    """
    frame = pd.DataFrame()
    for model, folder in folders.items():
        statistics = read_statistics(str(folder))
        captions = read_captions(str(folder))
        if frame.empty:
            references = read_references(str(folder))
            frame = pd.DataFrame(
                {name: list(values) for name, values in statistics.slices.items()}
                | {"references": [references[image_id] for image_id in statistics.ids]},
                index=pd.Index(statistics.ids, name="image_id"),
            )
        frame[model] = [captions[image_id] for image_id in statistics.ids]
        frame[f"{model} CIDEr-D"] = statistics.cider_d
    return frame


def show_images(root: Path, images: pd.DataFrame, models: Sequence[str], split: str) -> HTML:
    """Pictures with captions and references.

    Args:
      root: Run root, for the pixels.
      images: Rows of `captioned_images`.
      models: Whose captions to show.
      split: Split the images are in.
    """
    made = root.glob(f"artifacts/ImportExampleGen/examples/*/Split-{split}")
    newest = max(made, key=lambda folder: int(folder.parent.name))
    files = [str(path) for path in sorted(newest.glob("*.gz"))]
    pictures = dict(encoded_images(files, images.index))
    cards = []
    for image_id, row in images.iterrows():
        source, _ = thumbnail(pictures[str(image_id)])
        captions = "".join(
            f"<div><b>{html.escape(row[model]) or '(no caption)'}</b><br>"
            f"<small>{html.escape(model)}, "
            f"CIDEr-D {100 * row[f'{model} CIDEr-D']:.0f}</small></div>"
            for model in models
        )
        references = "".join(f"<li>{html.escape(text)}</li>" for text in row.references)
        cards.append(
            f'<div style="width:15rem"><img src="{source}" style="width:100%" alt="">{captions}'
            f'<ul style="margin:.3rem 0;padding-left:1.1rem;font-size:85%">{references}</ul>'
            f"<small>{html.escape(str(image_id))}</small></div>"
        )
    return HTML(f'<div style="display:flex;flex-wrap:wrap;gap:1.2rem">{"".join(cards)}</div>')
