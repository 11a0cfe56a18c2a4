"""Evaluations side by side, on the same images: `comparison.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfx_captioner.components.caption_evaluator.blessing import Interval
from tfx_captioner.components.caption_evaluator.gallery import RANDOM, Picture, Word, read_gallery
from tfx_captioner.components.caption_evaluator.report import (
    GROUPS,
    TrainingHistory,
    learning_charts,
    length_chart,
    read_history,
    render,
    slice_table,
    word_chart,
)
from tfx_captioner.components.caption_evaluator.summary import (
    EvaluationSummary,
    read_captions,
    read_references,
    read_statistics,
    read_summary,
)
from tfx_captioner.components.caption_evaluator.tables import (
    Column,
    MetricTable,
    baseline_columns,
    context_columns,
    description_table,
    difference_column,
    model_column,
    ranking_table,
)
from tfx_captioner.metrics import scoring

COMPARISON_FILE = "comparison.html"
_SLICE_METRICS = ("bleu_4", "cider_d_train_idf")


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, as its folder holds it.

    Attributes:
      label: What to call it: the model's name, made unique.
      summary: Verdict and scores.
      captions: Image id to caption.
      pictures: Its gallery.
      training: Learning curves, where the trainer left any.
    """

    label: str
    summary: EvaluationSummary
    captions: Mapping[str, str]
    pictures: Sequence[Picture]
    training: TrainingHistory | None


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
        Evaluation(label, summary, read_captions(uri), read_gallery(uri), read_history([uri]))
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
    differences = {}
    if len(uris) == 2:
        paired = scoring.paired_bootstrap(*map(read_statistics, uris))
        differences = {metric: Interval(*interval) for metric, interval in paired.items()}
    html = render_comparison(evaluations, read_references(uris[0]), differences, headline)
    return Comparison(evaluations, differences, html)


def render_comparison(
    evaluations: Sequence[Evaluation],
    references: Mapping[str, Sequence[str]],
    differences: Mapping[str, Interval],
    headline: str,
) -> str:
    """The page that holds evaluations side by side.

    Args:
      evaluations: At least one, on the same split.
      references: Image id to reference captions.
      differences: Metric to the first one's score minus the second's; may be empty.
      headline: What the comparison is for, in a sentence.
    """
    people = [text for texts in references.values() for text in texts]
    columns = _columns(evaluations, differences)
    said = {evaluation.label: evaluation.captions.values() for evaluation in evaluations}
    return render(
        "comparison.html.j2",
        headline=headline,
        evaluations=evaluations,
        scores=ranking_table(columns),
        description=description_table(columns),
        confidence=evaluations[0].summary.confidence,
        slices=slice_table(_labelled(evaluations), _SLICE_METRICS),
        charts=[
            *(
                chart
                for evaluation in evaluations
                for chart in learning_charts(evaluation.label, evaluation.training)
            ),
            length_chart(said, people),
            *(word_chart(label, captions, people) for label, captions in said.items()),
        ],
        galleries=_galleries(evaluations),
    )


def score_table(
    evaluations: Sequence[Evaluation], differences: Mapping[str, Interval]
) -> MetricTable:
    """The ranking metrics of evaluations, and what they are read against."""
    return ranking_table(_columns(evaluations, differences))


def _columns(
    evaluations: Sequence[Evaluation], differences: Mapping[str, Interval]
) -> list[Column]:
    columns = [model_column(evaluation.summary, evaluation.label) for evaluation in evaluations]
    if differences:
        columns.append(difference_column("difference", differences))
    for evaluation in evaluations:
        columns += baseline_columns(evaluation.summary, of=evaluation.label)
    return columns + context_columns(_labelled(evaluations))


def _labelled(evaluations: Sequence[Evaluation]) -> list[tuple[str, EvaluationSummary]]:
    return [(evaluation.label, evaluation.summary) for evaluation in evaluations]


@dataclass(frozen=True)
class Said:
    """What a model, or a baseline, said of an image, and where it looked, if that is known."""

    label: str
    caption: str
    words: Sequence[Word] = ()


def _galleries(
    evaluations: Sequence[Evaluation],
) -> list[tuple[str, list[tuple[Picture, list[Said]]]]]:
    """Headings, and pictures with what every model said of them; each picture once."""
    galleries = [
        {picture.image_id: picture for picture in evaluation.pictures} for evaluation in evaluations
    ]
    groups: dict[str, dict[str, Picture]] = {}
    for group, heading in GROUPS.items():
        for evaluation in evaluations:
            of = heading if group == RANDOM else f"{heading} of {evaluation.label}"
            for picture in evaluation.pictures:
                if picture.group == group and not any(
                    picture.image_id in known for known in groups.values()
                ):
                    groups.setdefault(of, {})[picture.image_id] = picture
    return [
        (heading, [(picture, _said(evaluations, galleries, image_id)) for image_id, picture in of])
        for heading, of in ((heading, pictures.items()) for heading, pictures in groups.items())
    ]


def _said(
    evaluations: Sequence[Evaluation], galleries: Sequence[Mapping[str, Picture]], image_id: str
) -> list[Said]:
    said = []
    for evaluation, gallery in zip(evaluations, galleries, strict=True):
        own = gallery.get(image_id)
        said.append(Said(evaluation.label, evaluation.captions[image_id], own.words if own else ()))
        if own is not None and own.baseline_caption is not None:
            said.append(Said(f"baseline of {evaluation.label}", own.baseline_caption))
    return said
