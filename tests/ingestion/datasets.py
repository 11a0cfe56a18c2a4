"""Handmade data sets of every form, for the tests of this folder."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

NAMES = {"train": ["a.jpg", "b.jpg", "c.jpg"], "val": ["d.jpg"], "test": ["e.jpg"]}
ALL = [name for names in NAMES.values() for name in names]
SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}


def jpeg(size: tuple[int, int] = (40, 30), colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    """A plain picture."""
    return encoded(Image.new("RGB", size, colour), "JPEG")


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def write_images(folder: Path, names: list[str] = ALL) -> None:
    """Writes pictures that differ from each other."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        pattern = Image.frombytes("RGB", (5, 4), random.Random(name).randbytes(60))
        picture = pattern.resize((40 + number % 20, 30), Image.Resampling.NEAREST)
        (folder / name).write_bytes(encoded(picture, "JPEG"))


def write_flickr8k(root: Path) -> Path:
    """Flickr8k as published, two captions per image."""
    write_images(root / "Images")
    lines = [f"{name}#{n}\tCaption {n} of {name} ." for name in ALL for n in range(2)]
    (root / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    write_split_files(root)
    return root


def write_split_files(root: Path) -> None:
    """The three split files of Flickr8k."""
    for split, names in NAMES.items():
        (root / SPLIT_FILES[split]).write_text("\n".join(names) + "\n")


def write_flickr8k_kaggle(root: Path, names: list[str] = ALL) -> Path:
    """`captions.txt`, without split files."""
    write_images(root / "Images", names)
    lines = ["image,caption"]
    for name in names:
        lines += [f"{name},First caption of {name} .", f'{name},"Second , with ""commas"" ."']
    (root / "captions.txt").write_text("\n".join(lines) + "\n")
    return root


def write_flickr30k_kaggle(root: Path, names: list[str]) -> Path:
    """`results.csv` and its doubled image folder."""
    write_images(root / "flickr30k_images" / "flickr30k_images", names)
    lines = ["image_name| comment_number| comment"]
    lines += [f"{name}| {n}| Caption {n} of {name} ." for name in names for n in range(2)]
    (root / "flickr30k_images" / "results.csv").write_text("\n".join(lines) + "\n")
    return root


def write_karpathy(root: Path) -> Path:
    """`dataset_flickr8k.json`, one of whose train images is in `restval`."""
    write_images(root / "Images")
    splits = {name: split for split, names in NAMES.items() for name in names} | {
        "c.jpg": "restval"
    }
    images = [
        {
            "filename": name,
            "split": split,
            "sentences": [
                {"raw": f"Second of {name} .", "tokens": [], "sentid": 2 * number + 1},
                {"raw": f"First of {name} .", "tokens": [], "sentid": 2 * number},
            ],
        }
        for number, (name, split) in enumerate(splits.items())
    ]
    content = {"images": images, "dataset": "flickr8k"}
    (root / "dataset_flickr8k.json").write_text(json.dumps(content))
    return root


def write_coco(root: Path, year: str = "2017", train: int = 6, val: int = 12) -> Path:
    """COCO captions of one year."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    first = 1
    for part, size in (("train", train), ("val", val)):
        keys = list(range(first, first + size))
        first += size
        write_images(root / f"{part}{year}", [f"{key:012d}.jpg" for key in keys])
        content = {
            "images": [{"id": key, "file_name": f"{key:012d}.jpg"} for key in keys],
            "annotations": [
                {"id": 10 * key + n, "image_id": key, "caption": f"Caption {n} of {key}."}
                for key in keys
                for n in range(2)
            ],
        }
        path = root / "annotations" / f"captions_{part}{year}.json"
        path.write_text(json.dumps(content))
    return root


def edit_json(path: Path, edit: Callable[[Any], object]) -> None:
    """Changes the value in a JSON file."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
