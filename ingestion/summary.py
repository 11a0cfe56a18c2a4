"""What the reports of all shards come to, and whether that is good enough."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence

from tfx_captioner.ingestion.annotations import SPLITS, Annotations, Rejection
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.dataset import CaptionsPerImage, DatasetInfo, SplitInfo
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.fingerprint import hash_of
from tfx_captioner.ingestion.inventory import Inventory
from tfx_captioner.ingestion.leaks import Appearance, find_leaks
from tfx_captioner.ingestion.plan import check_no_split_is_empty
from tfx_captioner.ingestion.shards import ShardReport

_EXAMPLES = 5  # of what was set aside, in errors


def summarise(
    form: str,
    inventory: Inventory,
    reports: Sequence[ShardReport],
    config: IngestConfig,
) -> DatasetInfo:
    """Adds up what was written. What workers set aside joins `annotations.rejected`.

    Args:
      form: Name of the reader.
      inventory: The data set, with what was set aside before images were read.
      reports: One per shard.
      config: Settings.

    Raises:
      IngestError: A split is left without images, more was set aside than is allowed, or too many
        test images are in train or val too.
    """
    annotations = inventory.annotations
    for report in reports:
        annotations.rejected += report.rejected
    annotations.rejected.sort(key=dataclasses.astuple)
    images = Counter(dict.fromkeys(SPLITS, 0))
    for report in reports:
        images[report.split] += len(report.digests)
    _check_rejected_share(annotations, config)
    check_no_split_is_empty(images, annotations)
    leaks = find_leaks(_appearances(reports))
    leaks.check(images["test"], config.max_leaked_share)
    rejected = Counter(rejection.reason.value for rejection in annotations.rejected)
    sources: Counter[str] = Counter()
    for report in reports:
        sources.update(report.sources)
    digests = sorted(
        (report.split, image, digest)
        for report in reports
        for image, digest in report.digests.items()
    )
    return DatasetInfo(
        format=form,
        sources=dict(sorted(sources.items())),
        fingerprint=hash_of(digests),
        split_rule=annotations.split_rule,
        splits={split: _split_info(split, reports) for split in SPLITS},
        rejected=dict(sorted(rejected.items())),
        duplicates_across_splits=leaks.same,
        near_duplicates_across_splits=leaks.similar,
        leaked_test_images=len(leaks.test_images),
        settings=dataclasses.asdict(config),
        captions_mended=dict(sorted(annotations.mended.items())),
        names_matched=dict(sorted(inventory.names_matched.items())),
    )


def rejected_lines(rejected: Iterable[Rejection]) -> str:
    """Content of `rejected.jsonl`."""
    return "".join(
        json.dumps(dataclasses.asdict(rejection), ensure_ascii=False) + "\n"
        for rejection in rejected
    )


def _check_rejected_share(annotations: Annotations, config: IngestConfig) -> None:
    """Counts images that have a split: the rest was not asked for, so it is no sign of damage."""
    lines = [rejection for rejection in annotations.rejected if rejection.reason.is_bad_caption]
    images = [
        rejection
        for rejection in annotations.rejected
        if rejection.reason.is_bad_image and rejection.what in annotations.splits
    ]
    for kind, rejected, count, total in (
        ("images", images, len({image.what for image in images}), len(annotations.splits)),
        ("caption lines", lines, len(lines), annotations.caption_lines),
    ):
        share = count / max(1, total)
        if share > config.max_rejected_share:
            first = "".join(f"\n  {rejection}" for rejection in rejected[:_EXAMPLES])
            raise IngestError(
                f"{count} of {total} {kind} had to be set aside, more than "
                f"`max_rejected_share` allows: {share:.3g} > {config.max_rejected_share:g}. "
                f"The first ones:{first}"
            )


def _split_info(split: str, reports: Iterable[ShardReport]) -> SplitInfo:
    own = [report for report in reports if report.split == split]
    counts: Counter[int] = Counter()
    for report in own:
        counts.update(report.captions_per_image)
    images, captions = counts.total(), sum(number * times for number, times in counts.items())
    return SplitInfo(
        images=images,
        captions=captions,
        captions_per_image=CaptionsPerImage(
            min=min(counts), mean=round(captions / images, 3), max=max(counts)
        ),
        shards=len(own),
    )


def _appearances(reports: Iterable[ShardReport]) -> dict[str, dict[str, Appearance]]:
    splits: dict[str, dict[str, Appearance]] = {split: {} for split in SPLITS}
    for report in reports:
        splits[report.split] |= report.appearances
    return splits
