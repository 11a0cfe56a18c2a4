"""Files of captions: forms that are read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tfx_captioner.metrics import caption_files


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


COCO_REFERENCES = {
    "images": [{"id": 7}],
    "annotations": [
        {"id": 1, "image_id": 7, "caption": "A dog ."},
        {"id": 2, "image_id": 7, "caption": "The dog runs ."},
    ],
}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("coco.json", COCO_REFERENCES, {"7": ["A dog .", "The dog runs ."]}),
        ("plain.json", {"7": ["A dog .", "x"]}, {"7": ["A dog .", "x"]}),
        ("token.txt", "7.jpg#0\tA dog .\r\n7.jpg#1\tx\n\n", {"7.jpg": ["A dog .", "x"]}),
        ("bom.txt", "\ufeff7.jpg#0\tA dog .\n", {"7.jpg": ["A dog ."]}),
        ("bom.json", '\ufeff{"7": ["A dog ."]}', {"7": ["A dog ."]}),
        ("an image called so.json", {"images": ["A dog ."]}, {"images": ["A dog ."]}),
        ("floats.json", [{"image_id": 7.0, "caption": "x"}], {"7": ["x"]}),
        (
            "captions.txt",  # as on Kaggle
            'image,caption\r\n1.jpg,A dog .\r\n1.jpg,"A man , a ""dog"" ."\r\n',
            {"1.jpg": ["A dog .", 'A man , a "dog" .']},
        ),
        (
            "quoted.csv",
            '\ufeff"","Image","caption"\n"0","1.jpg","Two\nlines"\n',
            {"1.jpg": ["Two\nlines"]},
        ),
    ],
)
def test_forms_of_references(tmp_path: Path, name: str, content: Any, expected: Any) -> None:
    assert caption_files.read_references(write(tmp_path / name, content)) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", [{"image_id": 7, "caption": "a dog"}]),
        ("plain.json", {"7": "a dog"}),
        ("token.txt", "7#0\ta dog\n"),
        ("bare.txt", "7\ta dog\n"),
        ("list.json", {"7": ["a dog"]}),
        ("bom.json", '\ufeff{"7": "a dog"}'),
        ("captions.jsonl", '{"photo": "album/7", "caption": "a dog", "score": -0.5}\n\n'),
        ("lines.txt", '{"photo": "7", "caption": "a dog", "score": -0.5, "version": 3}\n'),
        ("lines.json", '{"photo": "7", "captions": [{"caption": "a dog"}, {"caption": "x"}]}'),
        ("ids.jsonl", '{"image_id": 7, "caption": "a dog"}\r\n'),
        ("table.csv", "image,caption\n7,a dog\n"),
    ],
)
def test_forms_of_hypotheses(tmp_path: Path, name: str, content: Any) -> None:
    assert caption_files.read_hypotheses(write(tmp_path / name, content)) == {"7": "a dog"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", {"7": "a dog"}, "must be a list of strings. Received a single string: 7."),
        ("a.json", {"7": [1]}, "at least one. Received: 7: \\[1\\]."),
        ("a.json", {}, "holds no references"),
        ("a.json", "{", "no valid JSON"),
        ("a.json", '"x"', "must hold a list of objects"),
        ("a.json", [{"image": 1}], "entry 0 must be an object with `image_id` and `caption`"),
        ("a.json", [{"image_id": 1, "caption": ["a"]}], "`caption` of entry 0 must be a string"),
        ("a.txt", "7.jpg a dog\n", "a.txt:1 must be `file#number<TAB>caption`"),
        ("a.txt", "7#0\ta\n7#0\tb\n", "a.txt:2: caption numbers must be unique. Twice: 7#0."),
        ("a.txt", "7#0\t<start> a dog\n", "Received <start> in the caption of 7"),
        ("a.json", '{"7": ["x"], "7": ["y"]}', "a.json is no valid JSON: .* unique. Twice: 7"),
        ("a.json", '{"7": ["\\ud83d"]}', "half a surrogate pair in the caption of '7'"),
        ("a.csv", "image,caption\n1.jpg,a dog, a cat\n", "a.csv:2 must have 2 columns"),
        ("a.csv", 'image,caption\n1.jpg,"a\n', "a.csv:2 is no valid CSV"),
    ],
)
def test_refused_references(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        caption_files.read_references(write(tmp_path / name, content))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "7#0\ta dog\n7#1\ta cat\n", "every image needs one caption. Received two: 7."),
        ("a.json", {"7": ["a dog", "x"]}, "must be a string, or a list of one. Received: 7:"),
        ("a.json", '{"7": "x", "7": "y"}', "unique. Twice: 7"),
        ("a.csv", "image,caption\n7,x\n7,y\n", "Received two: 7."),
        ("a.jsonl", '{"photo": "7", "error": "no JPEG or PNG"}', "7 has no caption: no JPEG"),
        ("a.jsonl", '{"photo": "a/7", "caption": "x"}\n{"photo": "b/7", "caption": "x"}', "two: 7"),
        ("a.jsonl", '{"caption": "x"}', "a.jsonl:1 must be an object with `photo` or `image_id`"),
        ("a.jsonl", '{"photo": "7", "caption": null}', "a.jsonl:1: `caption` must be a string"),
        ("a.json", {"7": "startseq a dog endseq"}, "Received endseq, startseq in the caption of 7"),
        ("a.json", {"7": "a dog [SEP]"}, "start, end and padding tokens must be removed"),
        ("a.json", [], "holds no captions"),
    ],
)
def test_refused_hypotheses(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        caption_files.read_hypotheses(write(tmp_path / name, content))


def karpathy(**ids: Any) -> dict[str, Any]:
    return {
        "dataset": "flickr8k",
        "images": [
            {"filename": "1.jpg", "split": "train", "sentences": [{"raw": "A dog ."}], **ids},
            {"filename": "2.jpg", "split": "test", "sentences": [{"raw": "A cat ."}, {"raw": "x"}]},
        ],
    }


def test_karpathys_splits(tmp_path: Path) -> None:
    path = write(tmp_path / "dataset_flickr8k.json", karpathy())
    assert caption_files.read_references(path) == {"1.jpg": ["A dog ."], "2.jpg": ["A cat .", "x"]}
    assert caption_files.read_references(path, "test") == {"2.jpg": ["A cat .", "x"]}
    with pytest.raises(ValueError, match=r"has the splits test, train. Received: dev."):
        caption_files.read_references(path, "dev")


def test_karpathys_coco_has_the_ids_of_coco(tmp_path: Path) -> None:
    path = write(tmp_path / "dataset_coco.json", karpathy(cocoid=7))
    assert list(caption_files.read_references(path, "train")) == ["7"]


def test_an_image_that_comes_twice_in_karpathys_json(tmp_path: Path) -> None:
    data = karpathy()
    data["images"] *= 2
    with pytest.raises(ValueError, match=r"images must be unique. Twice: 2.jpg"):
        caption_files.read_references(write(tmp_path / "a.json", data), "test")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (7, "image 0 must be an object with `filename`"),
        (
            {"filename": "1.jpg", "sentences": ["a"]},
            "sentences of 1.jpg must be objects with `raw`",
        ),
    ],
)
def test_refused_images_of_karpathys_json(tmp_path: Path, image: Any, message: str) -> None:
    data = karpathy()
    data["images"][0] = image
    with pytest.raises(ValueError, match=message):
        caption_files.read_references(write(tmp_path / "a.json", data))


def test_only_karpathys_json_has_splits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a.txt has no splits"):
        caption_files.read_references(write(tmp_path / "a.txt", "1#0\tx\n"), "test")


def test_utf_16_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("7#0\ta dog\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"a.txt must be UTF-8 text"):
        caption_files.read_references(path)
