"""COCO captions: `annotations/captions_train2014.json` and its val, or those of 2017.

Source: X. Chen et al. (2015), Microsoft COCO Captions: Data Collection and Evaluation Server.
"""

from __future__ import annotations

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.readers.base import (
    Reader,
    find,
    find_image_folder,
    hashed_share,
    list_in,
    read_json,
)

_YEARS = ("2014", "2017")


class CocoReader(Reader):
    """COCO's own captions. The image id is COCO's, so that its evaluation server knows it."""

    name = "coco"
    has_splits = True
    looked_for = (
        "annotations/captions_train2014.json with captions_val2014.json, or those of 2017, with "
        "the image folders train2014 and val2014"
    )

    def recognises(self, source: str) -> bool:
        """Whether the captions of both splits are there, of one of the years."""
        return any(_find_captions(source, year) for year in _YEARS)

    def read(self, source: str, config: IngestConfig) -> Annotations:
        """Reads both files; the val file's images are divided into val and test by a hash."""
        years = [year for year in _YEARS if _find_captions(source, year)]
        if len(years) != 1:
            raise IngestError(
                f"{source} must hold the captions of one year. Received: "
                f"{' and '.join(years) or 'none'}. Looked for: {self.looked_for}."
            )
        held_out = config.val_share + config.test_share
        if not (config.val_share and config.test_share):
            raise IngestError(
                "`val_share` and `test_share` must both be more than 0 to divide COCO's val split. "
                f"Received: {config.val_share:g} and {config.test_share:g}."
            )
        test_part = config.test_share / held_out
        found = Annotations(
            split_rule=f"train as published; test is {test_part:.3g} of the published val split, "
            "by a hash of the image id, and val the rest"
        )
        for part, path in _find_captions(source, years[0]).items():
            self._read_part(source, part, path, test_part, found)
        return found

    def _read_part(
        self, source: str, part: str, path: str, test_part: float, found: Annotations
    ) -> None:
        year = path.removesuffix(".json")[-4:]
        folder = find_image_folder(source, (f"{part}{year}", f"images/{part}{year}"))
        content = read_json(source, path)
        found.files.append(path)
        found.image_folders.append(folder)
        for number, entry in enumerate(list_in(content, "images", path)):
            where = f"{path}:images[{number}]"
            key, name = entry.get("id"), entry.get("file_name")
            if not isinstance(key, int) or not isinstance(name, str) or not name:
                found.reject_line(str(entry), where, "no `id` or no `file_name`")
                continue
            split = part
            if part == "val" and hashed_share(str(key)) < test_part:
                split = "test"
            found.assign(str(key), split, where)
            found.paths[str(key)] = files.join(folder, name)
        for number, entry in enumerate(list_in(content, "annotations", path)):
            where = f"{path}:annotations[{number}]"
            key, text = entry.get("image_id"), entry.get("caption")
            if not isinstance(key, int) or not isinstance(text, str):
                found.reject_line(str(entry), where, "no `image_id` or no `caption`")
                continue
            order = entry.get("id")
            found.add_caption(str(key), order if isinstance(order, int) else 0, text, where)


def _find_captions(source: str, year: str) -> dict[str, str]:
    """The captions files of a year by part; empty unless train and val are both there."""
    found = {
        part: find(
            source, (f"annotations/captions_{part}{year}.json", f"captions_{part}{year}.json")
        )
        for part in ("train", "val")
    }
    present = {part: path for part, path in found.items() if path}
    return present if len(present) == len(found) else {}
