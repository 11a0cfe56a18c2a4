"""`report.html`: one self-contained file per evaluation, for people.

Styles, charts and thumbnails are inside; there is no script and nothing is fetched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from tfx.dsl.io import fileio
from tfx.types import Artifact
from tfx.utils import io_utils

from components.caption_evaluator import charts, context, gallery
from components.caption_evaluator.blessing import Interval
from components.caption_evaluator.config import RANKING_METRICS
from components.caption_evaluator.gallery import Picture
from components.caption_evaluator.summary import OVERALL, EvaluationSummary, MetricValues

REPORT_FILE = "report.html"
HISTORY_FILE = "history.json"

_TITLES = {
    **{f"bleu_{order}": f"BLEU-{order}" for order in range(1, 5)},
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider_d": "CIDEr-D",
    "cider_d_train_idf": "CIDEr-D, train idf",
}
# What a slice is shown by; a phone has room for few columns.
_SLICE_METRICS = ("bleu_1", "bleu_4", "rouge_l", "meteor", "cider_d_train_idf")
_GROUPS = {
    gallery.RANDOM: "Images by chance",
    gallery.WORST: "Worst captions",
    gallery.BEST: "Best captions",
}
MISSING = "-"


@dataclass(frozen=True)
class Cell:
    """A value as it is shown, with its interval, or a bar of a share of the width in percent."""

    text: str
    interval: str | None = None
    main: bool = False
    bar: float | None = None


@dataclass(frozen=True)
class TrainingHistory:
    """Learning curves of the trainer: an entry per epoch, and the epoch that was kept."""

    history: Sequence[Mapping[str, float]]
    best_epoch: int


def read_history(model_runs: Sequence[Artifact]) -> TrainingHistory | None:
    """Learning curves that `models.trainer` left in a ModelRun; None where there are none.

    Args:
      model_runs: The trainer's ModelRun; empty where it is not connected.
    """
    for model_run in model_runs:
        path = os.path.join(model_run.uri, HISTORY_FILE)
        if fileio.exists(path):
            content = json.loads(io_utils.read_string_file(path))
            return TrainingHistory(content["history"], content["best_epoch"])
    return None


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
    return render(
        "report.html.j2",
        summary=summary,
        warnings=warnings(summary),
        scores=_scores(summary),
        description=_description(summary),
        slices=_slices(summary),
        charts=_charts(captions, references, training),
        galleries=[
            (heading, [picture for picture in pictures if picture.group == group])
            for group, heading in _GROUPS.items()
            if any(picture.group == group for picture in pictures)
        ],
    )


def write_report(uri: str, name: str, html: str) -> None:
    """Writes a report into the folder of an artifact."""
    io_utils.write_string_file(os.path.join(uri, name), html)


def render(template: str, **values: Any) -> str:
    """Fills a template of this package.

    Args:
      template: File name.
      **values: What the template names.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("components.caption_evaluator"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(title=title, **values)


def title(metric: str) -> str:
    """A metric's name as papers print it."""
    return _TITLES.get(metric, metric.replace("_", " "))


def points(value: float | None) -> str:
    """A score x 100, as papers print it."""
    return MISSING if value is None else f"{100 * value:.1f}"


def span(interval: Interval | None, sign: str = "") -> str | None:
    """The bounds of an interval x 100; None where there are none."""
    if interval is None or interval.lower is None or interval.upper is None:
        return None
    return f"[{100 * interval.lower:{sign}.1f}, {100 * interval.upper:{sign}.1f}]"


def warnings(summary: EvaluationSummary) -> list[str]:
    """What a reader of the scores must know."""
    found = []
    if summary.undecodable:
        found.append(f"Not scored, since they could not be decoded: {_some(summary.undecodable)}.")
    if summary.empty:
        found.append(
            f"Scored as an empty caption, since the model gave none: {_some(summary.empty)}."
        )
    if summary.refused:
        found.append(f"The model failed on these of them: {_some(summary.refused)}.")
    nearest = summary.context.get(context.NEAREST)
    if nearest:
        scores = summary.scores[OVERALL]
        lost = [
            title(metric)
            for metric in RANKING_METRICS
            if _at_most(scores.get(metric), nearest.get(metric))
        ]
        if lost:
            found.append(
                "Repeating the caption of the most similar training image scores as high in "
                f"{', '.join(lost)}."
            )
    return found


def _at_most(value: float | None, other: float | None) -> bool:
    return value is not None and other is not None and value <= other


def _some(names: Iterable[str], limit: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return f"{', '.join(names[:limit])}{more}"


def _scores(summary: EvaluationSummary) -> dict[str, Any]:
    """The table of metrics in which more is better: model, baseline, difference, context."""
    values = summary.scores[OVERALL]
    with_baseline = bool(summary.baseline_scores)
    rows = []
    for metric in [name for name in RANKING_METRICS if name in values]:
        cells = [
            Cell(
                points(values[metric]),
                span(summary.interval(metric)),
                main=True,
            ),
        ]
        if with_baseline:
            difference = summary.differences.get(metric)
            cells += [
                Cell(points(summary.baseline_scores.get(metric))),
                Cell(
                    f"{100 * difference.value:+.1f}" if difference else MISSING,
                    span(difference, "+"),
                ),
            ]
        cells += [Cell(points(line.get(metric))) for line in summary.context.values()]
        rows.append({"title": title(metric), "cells": cells})
    return {
        "headings": [
            summary.model_name,
            *(["baseline", "difference"] if with_baseline else []),
            *summary.context,
        ],
        "rows": rows,
        "intervals": f"{summary.confidence:.0%}" if summary.intervals else "",
    }


def _description(summary: EvaluationSummary) -> dict[str, Any]:
    """The table of what is neither good nor bad by itself, such as the length of captions."""
    columns: dict[str, MetricValues] = {summary.model_name: summary.scores[OVERALL]}
    if summary.baseline_scores:
        columns["baseline"] = summary.baseline_scores
    metrics = [name for name in summary.scores[OVERALL] if name not in RANKING_METRICS]
    return {
        "headings": list(columns),
        "rows": [
            {
                "title": title(metric),
                "cells": [
                    Cell(MISSING if value is None else f"{value:.3g}")
                    for value in (values.get(metric) for values in columns.values())
                ],
            }
            for metric in metrics
        ],
    }


def _slices(summary: EvaluationSummary) -> dict[str, Any]:
    metrics = [name for name in _SLICE_METRICS if name in summary.scores[OVERALL]]
    largest = {
        metric: max((values.get(metric) or 0.0 for values in summary.scores.values()), default=0.0)
        for metric in metrics
    }
    return {
        "headings": [title(metric) for metric in metrics],
        "rows": [
            {
                "title": name.replace("_", " "),
                "images": f"{summary.slice_sizes.get(name, 0):,}",
                "cells": [
                    Cell(
                        points(values.get(metric)),
                        span(summary.interval(metric, name)),
                        bar=_bar(values.get(metric), largest[metric]),
                    )
                    for metric in metrics
                ],
            }
            for name, values in summary.scores.items()
            # A slice that holds every image says nothing of its own.
            if name == OVERALL or summary.slice_sizes.get(name) != summary.image_count
        ],
    }


def _bar(value: float | None, largest: float) -> float | None:
    return None if value is None or largest <= 0 else round(100 * max(value, 0.0) / largest, 1)


def _charts(
    captions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    training: TrainingHistory | None,
) -> list[dict[str, str]]:
    people = [text for texts in references.values() for text in texts]
    made = []
    if training is not None and training.history:
        curves = charts.learning_curves(training.history, training.best_epoch)
        made.append({"title": "Learning curves", "svg": curves})
    lengths = {
        "model": [len(charts.words_of(text)) for text in captions.values()],
        "people": [len(charts.words_of(text)) for text in people],
    }
    made.append({"title": "Caption length", "svg": charts.caption_lengths(lengths)})
    use = charts.word_use(captions.values(), people)
    made.append({"title": "Words used too often or too rarely", "svg": use})
    return made
