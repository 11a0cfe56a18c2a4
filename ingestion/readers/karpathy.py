"""Karpathy's splits: `dataset_flickr8k.json`, `dataset_flickr30k.json`, `dataset_coco.json`.

Source: A. Karpathy, L. Fei-Fei (2015), Deep Visual-Semantic Alignments for Generating Image
Descriptions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.names import RefusedNameError, path_inside, printable
from tfx_captioner.ingestion.readers.base import (
    Reader,
    entries_in,
    no_image_folder,
    read_json,
)
from tfx_captioner.ingestion.readers.flickr8k import IMAGE_FOLDERS

_SPLITS = {"train": "train", "restval": "train", "val": "val", "test": "test"}
_IMAGE_FOLDERS = (
    *IMAGE_FOLDERS,
    "flickr30k-images",
    "flickr30k_images/flickr30k_images",
    "flickr30k_images",
)


class KarpathyReader(Reader):
    """One JSON file with captions and splits; `restval` counts as train, as is usual."""

    name = "karpathy"
    has_splits = True
    looked_for = "one of " + ", ".join(
        f"dataset_{name}.json" for name in ("flickr8k", "flickr30k", "coco")
    )

    _FILES = ("dataset_flickr8k.json", "dataset_flickr30k.json", "dataset_coco.json")

    def recognises(self, source: str, columns: Mapping[str, str] | None = None) -> bool:
        """Whether there is one of the files."""
        return bool(self._present(source))

    def read(self, source: str, config: IngestConfig) -> Annotations:
        """Reads the raw sentences."""
        present = self._present(source)
        if len(present) != 1:
            raise IngestError(
                f"{source} must hold {self.looked_for}. Received: {', '.join(present) or 'none'}."
            )
        path = present[0]
        found = Annotations(
            config.max_caption_words,
            files=[path],
            split_rule=f"as in {path}; restval counts as train",
        )
        entries = list(entries_in(read_json(source, path), "images", path, found))
        collector = _Collector(source, found, _names_in_several_folders(e for _, e in entries))
        for where, entry in entries:
            collector.add(where, entry)
        if not found.image_folders:
            raise no_image_folder(source, _IMAGE_FOLDERS)
        return found

    def _present(self, source: str) -> list[str]:
        return [name for name in self._FILES if files.exists(files.join(source, name))]


class _Collector:
    """Puts entries of the JSON file into annotations."""

    def __init__(self, source: str, found: Annotations, shared_names: set[str]) -> None:
        """Begins.

        Args:
          source: Folder of the data set.
          found: Where everything goes.
          shared_names: Names that files of several folders have, whose folder joins the id.
        """
        self._source = source
        self._found = found
        self._shared_names = shared_names
        self._numbers: dict[str, Any] = {}  # `imgid` of each image
        self._folders: dict[str, str] = {}  # folder of each `filepath`

    def add(self, where: str, entry: dict[str, Any]) -> None:
        """Adds an image with its sentences."""
        found, name, folder = self._found, entry.get("filename"), entry.get("filepath")
        if not isinstance(name, str) or not name:
            found.reject_line(str(entry), where, "no `filename`")
            return
        folder = folder if isinstance(folder, str) else ""
        image = files.join(folder, name) if name in self._shared_names else name
        split = entry.get("split")
        known = _SPLITS.get(split) if isinstance(split, str) else None
        found.add_image(image, known, self._folder(folder), name, where)
        image = printable(image)
        number = entry.get("imgid")
        if self._numbers.setdefault(image, number) != number and image not in found.refused:
            detail = f"`imgid` {self._numbers[image]} and {number} have this name"
            found.refuse_ambiguous(image, found.paths[image], where, detail)
        found.captions.setdefault(image, {})
        sentences = entry.get("sentences")
        for sentence in sentences if isinstance(sentences, list) else []:
            text = sentence.get("raw") if isinstance(sentence, dict) else None
            if not isinstance(text, str):
                found.reject_line(str(sentence), where, "no `raw` sentence")
                continue
            order = sentence.get("sentid")
            found.add_caption(image, order if isinstance(order, int) else 0, text, where)

    def _folder(self, named: str) -> str:
        """COCO says per image in which folder it lies; the Flickr sets have but one.

        Returns:
          The folder that is there; what the entry says where there is none, so that its image, and
          no other, is set aside.
        """
        if named in self._folders:
            return self._folders[named]
        below = (files.join(parent, named) for parent in ("", "images", "Images"))
        for candidate in below if named else _IMAGE_FOLDERS:
            try:
                folder = path_inside("", candidate)
            except RefusedNameError:
                continue
            if files.is_folder(files.join(self._source, folder)):
                self._found.image_folders.append(folder)
                break
        else:
            folder = named
        self._folders[named] = folder
        return folder


def _names_in_several_folders(entries: Iterable[dict[str, Any]]) -> set[str]:
    folders = defaultdict(set)
    for entry in entries:
        name, folder = entry.get("filename"), entry.get("filepath")
        if isinstance(name, str) and isinstance(folder, str):
            folders[name].add(folder)
    return {name for name, several in folders.items() if len(several) > 1}
