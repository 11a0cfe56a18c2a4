"""Evaluations side by side, on the same images: `comparison.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.caption_evaluator import scoring
from components.caption_evaluator.blessing import Interval
from components.caption_evaluator.config import RANKING_METRICS
from components.caption_evaluator.gallery import RANDOM, Picture, read_gallery
from components.caption_evaluator.report import MISSING, Cell, points, render, span, title
from components.caption_evaluator.summary import (
    OVERALL,
    EvaluationSummary,
    read_captions,
    read_references,
    read_summary,
)

COMPARISON_FILE = "comparison.html"


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, as its folder holds it.

    Attributes:
      label: What to call it: the model's name, made unique.
      summary: Verdict and scores.
      captions: Image id to caption.
      pictures: Its gallery.
    """

    label: str
    summary: EvaluationSummary
    captions: Mapping[str, str]
    pictures: Sequence[Picture]


def read_evaluations(uris: Sequence[str]) -> list[Evaluation]:
    """Reads evaluations by their folders.

    Args:
      uris: Folders of ModelEvaluation artifacts of CaptionEvaluators.

    Raises:
      FileNotFoundError: A folder holds no evaluation.
      ValueError: They are not on the same images and references.
    """
    summaries = [read_summary(uri) for uri in uris]
    fingerprints = [summary.split_fingerprint for summary in summaries]
    if len(set(fingerprints)) > 1:
        raise ValueError(
            "Evaluations compare only on the same images and references. Received: "
            + ", ".join(f"{uri} on {key}" for uri, key in zip(uris, fingerprints, strict=True))
            + "."
        )
    return [
        Evaluation(label, summary, read_captions(uri), read_gallery(uri))
        for label, summary, uri in zip(_labels(summaries), summaries, uris, strict=True)
    ]


def _labels(summaries: Sequence[EvaluationSummary]) -> list[str]:
    """Model names; where one comes twice, with a number."""
    names = [summary.model_name for summary in summaries]
    return [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


@dataclass(frozen=True)
class Comparison:
    """Evaluations side by side.

    Attributes:
      evaluations: In the order given.
      differences: Metric to the first one's score minus the second's.
      html: The page for people.
    """

    evaluations: Sequence[Evaluation]
    differences: Mapping[str, Interval]
    html: str


def compare(uris: Sequence[str], headline: str = "") -> Comparison:
    """Compares evaluations by their folders.

    Args:
      uris: Folders of ModelEvaluation artifacts of CaptionEvaluators.
      headline: What the comparison is for, in a sentence.

    Raises:
      FileNotFoundError: A folder holds no evaluation.
      ValueError: They are not on the same images and references.
    """
    evaluations = read_evaluations(uris)
    differences = _differences(evaluations, read_references(uris[0]))
    html = render_comparison(evaluations, differences, headline)
    return Comparison(evaluations, differences, html)


def _differences(
    evaluations: Sequence[Evaluation], references: Mapping[str, Sequence[str]]
) -> dict[str, Interval]:
    """First minus second, with intervals but for METEOR, which would have to be run again."""
    if len(evaluations) != 2:
        return {}
    first, second = (evaluation.summary.scores[OVERALL] for evaluation in evaluations)
    paired = scoring.paired_bootstrap(
        *(
            scoring.image_statistics(references, evaluation.captions, with_meteor=False)
            for evaluation in evaluations
        )
    )
    differences = {}
    for metric in RANKING_METRICS:
        value, other = first.get(metric), second.get(metric)
        if value is not None and other is not None:
            drawn = paired.get(metric)
            bounds = (drawn.lower, drawn.upper) if drawn else (None, None)
            differences[metric] = Interval(value - other, *bounds)
    return differences


def render_comparison(
    evaluations: Sequence[Evaluation],
    differences: Mapping[str, Interval],
    headline: str,
) -> str:
    """The page that holds evaluations side by side.

    Args:
      evaluations: At least one, on the same split.
      differences: Metric to the first one's score minus the second's; may be empty.
      headline: What the comparison is for, in a sentence.
    """
    return render(
        "comparison.html.j2",
        headline=headline,
        evaluations=evaluations,
        scores=score_table(evaluations, differences),
        pictures=_pictures(evaluations),
    )


def score_table(
    evaluations: Sequence[Evaluation], differences: Mapping[str, Interval]
) -> dict[str, Any]:
    """Headings and rows of cells, the best score of each row marked as main."""
    columns = [evaluation.summary.scores[OVERALL] for evaluation in evaluations]
    rows = []
    for metric in RANKING_METRICS:
        values = [column.get(metric) for column in columns]
        known = [value for value in values if value is not None]
        if not known:
            continue
        cells = [
            Cell(
                points(value),
                span(evaluation.summary.intervals.get(OVERALL, {}).get(metric)),
                value == max(known),
            )
            for value, evaluation in zip(values, evaluations, strict=True)
        ]
        if differences:
            difference = differences.get(metric)
            text = MISSING if difference is None else f"{100 * difference.value:+.1f}"
            cells.append(Cell(text, span(difference, "+")))
        rows.append({"title": title(metric), "cells": cells})
    headings = [evaluation.label for evaluation in evaluations]
    return {"headings": headings + (["difference"] if differences else []), "rows": rows}


def _pictures(evaluations: Sequence[Evaluation]) -> list[tuple[Picture, list[tuple[str, str]]]]:
    """Pictures of all galleries, those by chance first, each with what every model said."""
    galleries = [
        {picture.image_id: picture for picture in evaluation.pictures} for evaluation in evaluations
    ]
    # The earlier evaluation's entry wins: only its group differs.
    pictures = dict(item for gallery in reversed(galleries) for item in gallery.items())
    shown = []
    for picture in sorted(pictures.values(), key=lambda picture: picture.group != RANDOM):
        said = []
        for evaluation, gallery in zip(evaluations, galleries, strict=True):
            said.append((evaluation.label, evaluation.captions[picture.image_id]))
            own = gallery.get(picture.image_id)
            if own is not None and own.baseline_caption is not None:
                said.append((f"baseline of {evaluation.label}", own.baseline_caption))
        shown.append((picture, said))
    return shown
