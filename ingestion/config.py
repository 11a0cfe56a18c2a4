"""Typed settings of the ingestion job."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
SourceName = Annotated[str, Field(min_length=1)]
Format = Literal[
    "auto",
    "flickr8k",
    "flickr8k_kaggle",
    "flickr30k_kaggle",
    "karpathy",
    "coco",
    "imagefolder",
    "webdataset",
    "table",
]
Column = Annotated[str, Field(pattern="^(image|caption|split)$")]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class IngestConfig:
    """How a data set becomes TFRecords.

    Attributes:
      format: Form of the data set; "auto" recognises it from the files.
      source_name: What goes into `image/source`; empty for the name of the data set's folder.
      sources: Where one folder holds the photographs of several data sets: `image/source` of those
        whose id matches, by name of the source, as `{coco: "coco_*"}`; the first that matches
        counts, and `source_name` for the rest.
      columns: Names of the columns of a table of captions, as `{image: file, caption: title}`;
        empty to find the usual ones.
      max_pixels: Pictures of more pixels are set aside before they are decoded. Pillow refuses to
        open what is above the upper bound.
      min_side: Pictures of fewer pixels in height or width are set aside.
      max_rejected_share: The largest share of images, or of caption lines, that may be set aside
        before the whole data set counts as broken.
      max_leaked_share: The largest share of test images that may be in train or val too, or look
        nearly like one that is.
      max_caption_words: Captions of more words are set aside.
      max_download_megabytes: Pictures at URLs of more bytes are set aside.
      download_seconds: Time for one of three tries to fetch a picture from its URL.
      private_addresses: Whether pictures are fetched from addresses of the local network.
      shard_megabytes: Size of a shard, about.
      val_share: Share of images that become the val split, where the form knows no splits.
      test_share: Likewise for the test split. COCO, which publishes no captions of its test
        split, has its val split divided in the proportion of the two.
    """

    format: Format = "auto"
    source_name: str = ""
    sources: dict[SourceName, SourceName] = Field(default_factory=dict)
    columns: dict[Column, SourceName] = Field(default_factory=dict)
    max_pixels: Annotated[int, Field(ge=1, le=178_956_970)] = 50_000_000
    min_side: Positive = 16
    max_rejected_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    max_leaked_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    max_caption_words: Positive = 100
    max_download_megabytes: Positive = 32
    download_seconds: Positive = 30
    private_addresses: bool = False
    shard_megabytes: Positive = 80
    val_share: Share = 0.1
    test_share: Share = 0.1

    @model_validator(mode="after")
    def _shares_leave_a_train_split(self) -> IngestConfig:
        if self.val_share + self.test_share >= 1:
            raise ValueError(
                "`val_share` and `test_share` must add up to less than 1. "
                f"Received: {self.val_share} and {self.test_share}"
            )
        return self
