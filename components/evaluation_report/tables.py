"""Tables of scores as reports and the command line show them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tfx_captioner.components.caption_evaluator.blessing import Interval
from tfx_captioner.components.caption_evaluator.summary import EvaluationSummary
from tfx_captioner.components.scores import OVERALL, RANKING_METRICS, MetricValues

MISSING = "-"
_TITLES = {
    **{f"bleu_{order}": f"BLEU-{order}" for order in range(1, 5)},
    "meteor": "METEOR",
    "rouge_l": "ROUGE-L",
    "cider_d": "CIDEr-D",
    "cider_d_train_idf": "CIDEr-D, train idf",
    "distinct_1": "distinct-1",
    "distinct_2": "distinct-2",
    "unknown_word_captions": "with an unknown word",
    "dangling_captions": "ending in a dangling word",
    "novel_captions": "not seen in training",
    "mean_caption_length": "words of a caption",
}
_LENGTH = "mean_caption_length"


@dataclass(frozen=True)
class Cell:
    """A value as it is shown, with its interval, or a bar of a share of the width in percent."""

    text: str
    interval: str | None = None
    main: bool = False
    bar: float | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table of metrics.

    Attributes:
      heading: What the values are of.
      values: Metric to value.
      intervals: Metric to interval.
      main: Whether the reader came for this column.
      sign: "+" for differences, which are shown with their sign.
    """

    heading: str
    values: MetricValues
    intervals: Mapping[str, Interval] = dataclasses.field(default_factory=dict)
    main: bool = False
    sign: str = ""


@dataclass(frozen=True)
class Row:
    """A metric, and a cell for each column."""

    metric: str
    title: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class MetricTable:
    """Metrics in rows, models and what they are read against in columns."""

    headings: Sequence[str]
    rows: Sequence[Row]


def title(metric: str) -> str:
    """A metric's name as papers print it."""
    return _TITLES.get(metric, metric.replace("_", " "))


def points(value: float | None, sign: str = "") -> str:
    """A score x 100, as papers print it."""
    return MISSING if value is None else f"{100 * value:{sign}.1f}"


def span(interval: Interval | None, sign: str = "") -> str | None:
    """The bounds of an interval x 100; None where there are none."""
    return _span(interval, points, sign)


def description(metric: str, value: float | None, sign: str = "") -> str:
    """What captions are like: a number of words, or a share in percent."""
    if value is None:
        return MISSING
    return f"{value:{sign}.1f}" if metric == _LENGTH else f"{100 * value:{sign}.1f}%"


def ranking_table(columns: Sequence[Column]) -> MetricTable:
    """The metrics in which more is better, x 100; the best of the main columns is marked."""
    table = _table(columns, RANKING_METRICS, lambda _, value, sign: points(value, sign))
    rows = []
    for row in table.rows:
        known = [
            (column.values[row.metric], place)
            for place, column in enumerate(columns)
            if column.main and column.values.get(row.metric) is not None
        ]
        best = max(known)[0] if known else None
        marked = {place for value, place in known if value == best}
        cells = [
            dataclasses.replace(cell, main=place in marked) for place, cell in enumerate(row.cells)
        ]
        rows.append(dataclasses.replace(row, cells=cells))
    return MetricTable(table.headings, rows)


def description_table(columns: Sequence[Column]) -> MetricTable:
    """The metrics that are neither good nor bad by themselves."""
    metrics = dict.fromkeys(metric for column in columns for metric in column.values)
    return _table(
        columns, [metric for metric in metrics if metric not in RANKING_METRICS], description
    )


def model_column(summary: EvaluationSummary, label: str) -> Column:
    """The scores of a model with their intervals."""
    return Column(label, summary.scores[OVERALL], summary.intervals.get(OVERALL, {}), main=True)


def baseline_columns(summary: EvaluationSummary, of: str = "") -> list[Column]:
    """The baseline and the model's difference to it; none without a baseline.

    Args:
      summary: What the model's evaluation found.
      of: Whose baseline it is, where that must be said.
    """
    if not summary.baseline_scores:
        return []
    baseline = f"baseline of {of}" if of else "baseline"
    columns = [Column(baseline, summary.baseline_scores[OVERALL])]
    if differences := summary.differences.get(OVERALL):
        heading = f"{of} less its baseline" if of else "difference"
        columns.append(difference_column(heading, differences))
    return columns


def difference_column(heading: str, differences: Mapping[str, Interval]) -> Column:
    """Differences of scores with their intervals."""
    values = {metric: difference.value for metric, difference in differences.items()}
    return Column(heading, values, differences, sign="+")


def context_lines(
    labelled: Sequence[tuple[str, EvaluationSummary]],
) -> list[tuple[str, Mapping[str, MetricValues]]]:
    """Headings and slices to metrics of the lines that scores are read against.

    Each line comes once; one that differs, as nearest neighbours by two encoders do, for each
    model.

    Args:
      labelled: What to call each model, and what its evaluation found.
    """
    lines: dict[str, list[tuple[str, Mapping[str, MetricValues]]]] = {}
    for label, summary in labelled:
        for line, slices in summary.context.items():
            lines.setdefault(line, []).append((label, slices))
    found = []
    for line, of in lines.items():
        if all(slices == of[0][1] for _, slices in of):
            found.append((line, of[0][1]))
        else:
            found += [(f"{line}, {label}", slices) for label, slices in of]
    return found


def context_columns(labelled: Sequence[tuple[str, EvaluationSummary]]) -> list[Column]:
    """The scores over all images of `context_lines`."""
    return [Column(heading, slices[OVERALL]) for heading, slices in context_lines(labelled)]


def _table(
    columns: Sequence[Column],
    metrics: Iterable[str],
    shown: Callable[[str, float | None, str], str],
) -> MetricTable:
    rows = []
    for metric in metrics:
        if all(column.values.get(metric) is None for column in columns):
            continue
        cells = [
            Cell(
                shown(metric, column.values.get(metric), column.sign),
                _span(column.intervals.get(metric), partial(shown, metric), column.sign),
            )
            for column in columns
        ]
        rows.append(Row(metric, title(metric), cells))
    return MetricTable([column.heading for column in columns], rows)


def _span(interval: Interval | None, shown: Callable[[float, str], str], sign: str) -> str | None:
    if interval is None or interval.lower is None or interval.upper is None:
        return None
    return f"[{shown(interval.lower, sign)}, {shown(interval.upper, sign)}]"
