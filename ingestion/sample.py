"""The generated data set: captioned scenes of coloured shapes, in Flickr8k's layout.

It is the default of the whole pipeline, so it is made for small networks trained from scratch:
shapes that differ clearly, captions that share most of their words. What is hard about captioning
is in it all the same: attributes have to be bound to objects, the objects put in relation, and
the test split asks for combinations that the train split does not show.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path

from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.fingerprint import code_of
from tfx_captioner.ingestion.publish import Staging
from tfx_captioner.ingestion.scenes import Scene, captions, is_held_out, random_scene

MANIFEST = "sample.json"
SCENES = "scenes.json"
SPLIT_FILES = {
    "train": "Flickr_8k.trainImages.txt",
    "val": "Flickr_8k.devImages.txt",
    "test": "Flickr_8k.testImages.txt",
}

_log = logging.getLogger("captioner.ingestion")


def generate_sample(
    out: Path, *, seed: int = 7, train: int = 2000, val: int = 150, test: int = 200
) -> None:
    """Writes a sample data set, unless the very same one is there already.

    A scene depends on the seed, its split and its number alone, so a larger sample begins with
    the scenes of a smaller one.

    Args:
      out: Folder to write: new, empty, or an earlier sample, which is then replaced.
      seed: Seeds scenes and captions.
      train: Scenes in the train split.
      val: Scenes in the val split, of the combinations the train split shows too.
      test: Scenes in the test split, of combinations the train split does not show.

    Raises:
      IngestError: A split would be empty, or `out` holds something that is not a sample.
    """
    sizes = {"train": train, "val": val, "test": test}
    for split, size in sizes.items():
        if size < 1:
            raise IngestError(f"`{split}` must be at least 1. Received: {size}.")
    code = code_of("sample.py", "scenes.py", "drawing.py")
    manifest = {"code": code, "seed": seed, **sizes}
    out = Path(out)
    if _existing_manifest(out) == manifest:
        _log.info("sample: %s is up to date", out)
        return
    _log.info("sample: drawing %d scenes into %s", sum(sizes.values()), out)
    with Staging(str(out.absolute())) as staging:
        folder = Path(staging.folder)
        _write(folder, seed, sizes)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        staging.publish(last=MANIFEST)


def load_scenes(path: Path) -> dict[str, Scene]:
    """Reads what is really to be seen in a sample's pictures.

    Args:
      path: Folder of a generated sample.

    Returns:
      The scene of each image, by file name, which is also the `image/id` of its Example.

    Raises:
      IngestError: The folder is no generated sample.
    """
    file = Path(path) / SCENES
    if not file.is_file():
        raise IngestError(f"{path} is no generated sample: it has no {SCENES}.")
    scenes = json.loads(file.read_text(encoding="utf-8"))
    return {name: Scene.from_dict(scene) for name, scene in scenes.items()}


def scenes_of_split(split: str, size: int, seed: int) -> Iterator[tuple[str, Scene, list[str]]]:
    """File name, scene and captions of each picture of a split."""
    for number in range(size):
        rng = random.Random(f"{seed}/{split}/{number}")
        scene = random_scene(rng)
        while is_held_out(scene) != (split == "test"):
            scene = random_scene(rng)
        yield f"{split}_{number:05d}.jpg", scene, captions(scene, rng)


def _write(folder: Path, seed: int, sizes: dict[str, int]) -> None:
    from tfx_captioner.ingestion.drawing import draw

    (folder / "Images").mkdir()
    tokens: list[str] = []
    truth: dict[str, dict] = {}
    for split, size in sizes.items():
        names = []
        for name, scene, texts in scenes_of_split(split, size, seed):
            draw(scene, f"{seed}/{name}").save(
                folder / "Images" / name, format="JPEG", quality=92, subsampling=0
            )
            names.append(name)
            tokens += [f"{name}#{index}\t{text}" for index, text in enumerate(texts)]
            truth[name] = dataclasses.asdict(scene)
        _write_lines(folder / SPLIT_FILES[split], names)
    _write_lines(folder / "Flickr8k.token.txt", tokens)
    lines = [f"{json.dumps(name)}: {json.dumps(scene)}" for name, scene in truth.items()]
    (folder / SCENES).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _write_lines(file: Path, lines: list[str]) -> None:
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _existing_manifest(out: Path) -> dict | None:
    """The manifest of the sample in `out`; None where there is nothing yet."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    manifest = out / MANIFEST
    if not manifest.is_file():
        raise IngestError(
            f"`out` must be a new or empty folder, or an earlier sample. {out} holds other files "
            f"and no {MANIFEST}; nothing was written."
        )
    return json.loads(manifest.read_text(encoding="utf-8"))
