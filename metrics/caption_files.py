"""Files of captions in the field's forms: COCO's JSON and Flickr's token file.

| form | references | hypotheses |
|---|---|---|
| COCO | `{"annotations": [{"image_id": 1, "caption": "..."}]}` | `[{"image_id": 1, ...}]` |
| JSON object | `{"1.jpg": ["...", "..."]}` | `{"1.jpg": "..."}` |
| Flickr token | `1.jpg#0<TAB>caption` a line | the same, one line per image |

What would make scores wrong without a sign is refused with a ValueError that names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Left in by a decoder that was not told to drop them, or by training data that was marked up.
MARKERS = frozenset(
    f"{opening}{name}{closing}"
    for name in ("s", "/s", "start", "end", "sos", "eos", "bos", "pad", "cls", "sep")
    for opening, closing in (("<", ">"), ("[", "]"))
) | {"startseq", "endseq", "<|endoftext|>", "<|startoftext|>"}

_TOKEN_LINE = re.compile(r"(?P<image>[^\t]+?)(?:#(?P<index>\d+))?\t(?P<caption>.*)")


def read_references(path: Path) -> dict[str, list[str]]:
    """Reads all reference captions of each image, images in the file's order.

    Raises:
        ValueError: The file is of no known form, or holds what makes scores wrong.
        OSError: The file cannot be read.
    """
    references: dict[str, list[str]] = {}
    if path.suffix.lower() == ".json":
        data = _load(path)
        pairs = _object_references(path, data) if _is_plain(data) else _coco(path, data)
    else:
        pairs = _token_lines(path)
    for image_id, caption in pairs:
        references.setdefault(image_id, []).append(caption)
    if not references:
        raise ValueError(f"{path} holds no references.")
    for image_id, captions in references.items():
        for caption in captions:
            _refuse_markers(path, image_id, caption)
    return references


def read_hypotheses(path: Path) -> dict[str, str]:
    """Reads the one caption of each image, images in the file's order.

    Raises:
        ValueError: The file is of no known form, or holds what makes scores wrong.
        OSError: The file cannot be read.
    """
    hypotheses: dict[str, str] = {}
    if path.suffix.lower() == ".json":
        data = _load(path)
        pairs = _object_hypotheses(path, data) if _is_plain(data) else _coco(path, data)
    else:
        pairs = _token_lines(path)
    for image_id, caption in pairs:
        if image_id in hypotheses:
            raise ValueError(f"{path}: every image needs one caption. Received two: {image_id}.")
        _refuse_markers(path, image_id, caption)
        hypotheses[image_id] = caption
    if not hypotheses:
        raise ValueError(f"{path} holds no captions.")
    return hypotheses


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON: {error}.") from error


def _is_plain(data: Any) -> bool:
    return isinstance(data, Mapping) and "annotations" not in data


def _object_references(path: Path, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for image_id, captions in data.items():
        if isinstance(captions, str):
            raise ValueError(
                f"{path}: the references of an image must be a list of strings. "
                f"Received a single string: {image_id}."
            )
        if not _is_strings(captions) or not captions:
            raise ValueError(
                f"{path}: the references of an image must be a list of strings, at least one. "
                f"Received: {image_id}: {_short(captions)}."
            )
        yield from ((image_id, caption) for caption in captions)


def _object_hypotheses(path: Path, data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for image_id, caption in data.items():
        if not isinstance(caption, str):
            raise ValueError(
                f"{path}: the caption of an image must be a string. "
                f"Received: {image_id}: {_short(caption)}."
            )
        yield image_id, caption


def _coco(path: Path, data: Any) -> Iterator[tuple[str, str]]:
    entries = data.get("annotations") if isinstance(data, Mapping) else data
    if not isinstance(entries, list):
        raise ValueError(
            f"{path} must hold a list of objects with `image_id` and `caption`, COCO annotations "
            f"or an object of captions by image id. Received: {_short(data)}."
        )
    seen: set[str] = set()
    for place, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or not {"image_id", "caption"} <= entry.keys():
            raise ValueError(
                f"{path}: entry {place} must be an object with `image_id` and `caption`. "
                f"Received: {_short(entry)}."
            )
        if not isinstance(entry["caption"], str):
            raise ValueError(
                f"{path}: `caption` of entry {place} must be a string. "
                f"Received: {_short(entry['caption'])}."
            )
        if "id" in entry and str(entry["id"]) in seen:
            raise ValueError(f"{path}: annotation ids must be unique. Twice: {entry['id']}.")
        seen.add(str(entry.get("id")))
        yield str(entry["image_id"]), entry["caption"]


def _token_lines(path: Path) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8 text: {error}.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = _TOKEN_LINE.fullmatch(line.rstrip("\r"))
        if not match:
            raise ValueError(
                f"{path}:{number} must be `file#number<TAB>caption`. Received: {_short(line)}."
            )
        key = line.split("\t", 1)[0]
        if match["index"] is not None and key in seen:
            raise ValueError(f"{path}:{number}: caption numbers must be unique. Twice: {key}.")
        seen.add(key)
        yield match["image"], match["caption"]


def _refuse_markers(path: Path, image_id: str, caption: str) -> None:
    if found := [word for word in caption.split() if word.lower() in MARKERS]:
        raise ValueError(
            f"{path}: start, end and padding tokens must be removed, for they count as words. "
            f"Received {', '.join(sorted(set(found)))} in the caption of {image_id}: "
            f"{_short(caption)}."
        )


def _is_strings(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(item, str) for item in value)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
