"""Readers: each form, how it is recognised, and what is fatal about it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ingestion import datasets
from tfx_captioner.ingestion.annotations import Annotations, Reason
from tfx_captioner.ingestion.config import IngestConfig
from tfx_captioner.ingestion.errors import IngestError
from tfx_captioner.ingestion.readers.flickr8k import parse_token_line
from tfx_captioner.ingestion.readers.kaggle import parse_bar_line, parse_csv_line
from tfx_captioner.ingestion.readers.registry import choose_reader

MANY = [f"{number:03d}.jpg" for number in range(60)]


def read(source: Path, **settings: object) -> tuple[str, Annotations]:
    config = IngestConfig(**settings)
    reader = choose_reader(str(source), config.format)
    return reader.name, reader.read(str(source), config)


def reasons(found: Annotations) -> list[str]:
    return [rejection.reason.value for rejection in found.rejected]


def test_flickr8k_as_published(flickr8k: Path) -> None:
    form, found = read(flickr8k)
    assert form == "flickr8k"
    assert found.splits == {n: s for s, names in datasets.NAMES.items() for n in names}
    assert found.ordered_captions("d.jpg") == ["Caption 0 of d.jpg .", "Caption 1 of d.jpg ."]
    assert found.paths["d.jpg"] == "Images/d.jpg"
    assert not found.rejected


def test_flickr8k_in_the_two_folders_of_its_archives(flickr8k: Path) -> None:
    (flickr8k / "Flickr8k_text").mkdir()
    for file in flickr8k.glob("*.txt"):
        file.rename(flickr8k / "Flickr8k_text" / file.name)
    (flickr8k / "Images").rename(flickr8k / "Flicker8k_Dataset")
    form, found = read(flickr8k)
    assert form == "flickr8k"
    assert found.paths["a.jpg"] == "Flicker8k_Dataset/a.jpg"


def test_flickr8k_on_kaggle_is_split_by_hash(tmp_path: Path) -> None:
    datasets.write_flickr8k_kaggle(tmp_path, MANY)
    form, found = read(tmp_path, val_share=0.2, test_share=0.3)
    assert form == "flickr8k_kaggle"
    assert found.ordered_captions("007.jpg") == [
        "First caption of 007.jpg .",
        'Second , with "commas" .',
    ]
    counts = [list(found.splits.values()).count(split) for split in ("train", "val", "test")]
    assert sum(counts) == 60
    assert all(
        abs(count - share * 60) < 12 for count, share in zip(counts, (0.5, 0.2, 0.3), strict=True)
    )
    assert "hash" in found.split_rule
    assert "val 0.2, test 0.3" in found.split_rule


def test_new_images_move_no_other_image_to_another_split(tmp_path: Path) -> None:
    few = read(datasets.write_flickr8k_kaggle(tmp_path / "few", MANY[:30]))[1].splits
    many = read(datasets.write_flickr8k_kaggle(tmp_path / "many", MANY))[1].splits
    assert few.items() <= many.items()


def test_flickr8k_on_kaggle_with_split_files_beside_it(tmp_path: Path) -> None:
    datasets.write_flickr8k_kaggle(tmp_path)
    datasets.write_split_files(tmp_path)
    form, found = read(tmp_path)
    assert form == "flickr8k_kaggle"
    assert found.splits["e.jpg"] == "test"


def test_published_form_wins_over_captions_txt(flickr8k: Path) -> None:
    datasets.write_flickr8k_kaggle(flickr8k)
    assert read(flickr8k)[0] == "flickr8k"
    assert read(flickr8k, format="flickr8k_kaggle")[0] == "flickr8k_kaggle"


def test_flickr30k_on_kaggle(tmp_path: Path) -> None:
    datasets.write_flickr30k_kaggle(tmp_path, MANY)
    form, found = read(tmp_path)
    assert form == "flickr30k_kaggle"
    assert found.paths["000.jpg"] == "flickr30k_images/flickr30k_images/000.jpg"
    assert found.ordered_captions("000.jpg")[1] == "Caption 1 of 000.jpg ."


def test_karpathy(tmp_path: Path) -> None:
    form, found = read(datasets.write_karpathy(tmp_path))
    assert form == "karpathy"
    assert found.splits["c.jpg"] == "train"
    assert found.ordered_captions("e.jpg") == ["First of e.jpg .", "Second of e.jpg ."]


def test_karpathy_of_coco_names_a_folder_per_image(tmp_path: Path) -> None:
    entries = [
        {"filename": "x.jpg", "filepath": "train2014", "split": "train", "sentences": []},
        {"filename": "y.jpg", "filepath": "val2014", "split": "restval", "sentences": []},
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": entries}))
    (tmp_path / "train2014").mkdir()
    (tmp_path / "images" / "val2014").mkdir(parents=True)
    _, found = read(tmp_path)
    assert found.paths == {"x.jpg": "train2014/x.jpg", "y.jpg": "images/val2014/y.jpg"}


def test_karpathy_entries_that_are_not_whole(tmp_path: Path) -> None:
    datasets.write_karpathy(tmp_path)
    path = tmp_path / "dataset_flickr8k.json"
    content = json.loads(path.read_text())
    content["images"].append({"split": "train"})
    content["images"][0]["sentences"].append({"tokens": []})
    path.write_text(json.dumps(content))
    _, found = read(tmp_path)
    assert reasons(found) == ["caption_unparsable"] * 2
    assert found.rejected[1].where == "dataset_flickr8k.json:images[5]"


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_coco(tmp_path: Path, year: str) -> None:
    form, found = read(datasets.write_coco(tmp_path, year))
    assert form == "coco"
    assert found.splits["1"] == "train"
    assert {found.splits[str(key)] for key in range(7, 19)} == {"val", "test"}
    assert found.paths["7"] == f"val{year}/000000000007.jpg"
    assert found.ordered_captions("7") == ["Caption 0 of 7.", "Caption 1 of 7."]
    assert "published val split" in found.split_rule


def test_coco_of_two_years_is_ambiguous(tmp_path: Path) -> None:
    datasets.write_coco(tmp_path, "2014")
    datasets.write_coco(tmp_path, "2017")
    with pytest.raises(IngestError, match=r"one year\. Received: 2014 and 2017"):
        read(tmp_path)


def test_coco_needs_both_shares(tmp_path: Path) -> None:
    datasets.write_coco(tmp_path)
    with pytest.raises(IngestError, match="`val_share` and `test_share` must both be more than 0"):
        read(tmp_path, test_share=0.0)


def test_two_forms_with_splits_are_ambiguous(flickr8k: Path) -> None:
    datasets.write_karpathy(flickr8k)
    with pytest.raises(IngestError) as raised:
        read(flickr8k)
    for part in ("could be flickr8k and karpathy", "Flickr8k.token.txt", "dataset_flickr8k.json"):
        assert part in str(raised.value)
    assert "results.csv" not in str(raised.value)
    assert read(flickr8k, format="karpathy")[0] == "karpathy"


def test_unknown_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "holiday.docx").touch()
    with pytest.raises(IngestError) as raised:
        read(tmp_path)
    for part in (
        "Flickr8k.token.txt",
        "captions.txt",
        "results.csv",
        "dataset_flickr30k.json",
        "captions_train2014.json",
        "holiday.docx",
    ):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    "form", ["flickr8k", "flickr8k_kaggle", "flickr30k_kaggle", "karpathy", "coco"]
)
def test_forced_form_says_what_it_needs(tmp_path: Path, form: str) -> None:
    with pytest.raises(IngestError, match=r"needs \S+\.|must hold .*\.json"):
        read(tmp_path, format=form)


def test_source_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match=r"`source` must be a folder\. Received: .*nowhere"):
        read(tmp_path / "nowhere")


def test_missing_split_file_is_named(flickr8k: Path) -> None:
    (flickr8k / "Flickr_8k.devImages.txt").unlink()
    with pytest.raises(IngestError, match=r"not Flickr_8k\.devImages\.txt"):
        read(flickr8k)


def test_missing_image_folder(flickr8k: Path) -> None:
    (flickr8k / "Images").rename(flickr8k / "Elsewhere")
    with pytest.raises(IngestError, match=r"No folder of images.*Flicker8k_Dataset"):
        read(flickr8k)


def test_same_image_in_two_splits(flickr8k: Path) -> None:
    with (flickr8k / "Flickr_8k.testImages.txt").open("a") as file:
        file.write("a.jpg\n")
    with pytest.raises(IngestError, match=r"a\.jpg is in train and in test \(.*testImages.txt:2\)"):
        read(flickr8k)


@pytest.mark.parametrize("content", ["{", "[]", '{"images": 3}', '{"images": [3]}'])
def test_json_of_another_kind(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset_flickr8k.json").write_text(content)
    with pytest.raises(IngestError, match=r"dataset_flickr8k\.json"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("line", "reason", "detail"),
    [
        (b"a.jpg#2 no tab here", Reason.CAPTION_UNPARSABLE, "no tab"),
        (b"a.jpg\tno number", Reason.CAPTION_UNPARSABLE, "image#number"),
        (b"a.jpg#x\tno number", Reason.CAPTION_UNPARSABLE, "image#number"),
        (b"a.jpg#2\t\xff\xfe", Reason.CAPTION_UNPARSABLE, "no UTF-8"),
        (b"a.jpg#2\t   ", Reason.CAPTION_EMPTY, ""),
        (b"a.jpg#2\t . !", Reason.CAPTION_EMPTY, ""),
    ],
)
def test_bad_caption_line_costs_itself_only(
    flickr8k: Path, line: bytes, reason: Reason, detail: str
) -> None:
    path = flickr8k / "Flickr8k.token.txt"
    path.write_bytes(line + b"\n" + path.read_bytes())
    _, found = read(flickr8k)
    assert [(r.reason, r.where) for r in found.rejected] == [(reason, "Flickr8k.token.txt:1")]
    assert detail in found.rejected[0].detail
    assert found.caption_lines == 11
    assert sum(len(captions) for captions in found.captions.values()) == 10


def test_line_of_flickr30k_without_its_second_separator(tmp_path: Path) -> None:
    datasets.write_flickr30k_kaggle(tmp_path, MANY)
    with (tmp_path / "flickr30k_images" / "results.csv").open("a") as file:
        file.write("2199200615.jpg| 4   A dog runs across the grass .\n")
    _, found = read(tmp_path)
    assert reasons(found) == ["caption_unparsable"]
    assert found.rejected[0].where == "flickr30k_images/results.csv:122"


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("000.jpg", "no comma"),
        (",A dog .", "no image before the comma"),
        ('000.jpg,"A "dog" .', "no valid CSV"),
        ('000.jpg,"A dog .', "no valid CSV"),
    ],
)
def test_bad_line_of_captions_txt(tmp_path: Path, line: str, detail: str) -> None:
    datasets.write_flickr8k_kaggle(tmp_path, MANY)
    path = tmp_path / "captions.txt"
    path.write_text(f"{path.read_text()}{line}\n")
    _, found = read(tmp_path)
    assert [(r.reason, r.where) for r in found.rejected] == [
        (Reason.CAPTION_UNPARSABLE, "captions.txt:122")
    ]
    assert detail in found.rejected[0].detail


def test_captions_in_any_script_and_with_windows_line_ends(flickr8k: Path) -> None:
    path = flickr8k / "Flickr8k.token.txt"
    text = "\ufeff" + path.read_text() + "a.jpg#2\t一只狗在草地上跑\u2028。\n"
    path.write_bytes(text.replace("\n", "\r\n").encode())
    _, found = read(flickr8k)
    assert not found.rejected
    assert found.ordered_captions("a.jpg")[2] == "一只狗在草地上跑\u2028。"


def captions_txt(root: Path, text: str, encoding: str = "utf-8") -> Annotations:
    """Reads a captions.txt of this content, all of whose images are there."""
    datasets.write_flickr8k_kaggle(root, MANY)
    (root / "captions.txt").write_bytes(text.encode(encoding))
    return read(root)[1]


def test_every_column_quoted_as_pandas_does_it(tmp_path: Path) -> None:
    text = '"image","caption"\n"000.jpg","A dog, a cat"\n"001.jpg","A ""red"" ball"\n'
    found = captions_txt(tmp_path, text)
    assert found.ordered_captions("000.jpg") == ["A dog, a cat"]
    assert found.ordered_captions("001.jpg") == ['A "red" ball']
    assert not found.rejected


def test_line_feed_in_a_quoted_caption(tmp_path: Path) -> None:
    text = 'image,caption\n000.jpg,"A man in a hat\nholds, up, a sign ."\n001.jpg,A cat\n'
    found = captions_txt(tmp_path, text)
    assert found.ordered_captions("000.jpg") == ["A man in a hat holds, up, a sign ."]
    assert found.ordered_captions("001.jpg") == ["A cat"]
    assert found.mended == {"control characters": 1}
    assert not found.rejected


def test_quote_that_is_never_closed_costs_one_caption(tmp_path: Path) -> None:
    lines = ['000.jpg,"A dog', '001.jpg,"A cat"', '002.jpg,6" of snow', "003.jpg,A bird"]
    found = captions_txt(tmp_path, "\n".join(["image,caption", *lines]))
    assert found.captions.keys() == {"001.jpg", "002.jpg", "003.jpg"}
    assert found.ordered_captions("001.jpg") == ["A cat"]
    assert [rejection.where for rejection in found.rejected] == ["captions.txt:2"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    found = captions_txt(tmp_path, "image,caption\r\n000.jpg,Ein Bär\r\n", encoding)
    assert found.ordered_captions("000.jpg") == ["Ein Bär"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_encodings_of_json(tmp_path: Path, encoding: str) -> None:
    path = datasets.write_karpathy(tmp_path) / "dataset_flickr8k.json"
    path.write_bytes(path.read_text().encode(encoding))
    assert read(tmp_path)[1].ordered_captions("a.jpg")[0] == "First of a.jpg ."


@pytest.mark.parametrize("header", ["name;title", "a,b,c", "Bild,Beschreibung"])
def test_unknown_header_is_shown(tmp_path: Path, header: str) -> None:
    with pytest.raises(IngestError) as raised:
        captions_txt(tmp_path, f"{header}\n000.jpg,A dog\n")
    assert f"captions.txt begins with '{header}'" in str(raised.value)


NAME = st.text(st.characters(categories=("L", "N"), include_characters="_.-"), min_size=1)
TEXT = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=("Cs",)))


@given(NAME, st.integers(0, 99), TEXT)
def test_token_line_round_trip(name: str, number: int, text: str) -> None:
    assert parse_token_line(f"{name}#{number}\t{text}") == (name, number, text)


@given(NAME, TEXT)
def test_quoted_csv_line_round_trip(name: str, text: str) -> None:
    quoted = text.replace('"', '""')
    assert parse_csv_line(f'{name},"{quoted}"') == (name, 0, text)


@given(NAME, TEXT.filter(lambda text: not text.lstrip().startswith('"')))
def test_unquoted_csv_line_keeps_its_commas(name: str, text: str) -> None:
    assert parse_csv_line(f"{name},{text}") == (name, 0, text)


@given(NAME, st.integers(0, 99), TEXT)
def test_bar_line_round_trip(name: str, number: int, text: str) -> None:
    assert parse_bar_line(f"{name}| {number}| {text}") == (name, number, text.strip())


@given(st.one_of(TEXT, NAME))
@pytest.mark.parametrize("parse", [parse_token_line, parse_csv_line, parse_bar_line])
def test_parsers_raise_nothing_but_value_errors(parse, line: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse(line)[0]
