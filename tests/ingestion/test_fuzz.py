"""All readers against spoilt data sets: errors are for people, and nothing is lost uncounted.

A short pass with fixed seeds is part of the suite. `CAPTIONER_FUZZ_EXAMPLES=20000` makes every
form try that many, other ones each time:

    CAPTIONER_FUZZ_EXAMPLES=20000 pytest tests/ingestion/test_fuzz.py
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.ingestion import datasets
from tfx_captioner.ingestion.annotations import Annotations
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.files import is_hidden
from tfx_captioner.ingestion.inventory import Inventory
from tfx_captioner.ingestion.names import is_image_name
from tfx_captioner.ingestion.plan import plan_shards, read_plan, select_images
from tfx_captioner.ingestion.readers.registry import READERS, choose_reader
from tfx_captioner.ingestion.summary import rejected_lines

EXAMPLES = os.environ.get("CAPTIONER_FUZZ_EXAMPLES")
FUZZ = settings(
    max_examples=int(EXAMPLES or 40),
    derandomize=EXAMPLES is None,
    database=None,
    deadline=None,
    suppress_health_check=[*HealthCheck],
)
NAMES = [f"{number:03d}.jpg" for number in range(10)]

# What breaks readers in practice: separators, quotes, marks, halves of characters, paths, numbers.
NASTY = (
    *(b'"', b'""', b",", b"|", b"\t", b"#", b"\n", b"\r", b"\0", b"\\", b"{", b"[", b"]", b"}"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9", b"\xed\xa0\x80", b"\\ud800", b"\xe2\x80\xa8"),
    *(b"../", b"/etc/passwd", b"a://b", b"<b>", b"&amp;", b"startseq", b"nan", b"NaN", b"1e999"),
    *(b"9" * 5000, b"[" * 3000, b"Images/", b".JPG", b"train", b"", b"\n\n,\n", b'"\n"'),
)
NASTY_NAMES = (
    *(
        b"../../s.jpg",
        b"/etc/s.jpg",
        b"gs://b/s.jpg",
        b"\xe9.jpg",
        b"a\0.jpg",
        b"003.jpg",
        b"A.jpg",
    ),
    *(b"dangling.jpg", b"deep.jpg", b"sub/005.jpg", b"Images/004.jpg", b"007", b"", b" ", b"nan"),
)
TEXTS = st.one_of(
    st.text(st.characters(codec=None), max_size=12),
    st.sampled_from([*NAMES, "../a.jpg", "/etc/a.jpg", "\ud800", "a\0", "", "x/000.jpg", "nan"]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def write_images(folder: Path) -> None:
    """Pictures, and all that is odd in a folder of pictures."""
    datasets.write_images(folder, NAMES)
    datasets.write_images(folder / "sub", ["deep.jpg", "005.jpg"])
    (folder / "dangling.jpg").symlink_to("/nowhere")
    (folder / "A.JPG").write_bytes(b"")
    (folder / "a.jpg").write_bytes(b"")
    (folder / "notes.txt").touch()
    (folder / ".hidden.jpg").touch()
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).touch()


def flickr8k(root: Path) -> Path:
    write_images(root / "Images")
    lines = [f"{name}#{n}\tCaption {n} of {name} ." for name in NAMES for n in range(2)]
    (root / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    for index, split in enumerate(datasets.SPLIT_FILES.values()):
        (root / split).write_text("\n".join(NAMES[index::3]) + "\n")
    return root / "Flickr8k.token.txt"


def flickr8k_kaggle(root: Path) -> Path:
    write_images(root / "Images")
    lines = [f'{name},"First, of ""{name}"" ."\n{name},Second of {name}' for name in NAMES]
    (root / "captions.txt").write_text("image,caption\n" + "\n".join(lines) + "\n")
    return root / "captions.txt"


def flickr30k_kaggle(root: Path) -> Path:
    write_images(root / "flickr30k_images")
    lines = [f"{name}| {n}| Caption {n} of {name} ." for name in NAMES for n in range(2)]
    text = "image_name| comment_number| comment\n" + "\n".join(lines) + "\n"
    (root / "results.csv").write_text(text)
    return root / "results.csv"


def karpathy(root: Path) -> Path:
    write_images(root / "Images")
    images = [
        {
            "filename": name,
            "imgid": number,
            "split": ("train", "val", "test", "restval", "other")[number % 5],
            "sentences": [{"raw": f"Caption {n} of {name}", "sentid": n} for n in range(2)],
        }
        for number, name in enumerate(NAMES)
    ]
    (root / "dataset_flickr8k.json").write_text(json.dumps({"images": images}))
    return root / "dataset_flickr8k.json"


def coco(root: Path) -> Path:
    datasets.write_coco(root, train=8, val=8)
    write_images(root / "train2017")
    return root / "annotations" / "captions_train2017.json"


def imagefolder(root: Path) -> Path:
    for folder in ("train", "validation", "test"):
        write_images(root / folder)
        rows = [{"file_name": name, "text": f"In {folder}: {name}"} for name in NAMES]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (root / folder / "metadata.jsonl").write_text(text)
    return root / "train" / "metadata.jsonl"


def table(root: Path) -> Path:
    write_images(root / "images")
    rows = [
        f'{name};"Of {name}; so";{("train", "val", "test")[n % 3]}\n'
        for n, name in enumerate(NAMES)
    ]
    (root / "photos.csv").write_text("image;caption;split\n" + "".join(rows))
    return root / "photos.csv"


def webdataset(root: Path) -> Path:
    for split in ("train", "val", "test"):
        root.mkdir(exist_ok=True)
        with tarfile.open(root / f"{split}.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for number in range(3):
                for suffix, data in (
                    ("jpg", datasets.jpeg()),
                    ("txt", b"A caption"),
                    ("json", b'{"caption": "A caption"}'),
                ):
                    member = tarfile.TarInfo(f"{number:03d}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return root / "train.tar"


FORMS: dict[str, Callable[[Path], Path]] = {
    write.__name__: write
    for write in (
        *(flickr8k, flickr8k_kaggle, flickr30k_kaggle, karpathy, coco, imagefolder, table),
        webdataset,
    )
}
IN_JSON = ("karpathy", "coco")
CONFIG = IngestConfig(val_share=0.3, test_share=0.3, max_rejected_share=1.0)


def test_every_reader_is_fuzzed() -> None:
    assert FORMS.keys() == {reader.name for reader in READERS}


@pytest.fixture(scope="module")
def spoilt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """A data set of one form, with the file that is to be spoilt and what is in it."""
    root = tmp_path_factory.mktemp("fuzz") / request.param
    path = FORMS[request.param](root)
    return request.param, root, path, path.read_bytes()


@pytest.mark.parametrize("spoilt", FORMS, indirect=True)
@FUZZ
@given(st.data())
def test_spoilt_bytes(spoilt: tuple[str, Path, Path, bytes], data: st.DataObject) -> None:
    form, root, path, content = spoilt
    edits = data.draw(
        st.lists(
            st.tuples(
                st.integers(0, len(content)),
                st.integers(0, 12),
                st.one_of(st.sampled_from(NASTY), st.binary(max_size=6)),
            ),
            max_size=4,
        )
    )
    renamed = st.tuples(st.sampled_from(NAMES), st.sampled_from(NASTY_NAMES))
    for old, new in data.draw(st.lists(renamed, min_size=1, max_size=3)):
        content = content.replace(old.encode(), new, data.draw(st.integers(1, 3)))
    for start, length, new in edits:
        content = content[:start] + new + content[start + length :]
    if data.draw(st.integers(0, 3)) == 0:
        content = content[: data.draw(st.integers(0, len(content)))]
    path.write_bytes(content)
    check(form, root)


@pytest.mark.parametrize("spoilt", IN_JSON, indirect=True)
@FUZZ
@given(st.data())
def test_spoilt_values(spoilt: tuple[str, Path, Path, bytes], data: st.DataObject) -> None:
    form, root, path, content = spoilt
    tree = json.loads(content)
    for _ in range(data.draw(st.integers(1, 4))):
        spoil(tree, data)
    path.write_text(json.dumps(tree))
    found = check(form, root)
    if found and form == "karpathy":
        sentences = (entry.get("sentences") for entry in entries(tree, "images"))
        named = [some for some in sentences if isinstance(some, list)]
        assert found.caption_lines >= sum(map(len, named))
    elif found:
        assert found.caption_lines >= len(tree["annotations"])


def entries(tree: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """Entries of a spoilt list whose captions must be counted."""
    return [
        x
        for x in tree[key]
        if isinstance(x, dict) and x.get("filename") and isinstance(x["filename"], str)
    ]


def spoil(tree: Any, data: st.DataObject) -> None:
    """Puts another value somewhere into a JSON value, or has an entry twice."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if not isinstance(tree[key], dict | list) or data.draw(st.integers(0, 3)) == 0:
            break
        tree = tree[key]
    if isinstance(tree, list) and data.draw(st.booleans()):
        tree.append(tree[key])
    else:
        tree[key] = data.draw(VALUES)


