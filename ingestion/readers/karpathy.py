"""Karpathy's splits: `dataset_flickr8k.json`, `dataset_flickr30k.json`, `dataset_coco.json`.

Source: A. Karpathy, L. Fei-Fei (2015), Deep Visual-Semantic Alignments for Generating Image
Descriptions.
"""

from __future__ import annotations

from typing import Any

from tfx_captioner.ingestion import files
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.readers.base import Reader, find_image_folder, list_in, read_json
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

    def recognises(self, source: str) -> bool:
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
        found = Annotations(files=[path], split_rule=f"as in {path}; restval counts as train")
        for number, entry in enumerate(list_in(read_json(source, path), "images", path)):
            self._read_image(source, f"{path}:images[{number}]", entry, found)
        return found

    def _present(self, source: str) -> list[str]:
        return [name for name in self._FILES if files.exists(files.join(source, name))]

    def _read_image(
        self, source: str, where: str, entry: dict[str, Any], found: Annotations
    ) -> None:
        image, split = entry.get("filename"), entry.get("split")
        if not isinstance(image, str) or not image:
            found.reject_line(str(entry), where, "no `filename`")
            return
        sentences = entry.get("sentences")
        for sentence in sentences if isinstance(sentences, list) else []:
            text = sentence.get("raw") if isinstance(sentence, dict) else None
            if not isinstance(text, str):
                found.reject_line(str(sentence), where, "no `raw` sentence")
                continue
            number = sentence.get("sentid")
            found.add_caption(image, number if isinstance(number, int) else 0, text, where)
        if split not in _SPLITS:
            found.captions.setdefault(image, [])
            return
        found.assign(image, _SPLITS[split], where)
        found.paths[image] = files.join(self._folder(source, entry, found), image)

    def _folder(self, source: str, entry: dict[str, Any], found: Annotations) -> str:
        """COCO says per image in which folder it lies; the Flickr sets have but one."""
        named = entry.get("filepath")
        if isinstance(named, str) and named:
            candidates: tuple[str, ...] = (named, files.join("images", named))
        elif found.image_folders:
            return found.image_folders[0]
        else:
            candidates = _IMAGE_FOLDERS
        for folder in found.image_folders:
            if folder in candidates:
                return folder
        found.image_folders.append(find_image_folder(source, candidates))
        return found.image_folders[-1]
