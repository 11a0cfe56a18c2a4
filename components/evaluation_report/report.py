"""`report.html`: one self-contained file per evaluation, for people.

Styles, charts and thumbnails are inside; there is no script and nothing is fetched.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from tfx.dsl.io import fileio
from tfx.utils import io_utils

from tfx_captioner.components.caption_evaluator.summary import EvaluationSummary
from tfx_captioner.components.evaluation_report import charts, gallery
from tfx_captioner.components.evaluation_report.gallery import Picture
from tfx_captioner.components.evaluation_report.tables import (
    Cell,
    baseline_columns,
    context_columns,
    context_lines,
    description_table,
    model_column,
    points,
    ranking_table,
    span,
    title,
)
from tfx_captioner.components.scores import OVERALL

REPORT_FILE = "report.html"
HISTORY_FILE = "history.json"

# What a slice is shown by; a phone has room for few columns.
_SLICE_METRICS = ("bleu_1", "bleu_4", "rouge_l", "meteor", "cider_d_train_idf")
# What a slice of the lines to compare with is scored in, the better one first.
_CONTEXT_METRICS = ("cider_d_train_idf", "rouge_l")
GROUPS = {
    gallery.RANDOM: "Images by chance",
    gallery.WORST: "Worst captions",
    gallery.BEST: "Best captions",
}


@dataclass(frozen=True)
class Chart:
    """A chart as SVG, and what it shows."""

    title: str
    svg: str


@dataclass(frozen=True)
class TrainingHistory:
    """Learning curves of the trainer: an entry per epoch, and the epoch that was kept."""

    history: Sequence[Mapping[str, float]]
    best_epoch: int


def read_history(folders: Iterable[str]) -> TrainingHistory | None:
    """Learning curves that `models.trainer` left in a ModelRun, or a report copied from there.

    Args:
      folders: Folders of ModelRun artifacts, or of reports; may be none.

    Returns:
      The first that is found, or None.
    """
    for folder in folders:
        path = os.path.join(folder, HISTORY_FILE)
        if fileio.exists(path):
            content = json.loads(io_utils.read_string_file(path))
            return TrainingHistory(content["history"], content["best_epoch"])
    return None


def write_history(uri: str, training: TrainingHistory) -> None:
    """Writes learning curves beside a report, for pages that compare."""
    io_utils.write_string_file(
        os.path.join(uri, HISTORY_FILE), json.dumps(dataclasses.asdict(training))
    )


def render_report(
    summary: EvaluationSummary,
    captions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    pictures: Sequence[Picture],
    training: TrainingHistory | None,
) -> str:
    """The report of one evaluation.

    Args:
      summary: What was found.
      captions: Image id to the model's caption.
      references: Image id to reference captions.
      pictures: Images to show.
      training: Learning curves, where the trainer left any.
    """
    columns = [
        model_column(summary, summary.model_name),
        *baseline_columns(summary),
        *context_columns([(summary.model_name, summary)]),
    ]
    return render(
        "report.html.j2",
        summary=summary,
        warnings=warnings(summary),
        scores=ranking_table(columns),
        description=description_table(columns),
        slices=slice_table([(summary.model_name, summary)], _SLICE_METRICS),
        charts=_charts(captions, references, training),
        galleries=[
            (heading, [picture for picture in pictures if picture.group == group])
            for group, heading in GROUPS.items()
            if any(picture.group == group for picture in pictures)
        ],
    )


def render(template: str, **values: Any) -> str:
    """Fills a template of this package.

    Args:
      template: File name.
      **values: What the template names.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tfx_captioner.components.evaluation_report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(title=title, **values)


def warnings(summary: EvaluationSummary) -> list[str]:
    """What a reader of the scores must know."""
    found = [summary.warning] if summary.warning else []
    if summary.undecodable:
        found.append(f"Not scored, since they could not be decoded: {_some(summary.undecodable)}.")
    if summary.empty:
        found.append(
            f"Scored as an empty caption, since the model gave none: {_some(summary.empty)}."
        )
    if summary.refused:
        found.append(f"The model failed on these of them: {_some(summary.refused)}.")
    return found


