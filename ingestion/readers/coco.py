"""COCO captions: `annotations/captions_train2014.json` and its val, or those of 2017.

Source: X. Chen et al. (2015), Microsoft COCO Captions: Data Collection and Evaluation Server.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.names import printable
from tfx_captioner.ingestion.readers.base import (
    Reader,
    entries_in,
    find,
    find_image_folder,
    hashed_share,
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

    def recognises(self, source: str, columns: Mapping[str, str] | None = None) -> bool:
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
            config.max_caption_words,
            split_rule=f"train as published; test is {test_part:.3g} of the published val split, "
            "by a hash of the image id, and val the rest",
        )
        parts = {
            part: (path, read_json(source, path))
            for part, path in _find_captions(source, years[0]).items()
        }
        prefixed = _have_ids_in_common([content for _, content in parts.values()])
        for part, (path, content) in parts.items():
            found.files.append(path)
            folder = find_image_folder(
                source, [files.join(parent, f"{part}{years[0]}") for parent in ("", "images")]
            )
            found.image_folders.append(folder)
            prefix = f"{part}/" if prefixed else ""
            for where, entry in entries_in(content, "images", path, found):
                _add_image(entry, where, part, prefix, folder, test_part, found)
            for where, entry in entries_in(content, "annotations", path, found):
                _add_caption(entry, where, prefix, found)
        return found


def _add_image(
    entry: dict[str, Any],
    where: str,
    part: str,
    prefix: str,
    folder: str,
    test_part: float,
    found: Annotations,
) -> None:
    key, name = _key(entry.get("id")), entry.get("file_name")
    if key is None or not isinstance(name, str) or not name:
        found.reject_line(str(entry), where, "no `id` or no `file_name`")
        return
    image = f"{prefix}{key}"
    is_test = part == "val" and hashed_share(printable(image)) < test_part
    found.add_image(image, "test" if is_test else part, folder, name, where)


def _add_caption(entry: dict[str, Any], where: str, prefix: str, found: Annotations) -> None:
    key, text = _key(entry.get("image_id")), entry.get("caption")
    if key is None or not isinstance(text, str):
        found.reject_line(str(entry), where, "no `image_id` or no `caption`")
        return
    order = entry.get("id")
    found.add_caption(f"{prefix}{key}", order if isinstance(order, int) else 0, text, where)


def _key(value: Any) -> str | None:
    """An id, which other programs write as a number, as a float, or as a string; else None."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _have_ids_in_common(contents: list[dict[str, Any]]) -> bool:
    """Whether different images of two files have the same id, as where each counts from 0."""
    names: dict[str, Any] = {}
    for content in contents:
        own: dict[str, Any] = {}
        entries = content.get("images")
        for entry in entries if isinstance(entries, list) else []:
            key = _key(entry.get("id")) if isinstance(entry, dict) else None
            if key is not None:
                own[key] = entry.get("file_name")
        if any(names.get(key, name) != name for key, name in own.items()):
            return True
        names |= own
    return False


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
