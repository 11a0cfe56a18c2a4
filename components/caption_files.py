"""Captions and references of an evaluation as files, in COCO's formats."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tfx.dsl.io import fileio
from tfx.utils import io_utils

CAPTIONS_FILE = "captions.json"
REFERENCES_FILE = "references.json"
GENERATION_FILE = "generation.json"
# In the folder of an evaluation, beside `captions.json`.
BASELINE_CAPTIONS_FILE = "baseline_captions.json"


@dataclasses.dataclass(frozen=True)
class Generation:
    """How the captions of a split were generated; `generation.json`.

    Attributes:
      split: Name of the split.
      split_fingerprint: Fingerprint of its ids and references.
      model_uri: Model that generated the captions; empty where there is no model.
      refused: Ids of images for which the model raised an error; their caption is empty.
      failure: Why the model gave no captions at all; empty where it did.
    """

    split: str
    split_fingerprint: str
    model_uri: str = ""
    refused: tuple[str, ...] = ()
    failure: str = ""

    @property
    def has_captions(self) -> bool:
        """Whether `captions.json` lies beside this file."""
        return bool(self.model_uri) and not self.failure


def write_generation(uri: str, generation: Generation) -> None:
    """Writes `generation.json` into the folder of a GeneratedCaptions artifact."""
    write_json(uri, GENERATION_FILE, dataclasses.asdict(generation))


def read_generation(uri: str) -> Generation:
    """Reads `generation.json`."""
    content = read_json(uri, GENERATION_FILE)
    return Generation(**{**content, "refused": tuple(content["refused"])})


def write_captions(uri: str, captions: Mapping[str, str], name: str = CAPTIONS_FILE) -> None:
    """Writes captions in the COCO results format."""
    rows = [{"image_id": coco_id(key), "caption": text} for key, text in captions.items()]
    write_json(uri, name, rows)


def read_captions(uri: str, name: str = CAPTIONS_FILE) -> dict[str, str]:
    """Image id to caption, of what `write_captions` wrote."""
    return {str(row["image_id"]): row["caption"] for row in read_json(uri, name)}


def write_references(uri: str, references: Mapping[str, Sequence[str]]) -> None:
    """Writes `references.json` in the format of COCO's caption annotations."""
    captions = [(key, text) for key, texts in references.items() for text in texts]
    annotations = [
        {"id": number, "image_id": coco_id(key), "caption": text}
        for number, (key, text) in enumerate(captions)
    ]
    images = [{"id": coco_id(key)} for key in references]
    write_json(uri, REFERENCES_FILE, {"images": images, "annotations": annotations})


def read_references(uri: str) -> dict[str, tuple[str, ...]]:
    """Image id to reference captions, of `references.json`."""
    content = read_json(uri, REFERENCES_FILE)
    references: dict[str, list[str]] = {str(image["id"]): [] for image in content["images"]}
    for annotation in content["annotations"]:
        references[str(annotation["image_id"])].append(annotation["caption"])
    return {key: tuple(texts) for key, texts in references.items()}


def coco_id(image_id: str) -> int | str:
    """COCO's tools want the number they gave an image; other data sets have names."""
    return int(image_id) if image_id.isdecimal() and str(int(image_id)) == image_id else image_id


def write_json(uri: str, name: str, content: Any) -> None:
    """Writes a JSON file into the folder of an artifact."""
    text = json.dumps(content, ensure_ascii=False, indent=1)
    io_utils.write_string_file(os.path.join(uri, name), text)


def read_json(uri: str, name: str) -> Any:
    """Reads a JSON file from the folder of an artifact."""
    return json.loads(io_utils.read_string_file(os.path.join(uri, name)))


def copy_file(source_uri: str, name: str, target_uri: str, target_name: str = "") -> None:
    """Copies a file from the folder of an artifact into that of another."""
    source = os.path.join(source_uri, name)
    fileio.copy(source, os.path.join(target_uri, target_name or name), overwrite=True)
