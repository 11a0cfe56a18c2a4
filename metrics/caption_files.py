"""Files of captions in the field's forms.

| form | references | hypotheses |
|---|---|---|
| COCO's JSON | `{"annotations": [{"image_id": 1, "caption": "..."}]}` | `[{"image_id": 1, ...}]` |
| JSON object | `{"1.jpg": ["...", "..."]}` | `{"1.jpg": "..."}`, `{"1.jpg": ["..."]}` |
| Karpathy's JSON | `{"images": [{"filename": ..., "split": ..., "sentences": [...]}]}` | |
| JSON lines | | `{"photo": "album/1.jpg", "caption": "..."}` a line, as `captioner caption` |
| CSV | header `image,caption`, as on Kaggle | the same, one row per image |
| Flickr token | `1.jpg#0<TAB>caption` a line | the same, one line per image |

Files are UTF-8, with or without a byte order mark. The image id is COCO's (`cocoid`) in Karpathy's
file of COCO and the file name in the others; in JSON lines it is the file name without its folder.
What would make scores wrong without a sign is refused with a ValueError that names it.
"""

from __future__ import annotations

import csv
import io
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
# How `captioner caption` begins a line: no other form has two strings by these names there.
_CAPTIONER_LINE = re.compile(r'\s*\{"photo": "(?:[^"\\]|\\.)*", "(?:caption|captions|error)": ')

# Image ids and captions.
Pairs = Iterator[tuple[str, str]]


def read_references(path: Path, split: str | None = None) -> dict[str, list[str]]:
    """Reads all reference captions of each image, images in the file's order.

    Args:
        path: File of one of the forms above.
        split: Split to read of Karpathy's JSON; all images if it is not given.

    Raises:
        ValueError: The file is of no known form, has no such split, or holds what makes scores
            wrong.
        OSError: The file cannot be read.
    """
    content = _read(path)
    if _is_json(path, content):
        data = _load(path, content)
        if _is_karpathy(data):
            pairs = _karpathy(path, data["images"], split)
        else:
            _refuse_split(path, split)
            pairs = _object_references(path, data) if _is_plain(data) else _coco(path, data)
    else:
        _refuse_split(path, split)
        pairs = _csv(path, content) if _is_csv(content) else _token_lines(path, content)
    references: dict[str, list[str]] = {}
    for image_id, caption in pairs:
        _check(path, image_id, caption)
        references.setdefault(image_id, []).append(caption)
    if not references:
        raise ValueError(f"{path} holds no references.")
    return references


def read_hypotheses(path: Path) -> dict[str, str]:
    """Reads the one caption of each image, images in the file's order.

    Raises:
        ValueError: The file is of no known form, or holds what makes scores wrong.
        OSError: The file cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "captions.jsonl")
        ...     _ = path.write_text('{"photo": "album/1.jpg", "caption": "a dog"}')
        ...     read_hypotheses(path)
        {'1.jpg': 'a dog'}
    """
    content = _read(path)
    if _is_json_lines(path, content):
        pairs = _json_lines(path, content)
    elif _is_json(path, content):
        data = _load(path, content)
        pairs = _object_hypotheses(path, data) if _is_plain(data) else _coco(path, data)
    else:
        pairs = _csv(path, content) if _is_csv(content) else _token_lines(path, content)
    hypotheses: dict[str, str] = {}
    for image_id, caption in pairs:
        if image_id in hypotheses:
            raise ValueError(f"{path}: every image needs one caption. Received two: {image_id}.")
        _check(path, image_id, caption)
        hypotheses[image_id] = caption
    if not hypotheses:
        raise ValueError(f"{path} holds no captions.")
    return hypotheses


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be UTF-8 text: {error}.") from error


def _is_json(path: Path, content: str) -> bool:
    return path.suffix.lower() == ".json" or content.lstrip()[:1] in ("{", "[")


def _is_json_lines(path: Path, content: str) -> bool:
    return path.suffix.lower() in (".jsonl", ".ndjson") or bool(_CAPTIONER_LINE.match(content))


def _is_csv(content: str) -> bool:
    header = next(csv.reader([content.lstrip()[:200].partition("\n")[0]]), [])
    return {"image", "caption"} <= {name.strip().lower() for name in header}


def _load(path: Path, content: str) -> Any:
    try:
        return json.loads(content, object_pairs_hook=_unique)
    except ValueError as error:
        raise ValueError(f"{path} is no valid JSON: {error}.") from error


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"keys of an object must be unique. Twice: {key}")
        found[key] = value
    return found


def _is_plain(data: Any) -> bool:
    return isinstance(data, Mapping) and "annotations" not in data