def _some(names: Iterable[str], limit: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{', '.join(names[:limit])}{more}"


def slice_table(
    labelled: Sequence[tuple[str, EvaluationSummary]], metrics: Sequence[str]
) -> dict[str, Any]:
    """Slices in rows; in columns metrics of one or more models on the same images.

    Beside the values stand, in one metric, the lines to compare with. One model's values have
    bars, and before those lines the difference to the baseline.

    Args:
      labelled: What to call each model, and what its evaluation found.
      metrics: What to show of each.
    """
    alone = len(labelled) == 1
    summary = labelled[0][1]
    metrics = [name for name in metrics if name in summary.scores[OVERALL]]
    columns = [
        (title(metric) if alone else f"{label}, {title(metric)}", metric, each)
        for metric in metrics
        for label, each in labelled
    ]
    beside = next((name for name in _CONTEXT_METRICS if name in summary.scores[OVERALL]), None)
    lines = context_lines(labelled)
    differing = alone and bool(summary.differences)
    rows = []
    for name in summary.scores:
        size = summary.slice_sizes.get(name, 0)
        # A slice that holds every image says nothing of its own.
        if name != OVERALL and size == summary.image_count:
            continue
        cells = [_slice_cell(each, metric, name, bar=alone) for _, metric, each in columns]
        if beside:
            if differing:
                cells.append(_difference_cell(summary, beside, name))
            cells += [Cell(points(of.get(name, {}).get(beside))) for _, of in lines]
        rows.append({"title": name.replace("_", " "), "images": f"{size:,}", "cells": cells})
    headings = [heading for heading, *_ in columns]
    if beside:
        read_against = [*(["difference"] if differing else []), *(line for line, _ in lines)]
        headings += [f"{title(beside)}: {line}" for line in read_against]
    return {"headings": headings, "rows": rows}


def _slice_cell(summary: EvaluationSummary, metric: str, name: str, *, bar: bool) -> Cell:
    value = summary.scores.get(name, {}).get(metric)
    largest = max((values.get(metric) or 0.0 for values in summary.scores.values()), default=0.0)
    return Cell(
        points(value),
        span(summary.interval(metric, name)),
        bar=_bar(value, largest) if bar else None,
    )


def _difference_cell(summary: EvaluationSummary, metric: str, name: str) -> Cell:
    difference = summary.difference(metric, name)
    value = difference.value if difference else None
    return Cell(points(value, "+"), span(difference, "+"))


def _bar(value: float | None, largest: float) -> float | None:
    return None if value is None or largest <= 0 else round(100 * max(value, 0.0) / largest, 1)


def learning_charts(label: str, training: TrainingHistory | None) -> list[Chart]:
    """Learning curves; none where the trainer left none.

    Args:
      label: Name of the model, where there is more than one; else empty.
      training: The curves.
    """
    if training is None or not training.history:
        return []
    curves = charts.learning_curves(training.history, training.best_epoch)
    return [Chart(_labelled("Learning curves", label), curves)]


def length_chart(captions: Mapping[str, Iterable[str]], people: Iterable[str]) -> Chart:
    """How long captions are.

    Args:
      captions: Label of each model to its captions.
      people: Reference captions.
    """
    lengths = {
        label: [len(charts.words_of(text)) for text in texts]
        for label, texts in {**captions, "people": people}.items()
    }
    return Chart("Caption length", charts.caption_lengths(lengths))


def word_chart(label: str, captions: Iterable[str], people: Iterable[str]) -> Chart:
    """What a model says too often and too rarely."""
    use = charts.word_use(captions, people)
    return Chart(_labelled("Words used too often or too rarely", label), use)


def _labelled(heading: str, label: str) -> str:
    return f"{heading}: {label}" if label else heading


def _charts(
    captions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    training: TrainingHistory | None,
) -> list[Chart]:
    people = [text for texts in references.values() for text in texts]
    return [
        *learning_charts("", training),
        length_chart({"model": captions.values()}, people),
        word_chart("", captions.values(), people),
    ]
