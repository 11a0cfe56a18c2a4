"""What a data set has that an earlier result did not have."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.shards import ShardReport

# Hidden, since it is no part of the data set: what a later run compares with.
IMAGES = ".images.json"

Images = Mapping[str, tuple[str, str]]


def images_of(reports: Iterable[ShardReport]) -> dict[str, tuple[str, str]]:
    """Split and SHA-256 of each image's Example, by image id."""
    return {
        image: (report.split, digest)
        for report in reports
        for image, digest in sorted(report.digests.items())
    }


def read_images(folder: str) -> dict[str, tuple[str, str]] | None:
    """What `write_images` wrote; None where it wrote nothing that can be read."""
    path = files.join(folder, IMAGES)
    if not files.exists(path):
        return None
    try:
        content = json.loads(files.read_bytes(path))
        return {image: (split, digest) for image, (split, digest) in content.items()}
    except (ValueError, AttributeError, TypeError):
        return None


def write_images(folder: str, images: Images) -> None:
    """Writes what a later run compares with."""
    files.write_text(files.join(folder, IMAGES), json.dumps(dict(sorted(images.items()))))


def describe_changes(earlier: Images, now: Images) -> str:
    """What is new, changed and gone, for people.

    >>> describe_changes({"a": ("train", "1")}, {"a": ("train", "2"), "b": ("val", "3")})
    '1 image is new (val 1), 1 changed, none is gone'
    """
    new = Counter(now[image][0] for image in now.keys() - earlier.keys())
    gone = len(earlier.keys() - now.keys())
    both = earlier.keys() & now.keys()
    moved = sum(earlier[image][0] != now[image][0] for image in both)
    changed = sum(earlier[image] != now[image] for image in both) - moved
    splits = ", ".join(f"{split} {new[split]}" for split in ("train", "val", "test") if new[split])
    parts = [_counted(new.total(), "new") + (f" ({splits})" if splits else "")]
    parts += [f"{changed or 'none'} changed"]
    parts += [f"{moved} moved to another split"] if moved else []
    parts += [f"{gone} {'is' if gone == 1 else 'are'} gone" if gone else "none is gone"]
    return ", ".join(parts)


def _counted(count: int, what: str) -> str:
    if not count:
        return f"no image is {what}"
    return f"{count} image is {what}" if count == 1 else f"{count} images are {what}"
