"""Evaluations side by side, on the same images: `comparison.html`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tfx_captioner.components.caption_evaluator.blessing import Interval
from tfx_captioner.components.caption_evaluator.summary import EvaluationSummary, read_summary
from tfx_captioner.components.caption_files import read_captions, read_references
from tfx_captioner.components.evaluation_report.gallery import (
    RANDOM,
    Picture,
    Word,
    read_gallery,
)
from tfx_captioner.components.evaluation_report.report import (
    GROUPS,
    TrainingHistory,
    learning_charts,
    length_chart,
    read_history,
    render,
    slice_table,
    word_chart,
)
from tfx_captioner.components.evaluation_report.tables import (
    Column,
    MetricTable,
    baseline_columns,
    context_columns,
    description_table,
    difference_column,
    model_column,
    ranking_table,
)
from tfx_captioner.components.statistics_files import read_statistics
from tfx_captioner.metrics.bootstrap import paired_bootstrap

COMPARISON_FILE = "comparison.html"
_SLICE_METRICS = ("bleu_4", "cider_d_train_idf")


@dataclass(frozen=True)
class Evaluation:
    """One evaluation, and what a report shows beside it.

    Attributes:
      uri: Folder of the ModelEvaluation.
      label: Name of the model, made unique among those that are compared.
      summary: Verdict and scores.
      captions: Image id to caption.
      pictures: Gallery of its report; may be empty.
      training: Learning curves, where the trainer left any.
    """

    uri: str
    label: str
    summary: EvaluationSummary
    captions: Mapping[str, str]
    pictures: Sequence[Picture] = ()
    training: TrainingHistory | None = None


def read_evaluations(folders: Mapping[str, str | None]) -> list[Evaluation]:
    """Reads evaluations by their folders.

    Args:
      folders: Folder of each ModelEvaluation to that of its report; None where it has none.

    Raises:
      FileNotFoundError: A folder holds no evaluation.
    """
    summaries = {uri: read_summary(uri) for uri in folders}
    labels = _labels([summary.model_name for summary in summaries.values()])
    return [
        Evaluation(
            uri,
            label,
            summaries[uri],
            read_captions(uri),
            read_gallery(report) if report else (),
            read_history([report] if report else []),
        )
        for label, (uri, report) in zip(labels, folders.items(), strict=True)
    ]


def _labels(names: Sequence[str]) -> list[str]:
    """Model names; where one comes twice, with a number."""
    return [
        f"{name} ({names[: place + 1].count(name)})" if names.count(name) > 1 else name
        for place, name in enumerate(names)
    ]


@dataclass(frozen=True)
class Comparison:
    """Evaluations side by side.

    Attributes:
      evaluations: Evaluations in the order given.
      differences: Metric to the first one's score minus the second's; empty unless there are two.
      html: The page for people.
    """

    evaluations: Sequence[Evaluation]
    differences: Mapping[str, Interval]
    html: str


def compare(evaluations: Sequence[Evaluation], headline: str = "") -> Comparison:
    """Compares evaluations.

    Args:
      evaluations: Evaluations, at least one, on the same images and references.
      headline: Purpose of the comparison, in a sentence.

    Raises:
      ValueError: They are not on the same images and references, or not in the same words.
    """
    fingerprints = {of.uri: of.summary.split_fingerprint for of in evaluations}
    if len(set(fingerprints.values())) > 1:
        raise ValueError(
            "Evaluations compare only on the same images and references. Received: "
            + ", ".join(f"{uri} on {key}" for uri, key in fingerprints.items())
            + "."
        )
    rules = {of.uri: of.summary.segmentation for of in evaluations}
    if len(set(rules.values())) > 1:
        raise ValueError(
            "Evaluations are not comparable: their captions were split into words by different "
            "rules, which `text.language` chooses. Received: "
            + ", ".join(f"{uri} in {rule}" for uri, rule in rules.items())
            + "."
        )
    differences = {}
    if len(evaluations) == 2:
        paired = paired_bootstrap(*(read_statistics(of.uri) for of in evaluations))
        differences = {metric: Interval(*interval) for metric, interval in paired.items()}
    references = read_references(evaluations[0].uri)
    html = render_comparison(evaluations, references, differences, headline)
    return Comparison(evaluations, differences, html)


def render_comparison(
    evaluations: Sequence[Evaluation],
    references: Mapping[str, Sequence[str]],
    differences: Mapping[str, Interval],
    headline: str,
) -> str:
    """The page that holds evaluations side by side.

    Args:
      evaluations: Evaluations, at least one, on the same split.
      references: Image id to reference captions.
      differences: Metric to the first one's score minus the second's; may be empty.
      headline: What the comparison is for, in a sentence.
    """
    people = [text for texts in references.values() for text in texts]
    columns = _columns(evaluations, differences)
    captions = {evaluation.label: evaluation.captions.values() for evaluation in evaluations}
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
            length_chart(captions, people),
            *(word_chart(label, texts, people) for label, texts in captions.items()),
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
class LabelledCaption:
    """Caption of an image by a model or a baseline, and its attention, if that is known."""

    label: str
    caption: str
    words: Sequence[Word] = ()


def _galleries(
    evaluations: Sequence[Evaluation],
) -> list[tuple[str, list[tuple[Picture, list[LabelledCaption]]]]]:
    """Headings, and pictures with the caption of every model; each picture once."""
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
        (
            heading,
            [(picture, _captions_of(evaluations, galleries, image_id)) for image_id, picture in of],
        )
        for heading, of in ((heading, pictures.items()) for heading, pictures in groups.items())
    ]


def _captions_of(
    evaluations: Sequence[Evaluation], galleries: Sequence[Mapping[str, Picture]], image_id: str
) -> list[LabelledCaption]:
    captions = []
    for evaluation, gallery in zip(evaluations, galleries, strict=True):
        own = gallery.get(image_id)
        words = own.words if own else ()
        captions.append(LabelledCaption(evaluation.label, evaluation.captions[image_id], words))
        if own is not None and own.baseline_caption is not None:
            label = f"baseline of {evaluation.label}"
            captions.append(LabelledCaption(label, own.baseline_caption))
    return captions
