"""What an evaluation found, as one JSON file that reports, selectors and people read."""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass
from tfx.dsl.io import fileio
from tfx.utils import io_utils

from tfx_captioner.components.caption_evaluator.blessing import Baseline, Interval, Verdict
from tfx_captioner.components.caption_evaluator.config import OVERALL
from tfx_captioner.metrics.scoring import ImageStatistics, image_statistics

SUMMARY_FILE = "verdict.json"
CAPTIONS_FILE = "captions.json"
REFERENCES_FILE = "references.json"
_STATISTICS_FILE = "image_statistics.npz"

# Metric to value; None where the metric is not a number.
MetricValues = Mapping[str, float | None]


@dataclass(frozen=True)
class EvaluationSummary:
    """Verdict, scores and what was left out; `verdict.json` of an evaluation.

    Attributes:
      model_name: Such as `resnet_gru`.
      split: Name of the split.
      split_fingerprint: Of its ids and references; scores compare only where it is equal.
      image_count: Images scored.
      verdict: Blessed or not, with reasons.
      baseline: Whether there was something to compare with.
      scores: Slice to metrics; the slice of all images is `OVERALL`.
      train_fingerprint: Of ids and captions of the train split; empty where there is none.
      slice_sizes: Slice to number of images.
      baseline_scores: Slice to metrics of the baseline; empty without one.
      intervals: Slice to metric to score and bootstrap interval.
      confidence: Share of the resampled scores that an interval holds.
      differences: Slice to metric to candidate minus baseline; empty without a comparable one.
      context: Line, such as the human one, to slice to metrics.
      unavailable: Metric, or line of the context, to why it was not computed.
      undecodable: Image id to why it was not scored.
      refused: Ids of images the model raised an error for, scored as an empty caption.
      empty: Ids of images that got an empty caption, those refused included.
      seconds: Part of the evaluation to the time it took.
    """

    model_name: str
    split: str
    split_fingerprint: str
    image_count: int
    verdict: Verdict
    baseline: Baseline
    scores: Mapping[str, MetricValues]
    train_fingerprint: str = ""
    slice_sizes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    baseline_scores: Mapping[str, MetricValues] = dataclasses.field(default_factory=dict)
    intervals: Mapping[str, Mapping[str, Interval]] = dataclasses.field(default_factory=dict)
    confidence: float = 0.95
    differences: Mapping[str, Mapping[str, Interval]] = dataclasses.field(default_factory=dict)
    context: Mapping[str, Mapping[str, MetricValues]] = dataclasses.field(default_factory=dict)
    unavailable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    undecodable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    refused: list[str] = dataclasses.field(default_factory=list)
    empty: list[str] = dataclasses.field(default_factory=list)
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def interval(self, metric: str, slice_name: str = OVERALL) -> Interval | None:
        """The bootstrap interval of a metric, where there is one."""
        return self.intervals.get(slice_name, {}).get(metric)

    def difference(self, metric: str, slice_name: str = OVERALL) -> Interval | None:
        """Candidate minus baseline, where the two compare."""
        return self.differences.get(slice_name, {}).get(metric)


_ADAPTER = TypeAdapter(EvaluationSummary)


def write_summary(uri: str, summary: EvaluationSummary) -> None:
    """Writes `verdict.json` into the folder of an evaluation; NaN becomes null."""
    text = _ADAPTER.dump_json(summary, indent=1).decode()
    io_utils.write_string_file(os.path.join(uri, SUMMARY_FILE), text)


def read_summary(uri: str) -> EvaluationSummary:
    """Reads `verdict.json` of an evaluation.

    Raises:
      FileNotFoundError: There is none in the folder.
    """
    path = os.path.join(uri, SUMMARY_FILE)
    if not fileio.exists(path):
        raise FileNotFoundError(f"{uri} is no evaluation of a CaptionEvaluator: {path} is missing.")
    return _ADAPTER.validate_json(io_utils.read_string_file(path))


def write_captions(uri: str, captions: Mapping[str, str]) -> None:
    """Writes `captions.json` in the COCO results format."""
    rows = [{"image_id": coco_id(key), "caption": text} for key, text in captions.items()]
    _write_json(uri, CAPTIONS_FILE, rows)


def read_captions(uri: str) -> dict[str, str]:
    """Image id to caption, of `captions.json`."""
    rows = json.loads(io_utils.read_string_file(os.path.join(uri, CAPTIONS_FILE)))
    return {str(row["image_id"]): row["caption"] for row in rows}


def write_references(uri: str, references: Mapping[str, Sequence[str]]) -> None:
    """Writes `references.json` in the format of COCO's caption annotations."""
    captions = [(key, text) for key, texts in references.items() for text in texts]
    annotations = [
        {"id": number, "image_id": coco_id(key), "caption": text}
        for number, (key, text) in enumerate(captions)
    ]
    images = [{"id": coco_id(key)} for key in references]
    _write_json(uri, REFERENCES_FILE, {"images": images, "annotations": annotations})


def read_references(uri: str) -> dict[str, tuple[str, ...]]:
    """Image id to reference captions, of `references.json`."""
    content = json.loads(io_utils.read_string_file(os.path.join(uri, REFERENCES_FILE)))
    references: dict[str, list[str]] = {str(image["id"]): [] for image in content["images"]}
    for annotation in content["annotations"]:
        references[str(annotation["image_id"])].append(annotation["caption"])
    return {key: tuple(texts) for key, texts in references.items()}


def write_statistics(uri: str, statistics: ImageStatistics) -> None:
    """Keeps of `image_statistics` what cannot be had from captions and references again."""
    kept = {"cider_d_train_idf": statistics.cider_d_train_idf, "meteor": statistics.meteor}
    arrays = {name: values for name, values in kept.items() if values is not None}
    content = io.BytesIO()
    np.savez_compressed(content, ids=np.array(statistics.ids, np.str_), **arrays)
    with fileio.open(os.path.join(uri, _STATISTICS_FILE), "wb") as file:
        file.write(content.getvalue())


def read_statistics(uri: str) -> ImageStatistics:
    """Statistics of the captions of an evaluation, without running METEOR again."""
    counted = image_statistics(read_references(uri), read_captions(uri), with_meteor=False)
    with fileio.open(os.path.join(uri, _STATISTICS_FILE), "rb") as file:
        kept = np.load(io.BytesIO(file.read()))
    place = {image_id: row for row, image_id in enumerate(kept["ids"].tolist())}
    rows = np.array([place[image_id] for image_id in counted.ids], np.intp)
    arrays = {name: kept[name][rows] for name in kept.files if name != "ids"}
    return dataclasses.replace(counted, **arrays)


def coco_id(image_id: str) -> int | str:
    """COCO's tools want the number they gave an image; other data sets have names."""
    return int(image_id) if image_id.isdecimal() and str(int(image_id)) == image_id else image_id


def _write_json(uri: str, name: str, content: Any) -> None:
    text = json.dumps(content, ensure_ascii=False, indent=1)
    io_utils.write_string_file(os.path.join(uri, name), text)
