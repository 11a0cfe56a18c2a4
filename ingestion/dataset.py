"""`dataset.json`: what an ingested data set holds."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.errors import IngestError

DATASET = "dataset.json"


@dataclass(frozen=True)
class CaptionsPerImage:
    """Fewest, mean and most captions of an image."""

    min: int
    mean: float
    max: int


@dataclass(frozen=True)
class SplitInfo:
    """Size of a split."""

    images: int
    captions: int
    captions_per_image: CaptionsPerImage
    shards: int


@dataclass(frozen=True)
class NamesMatched:
    """Images whose file has another name than the annotations say.

    Attributes:
      images: Number of images.
      example: One of them.
    """

    images: int
    example: str


@dataclass(frozen=True)
class DatasetInfo:
    """What an ingested data set holds, and what was set aside.

    Attributes:
      format: Form it was read from.
      sources: Number of images by `image/source`.
      fingerprint: SHA-256 over all serialized Examples, whatever the sharding.
      split_rule: How images came to their splits.
      splits: By name: train, val, test.
      rejected: Number of things set aside by reason; `rejected.jsonl` lists them.
      duplicates_across_splits: Groups of image ids of different splits with the same pixels.
      settings: The `IngestConfig`.
      captions_mended: Number of captions that were mended, by what was wrong with them.
      names_matched: Images whose file has another name than the annotations say, by what the
        names differ in, such as "case".
      near_duplicates_across_splits: Pairs of image ids of different splits that look nearly the
        same.
      leaked_test_images: Test images that are in train or val too, or nearly the same.
    """

    format: str
    sources: dict[str, int]
    fingerprint: str
    split_rule: str
    splits: dict[str, SplitInfo]
    rejected: dict[str, int]
    duplicates_across_splits: list[list[str]]
    settings: dict[str, Any]
    captions_mended: dict[str, int] = field(default_factory=dict)
    names_matched: dict[str, NamesMatched] = field(default_factory=dict)
    near_duplicates_across_splits: list[list[str]] = field(default_factory=list)
    leaked_test_images: int = 0

    def holds_same_records(self, other: DatasetInfo) -> bool:
        """Whether the TFRecord files of two data sets hold the same."""
        return self.fingerprint == other.fingerprint and self.splits == other.splits

    def to_json(self) -> str:
        """Content of `dataset.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def read(cls, folder: str) -> DatasetInfo:
        """Reads the `dataset.json` of an ingested data set.

        Raises:
          IngestError: The file is not one that this version wrote.
        """
        path = files.join(folder, DATASET)
        try:
            content = json.loads(files.read_bytes(path))
            splits = {
                name: SplitInfo(
                    **{
                        **split,
                        "captions_per_image": CaptionsPerImage(**split["captions_per_image"]),
                    }
                )
                for name, split in content["splits"].items()
            }
            matched = {
                difference: NamesMatched(**entry)
                for difference, entry in content.get("names_matched", {}).items()
            }
            return cls(**{**content, "splits": splits, "names_matched": matched})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IngestError(
                f"{path} is none that this version wrote: {error!r}. Nothing in {folder} was "
                "changed. Name another folder to write, or move this one away."
            ) from error
