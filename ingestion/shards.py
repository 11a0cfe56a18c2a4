"""The work of Beam's workers: reading images and writing them into one TFRecord file."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import hashlib
import json
import logging
import posixpath
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import apache_beam as beam
import tensorflow as tf

from tfx_captioner.checksums import sha256_of
from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Rejection
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.downloads import DownloadLimits, fetch, forget, read_fetched
from tfx_captioner.ingestion.leaks import Appearance
from tfx_captioner.ingestion.names import is_url
from tfx_captioner.ingestion.pictures import Picture, UnusablePictureError, prepare_picture
from tfx_captioner.ingestion.plan import PlannedImage, Shard, read_plan
from tfx_captioner.ingestion.reasons import Reason
from tfx_captioner.progress import ProgressLog

# Reading and decoding leave the interpreter lock alone; this many images are in memory at once.
_THREADS, _BATCH = 4, 16


_log = logging.getLogger("captioner.ingestion")


@dataclass
class ShardReport:
    """What became of the images of a shard.

    Attributes:
      split: The shard's split.
      sha256: SHA-256 of its TFRecord file.
      digests: SHA-256 of each serialized Example, by image id.
      appearances: What tells whether two pictures look alike, by image id.
      captions_per_image: How many images have how many captions.
      sources: How many images are of which source.
      rejected: What was set aside.
    """

    split: str
    sha256: str = ""
    digests: dict[str, str] = field(default_factory=dict)
    appearances: dict[str, Appearance] = field(default_factory=dict)
    captions_per_image: dict[int, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)

    def write(self, path: str) -> None:
        """Writes the report as JSON."""
        files.write_text(path, json.dumps(dataclasses.asdict(self)))

    @classmethod
    def read(cls, path: str) -> ShardReport:
        """Reads what `write` wrote."""
        content = json.loads(files.read_bytes(path))
        captions = {int(count): images for count, images in content["captions_per_image"].items()}
        rejected = [
            Rejection(**{**entry, "reason": Reason(entry["reason"])})
            for entry in content["rejected"]
        ]
        appearances = {
            image: Appearance(**appearance) for image, appearance in content["appearances"].items()
        }
        parsed = {
            "captions_per_image": captions,
            "rejected": rejected,
            "appearances": appearances,
        }
        return cls(**{**content, **parsed})


class WriteShard(beam.DoFn):
    """Writes the TFRecord file and the report of a `Shard`."""

    def __init__(self, source: str, source_name: str, config: IngestConfig) -> None:
        """Remembers what is the same for all shards.

        Args:
          source: Folder of the data set.
          source_name: Value of `image/source` where `config.sources` says nothing.
          config: Limits of usable pictures, and sources.
        """
        self._source = source
        self._source_name = source_name
        self._sources = config.sources
        self._downloads = DownloadLimits(
            config.max_download_megabytes * 1_000_000,
            config.download_seconds,
            config.private_addresses,
        )
        self._limits = {"max_pixels": config.max_pixels, "min_side": config.min_side}

    def process(self, shard: Shard) -> Iterator[str]:
        """Yields the shard's name when both files are in their place."""
        report = ShardReport(shard.split)
        counts: Counter[int] = Counter()
        sources: Counter[str] = Counter()
        # A runner may run a bundle twice, even at the same time, so the file gets its name last.
        partial = f"{shard.report}.{uuid.uuid4().hex}.tfrecord"
        options = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)
        with tf.io.TFRecordWriter(partial, options) as writer:
            for image, picture in self._read_images(shard):
                if isinstance(picture, Rejection):
                    report.rejected.append(picture)
                    continue
                name = self._source_of(image.id)
                record = serialize_example(image, picture, name)
                writer.write(record)
                report.digests[image.id] = hashlib.sha256(record).hexdigest()
                report.appearances[image.id] = picture.appearance
                counts[len(image.captions)] += 1
                sources[name] += 1
        report.captions_per_image = dict(counts)
        report.sources = dict(sources)
        report.sha256 = sha256_of(partial)
        tf.io.gfile.makedirs(posixpath.dirname(shard.records))
        tf.io.gfile.rename(partial, shard.records, overwrite=True)
        report.write(shard.report)
        yield shard.name

    def _source_of(self, image_id: str) -> str:
        matching = (
            name
            for name, pattern in self._sources.items()
            if fnmatch.fnmatchcase(image_id, pattern)
        )
        return next(matching, self._source_name)

    def _read_images(self, shard: Shard) -> Iterator[tuple[PlannedImage, Picture | Rejection]]:
        """Images of a shard, in order, each with its picture or its rejection."""
        total = sum(1 for _ in read_plan(shard))
        plan = read_plan(shard)
        at_urls = [image.path for image in read_plan(shard) if is_url(image.path)]
        read_image = functools.partial(self._read_image, fetch(at_urls, self._downloads))
        progress = ProgressLog(_log, shard.name, "images", total)
        with ThreadPoolExecutor(_THREADS) as pool:
            while batch := list(islice(plan, _BATCH)):
                yield from zip(batch, pool.map(read_image, batch), strict=True)
                progress.add(len(batch))

    def _read_image(
        self, not_fetched: Mapping[str, UnusablePictureError], image: PlannedImage
    ) -> Picture | Rejection:
        try:
            if is_url(image.path):
                return self._read_fetched(not_fetched, image.path)
            if image.archive:
                archive = files.join(self._source, image.archive)
                data = files.read_range(archive, image.offset, image.size)
            else:
                data = files.read_bytes(files.join(self._source, image.path))
            return prepare_picture(data, **self._limits)
        except UnusablePictureError as error:
            return Rejection(error.reason, image.id, image.path, error.detail)
        except tf.errors.OpError as error:
            return Rejection(Reason.IMAGE_UNREADABLE, image.id, image.path, error.message)

    def _read_fetched(self, not_fetched: Mapping[str, UnusablePictureError], url: str) -> Picture:
        if url in not_fetched:
            raise not_fetched[url]
        try:
            return prepare_picture(read_fetched(url), **self._limits)
        except UnusablePictureError:
            forget(url)  # a page with an error, perhaps
            raise


def serialize_example(image: PlannedImage, picture: Picture, source_name: str) -> bytes:
    """The raw Example of an image, by the contract in DESIGN.md."""

    def bytes_feature(values: list[bytes]) -> tf.train.Feature:
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))

    def int_feature(value: int) -> tf.train.Feature:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    features = {
        "image/id": bytes_feature([image.id.encode()]),
        "image/encoded": bytes_feature([picture.encoded]),
        "image/height": int_feature(picture.height),
        "image/width": int_feature(picture.width),
        "image/source": bytes_feature([source_name.encode()]),
        "caption/text": bytes_feature([caption.encode() for caption in image.captions]),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)
