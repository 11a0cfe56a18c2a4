"""What is known of an evaluated split before any model captions it: `references_summary.json`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pydantic import TypeAdapter
from pydantic.dataclasses import dataclass

from tfx_captioner.components.caption_files import read_json, write_json
from tfx_captioner.components.scores import MetricValues
from tfx_captioner.metrics.languages import ENGLISH, PENN_TREEBANK

SUMMARY_FILE = "references_summary.json"


@dataclass(frozen=True)
class ReferencesSummary:
    """The split, and the scores of what needs no model.

    Attributes:
      split: Name of the split.
      split_fingerprint: Fingerprint of its ids and references.
      train_fingerprint: Fingerprint of ids and captions of the train split; empty without one.
      undecodable: Image id to why it is not scored.
      context: Line, such as `scores.HUMAN`, to slice to metrics.
      nearest: Encoder to slice to metrics of its nearest neighbours' captions.
      unavailable: Metric, or slices, to why it is not computed.
      language: Language that the captions are scored in.
      segmentation: How they become words; scores compare where it is equal.
      warning: What makes the scores worthless; empty where nothing is known to.
    """

    split: str
    split_fingerprint: str
    train_fingerprint: str = ""
    undecodable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    context: Mapping[str, Mapping[str, MetricValues]] = dataclasses.field(default_factory=dict)
    nearest: Mapping[str, Mapping[str, MetricValues]] = dataclasses.field(default_factory=dict)
    unavailable: Mapping[str, str] = dataclasses.field(default_factory=dict)
    language: str = ENGLISH
    segmentation: str = PENN_TREEBANK
    warning: str = ""


_ADAPTER = TypeAdapter(ReferencesSummary)


def write_references_summary(uri: str, summary: ReferencesSummary) -> None:
    """Writes `references_summary.json` into the folder of a CaptionReferences artifact."""
    write_json(uri, SUMMARY_FILE, _ADAPTER.dump_python(summary, mode="json"))


def read_references_summary(uri: str) -> ReferencesSummary:
    """Reads `references_summary.json`."""
    return _ADAPTER.validate_python(read_json(uri, SUMMARY_FILE))
