"""Pictures that are in more than one split, so that a model is tested on what it learnt.

The same picture under two names has the same pixels, whatever its file says in its header. Nearly
the same, so scaled or compressed anew, are two pictures whose thumbnails are alike everywhere. A
perceptual hash alone does not tell enough: pHash of 64 bits takes a quarter of the generated
sample's test scenes for scenes of its train split, since it sees no colour and few details, while
thumbnails of that very sample are never closer than 18 levels.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tfx_captioner.ingestion.errors import IngestError

_SIDE = 8  # height and width of a thumbnail
_TOLERANCE = 12  # levels of 255 that thumbnails of nearly the same picture differ at most
_CONTRAST = 3 * _TOLERANCE  # levels that cells of a thumbnail must span to tell anything
_CHUNK = 20_000  # thumbnails that are searched at once, to bound memory
_EXAMPLES = 5


@dataclass(frozen=True)
class Appearance:
    """What tells whether two pictures look alike.

    Attributes:
      pixels: Digest of the decoded pixels.
      thumbnail: RGB values of 8 x 8 cells, in base64.
    """

    pixels: str
    thumbnail: str

    @classmethod
    def of(cls, decoded: np.ndarray) -> Appearance:
        """The appearance of a picture.

        Args:
          decoded: uint8 [height, width, 3].
        """
        digest = hashlib.sha256(repr(decoded.shape).encode())  # processors have it built in
        digest.update(np.ascontiguousarray(decoded).data)
        small = Image.fromarray(decoded).resize((_SIDE, _SIDE), Image.Resampling.BOX)
        return cls(digest.hexdigest(), base64.b64encode(small.tobytes()).decode())


@dataclass(frozen=True)
class Leaks:
    """Pictures of more than one split.

    Attributes:
      same: Groups of image ids with the same pixels.
      similar: Pairs of image ids that look nearly the same: one of val or test, and the one of
        another split that is nearest.
      test_images: Test images that are in train or val too, each with the image it is found in.
    """

    same: list[list[str]]
    similar: list[list[str]]
    test_images: dict[str, str]

    def check(self, tested: int, largest_share: float) -> None:
        """Raises IngestError if too many test images are in train or val too.

        Args:
          tested: Number of all test images.
          largest_share: The share of them that is allowed.
        """
        share = len(self.test_images) / max(1, tested)
        if share > largest_share:
            pairs = sorted(self.test_images.items())[:_EXAMPLES]
            first = "".join(f"\n  {image} looks like {other}" for image, other in pairs)
            raise IngestError(
                f"{len(self.test_images)} of {tested} test images are in train or val too, more "
                f"than `max_leaked_share` allows: {share:.3g} > {largest_share:g}. Remove them "
                f"from one of the splits. The first ones:{first}"
            )


def find_leaks(splits: Mapping[str, Mapping[str, Appearance]]) -> Leaks:
    """Finds pictures of more than one split.

    Args:
      splits: Appearance of each image, by split and image id.
    """
    leaked: dict[str, str] = {}
    similar = []
    for split, other in (("test", "train"), ("test", "val"), ("val", "train")):
        pairs = _nearest(splits.get(split, {}), splits.get(other, {}))
        similar += [
            [image, twin]
            for image, twin in pairs.items()
            if splits[split][image].pixels != splits[other][twin].pixels
        ]
        if split == "test":
            leaked = pairs | leaked
    return Leaks(_same(splits), sorted(similar), leaked)


def _same(splits: Mapping[str, Mapping[str, Appearance]]) -> list[list[str]]:
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for split, images in splits.items():
        for image, appearance in images.items():
            groups[appearance.pixels][image] = split
    return sorted(sorted(group) for group in groups.values() if len(set(group.values())) > 1)


def _nearest(images: Mapping[str, Appearance], others: Mapping[str, Appearance]) -> dict[str, str]:
    """For each image the other one that looks most like it, where one looks nearly the same."""
    from scipy.spatial import cKDTree

    same = {appearance.pixels: image for image, appearance in sorted(others.items(), reverse=True)}
    twins = {
        image: same[appearance.pixels]
        for image, appearance in images.items()
        if appearance.pixels in same
    }
    names, points = _thumbnails((i, a) for i, a in images.items() if i not in twins)
    nearest: dict[str, tuple[float, str]] = {}
    entries = sorted(others.items())
    for start in range(0, len(entries), _CHUNK):
        other_names, other_points = _thumbnails(entries[start : start + _CHUNK])
        if not (names and other_names):
            continue
        # Equal points make a tree slow to build and search.
        unique, first = np.unique(other_points, axis=0, return_index=True)
        tree = cKDTree(unique)
        distances, found = tree.query(points, p=np.inf, distance_upper_bound=_TOLERANCE + 1)
        for name, distance, index in zip(names, distances, found, strict=True):
            if index < len(unique):
                candidate = (float(distance), other_names[first[index]])
                nearest[name] = min(nearest.get(name, candidate), candidate)
    return twins | {name: twin for name, (_, twin) in nearest.items()}


def _thumbnails(
    images: Iterable[tuple[str, Appearance]],
) -> tuple[Sequence[str], np.ndarray]:
    """Ids of images that are not plain, and their thumbnails as float64 [images, values]."""
    names, rows = [], []
    for name, appearance in images:
        row = np.frombuffer(base64.b64decode(appearance.thumbnail), np.uint8)
        if np.ptp(row.reshape(-1, 3), axis=0).max() >= _CONTRAST:
            names.append(name)
            rows.append(row)
    return names, np.array(rows, np.float64).reshape(len(rows), 3 * _SIDE * _SIDE)