def _is_karpathy(data: Any) -> bool:
    """Whether there are images with sentences; an image may be called "images" too."""
    images = data.get("images") if isinstance(data, Mapping) else None
    return isinstance(images, list) and any(
        isinstance(image, Mapping) and "sentences" in image for image in images
    )


def _object_references(path: Path, data: Mapping[str, Any]) -> Pairs:
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


def _object_hypotheses(path: Path, data: Mapping[str, Any]) -> Pairs:
    for image_id, caption in data.items():
        captions = [caption] if isinstance(caption, str) else caption
        if not _is_strings(captions) or len(captions) != 1:
            raise ValueError(
                f"{path}: the caption of an image must be a string, or a list of one. "
                f"Received: {image_id}: {_short(caption)}."
            )
        yield image_id, captions[0]


def _coco(path: Path, data: Any) -> Pairs:
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
        yield _id(entry["image_id"]), entry["caption"]


def _karpathy(path: Path, images: Sequence[Any], split: str | None) -> Pairs:
    splits: set[str] = set()
    seen: set[str] = set()
    for place, image in enumerate(images):
        image_id = image.get("cocoid", image.get("filename")) if _is_object(image) else None
        sentences = image.get("sentences") if _is_object(image) else None
        if image_id is None or not isinstance(sentences, list):
            raise ValueError(
                f"{path}: image {place} must be an object with `filename` and `sentences`. "
                f"Received: {_short(image)}."
            )
        splits.add(str(image.get("split")))
        if split is not None and image.get("split") != split:
            continue
        if _id(image_id) in seen:
            raise ValueError(f"{path}: images must be unique. Twice: {image_id}.")
        seen.add(_id(image_id))
        for sentence in sentences:
            if not _is_object(sentence) or not isinstance(sentence.get("raw"), str):
                raise ValueError(
                    f"{path}: sentences of {image_id} must be objects with `raw`, a string. "
                    f"Received: {_short(sentence)}."
                )
            yield _id(image_id), sentence["raw"]
    if split is not None and split not in splits:
        raise ValueError(f"{path} has the splits {', '.join(sorted(splits))}. Received: {split}.")


def _refuse_split(path: Path, split: str | None) -> None:
    if split is not None:
        raise ValueError(f"{path} has no splits; Karpathy's JSON has. Received: {split}.")


def _json_lines(path: Path, content: str) -> Pairs:
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        entry = _load(Path(where), line)
        names = {"photo", "image_id"} & entry.keys() if _is_object(entry) else set()
        if len(names) != 1:
            raise ValueError(
                f"{where} must be an object with `photo` or `image_id`, and `caption`. "
                f"Received: {_short(line)}."
            )
        image_id = Path(str(entry["photo"])).name if "photo" in entry else _id(entry["image_id"])
        if "error" in entry:
            raise ValueError(f"{where}: {image_id} has no caption: {_short(entry['error'])}.")
        caption, beams = entry.get("caption"), entry.get("captions")
        if isinstance(beams, list) and beams and _is_object(beams[0]):
            caption = beams[0].get("caption")  # the best comes first
        if not isinstance(caption, str):
            raise ValueError(f"{where}: `caption` must be a string. Received: {_short(line)}.")
        yield image_id, caption


def _csv(path: Path, content: str) -> Pairs:
    rows = csv.DictReader(io.StringIO(content, newline=""), skipinitialspace=True, strict=True)
    rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or ()]
    try:
        for row in rows:
            image, caption = row["image"], row["caption"]
            if None in row or not image or caption is None:
                raise ValueError(
                    f"{path}:{rows.line_num} must have {len(rows.fieldnames)} columns, captions "
                    f"with commas in quotes. Received: {_short(row)}."
                )
            yield image.strip(), caption
    except csv.Error as error:
        raise ValueError(f"{path}:{rows.reader.line_num} is no valid CSV: {error}.") from error


def _token_lines(path: Path, content: str) -> Pairs:
    seen: set[str] = set()
    for number, line in enumerate(content.split("\n"), 1):
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


def _check(path: Path, image_id: str, caption: str) -> None:
    try:
        f"{image_id}{caption}".encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{path}: text must be valid Unicode. Received half a surrogate pair in the caption of "
            f"{image_id!a}: {_short(caption)!a}."
        ) from error
    if found := [word for word in caption.split() if word.lower() in MARKERS]:
        raise ValueError(
            f"{path}: start, end and padding tokens must be removed, for they count as words. "
            f"Received {', '.join(sorted(set(found)))} in the caption of {image_id}: "
            f"{_short(caption)}."
        )


def _id(value: Any) -> str:
    """An image id as text; tables write whole numbers as 7.0 where one row has none."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_strings(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(item, str) for item in value)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."