def check(form: str, root: Path) -> Annotations | None:
    """Reads and plans a data set; errors must be ours, and all that goes in must be counted."""
    source = str(root)
    try:
        choose_reader(source)
    except IngestError as error:
        str(error).encode()
    try:
        annotations = choose_reader(source, form).read(source, CONFIG)
    except IngestError as error:
        str(error).encode()
        return None
    inventory = Inventory.take(source, annotations)
    try:
        selected = select_images(inventory)
    except IngestError as error:
        str(error).encode()
        selected = {}
    account_for_captions(annotations)
    if selected:
        account_for_images(inventory, selected)
        work = root.parent / "work"
        work.mkdir(exist_ok=True)
        shards = plan_shards(
            inventory, selected, staging=str(work), work=str(work), shard_bytes=10**6
        )
        planned = [image for shard in shards for image in read_plan(shard)]
        assert len(planned) == sum(map(len, selected.values()))
        for image in planned:
            assert image.captions
            "".join([image.id, image.path, *image.captions]).encode()
            assert not image.path.startswith(("/", "../"))
    for line in rejected_lines(annotations.rejected).split("\n")[:-1]:
        json.loads(line.encode())
    return annotations


def account_for_captions(annotations: Annotations) -> None:
    kept = sum(map(len, annotations.captions.values()))
    rejected = sum(not entry.reason.is_bad_image for entry in annotations.rejected)
    assert annotations.caption_lines == kept + rejected


def account_for_images(inventory: Inventory, selected: dict[str, list[str]]) -> None:
    annotations = inventory.annotations
    written = [image for images in selected.values() for image in images]
    rejected = {entry.what for entry in annotations.rejected if entry.reason.is_bad_image}
    mentioned = annotations.captions.keys() | annotations.splits.keys() | annotations.refused
    assert len(written) == len({*written})
    assert not rejected & {*written}
    assert mentioned == {*written} | (rejected & mentioned)
    paths = {annotations.paths[image] for image in written}
    told = {entry.where for entry in annotations.rejected} | annotations.refused_paths
    told |= {annotations.paths.get(image, "") for image in rejected}
    for path in [*inventory.files, *inventory.unusable]:
        if is_image_name(path) and not is_hidden(path):
            unsplit = {
                f"{folder}/{x}".lstrip("/")
                for folder in annotations.image_folders
                for x in rejected
            }
            assert path in paths | told | unsplit
