"""Captions that are mended, set aside, or counted once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ingestion import datasets
from tests.ingestion.outcome import run
from tfx_captioner.ingestion.captions import UnusableCaptionError, clean_caption
from tfx_captioner.ingestion.reasons import Reason

NAMES = [f"{number:03d}.jpg" for number in range(24)]
SPREAD = {"val_share": 0.2, "test_share": 0.2}


@pytest.mark.parametrize(
    ("text", "caption", "mended"),
    [
        ("  A dog runs .  ", "A dog runs .", []),
        ("A dog  runs\u2028.", "A dog  runs\u2028.", []),
        ("Tom &amp; Jerry &#39;s dog", "Tom & Jerry 's dog", ["html"]),
        ("a &amp;quot;big&amp;quot; dog", 'a "big" dog', ["html"]),
        ("&lt;b&gt;A dog&lt;/b&gt; runs", "A dog runs", ["html"]),
        ('<p class="x">A dog</p>', "A dog", ["html"]),
        ("A dog<br/>runs", "A dog runs", ["html"]),
        ("A&nbsp;dog", "A dog", ["html"]),
        ("1 < 2 > 0 and <here>", "1 < 2 > 0 and <here>", []),
        ("startseq a dog runs endseq", "a dog runs", ["markers"]),
        ("<start> a dog<end> <pad> <pad>", "a dog", ["markers"]),
        ("<s>a dog</s>", "a dog", ["markers"]),
        ("[CLS] a dog [SEP]", "a dog", ["markers"]),
        ("A start and an end", "A start and an end", []),
        (
            "A man in a hat\r\nholds a sign .",
            "A man in a hat holds a sign .",
            ["control characters"],
        ),
        ("A dog\0 runs", "A dog runs", ["control characters"]),
        ("一只狗在草地上跑。", "一只狗在草地上跑。", []),
        ("The word nan is here", "The word nan is here", []),
    ],
)
def test_mended(text: str, caption: str, mended: list[str]) -> None:
    assert clean_caption(text, max_words=100) == (caption, mended)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.CAPTION_EMPTY),
        (" . !", Reason.CAPTION_EMPTY),
        ("<br>", Reason.CAPTION_EMPTY),
        ("startseq endseq", Reason.CAPTION_EMPTY),
        ("nan", Reason.CAPTION_PLACEHOLDER),
        (" NaN ", Reason.CAPTION_PLACEHOLDER),
        ("None", Reason.CAPTION_PLACEHOLDER),
        ("#N/A", Reason.CAPTION_PLACEHOLDER),
        ("a <unk> runs", Reason.CAPTION_MARKERS),
        ("a dog <end> a cat", Reason.CAPTION_MARKERS),
        ("https://example.org/a.jpg?x=1", Reason.CAPTION_URL),
        ("A dog, see www.example.org", Reason.CAPTION_URL),
        ("word " * 101, Reason.CAPTION_TOO_LONG),
        ("half \ud83d", Reason.CAPTION_UNPARSABLE),
    ],
)
def test_set_aside(text: str, reason: Reason) -> None:
    with pytest.raises(UnusableCaptionError) as raised:
        clean_caption(text, max_words=100)
    assert raised.value.reason is reason


def test_markers_without_end_take_no_time() -> None:
    with pytest.raises(UnusableCaptionError):
        clean_caption("<end>" * 200_000 + "x", max_words=100)


def test_all_is_counted(tmp_path: Path) -> None:
    source = datasets.write_flickr8k_kaggle(tmp_path / "source", NAMES)
    with (source / "captions.txt").open("a") as file:
        file.write("000.jpg,first  caption of 000.JPG .\n")
        file.write("001.jpg,NaN\n")
        file.write("002.jpg,startseq a dog &amp; a cat endseq\n")
        file.write("003.jpg,one two three four five six seven eight nine\n")
    outcome = run(source, max_caption_words=8, **SPREAD)
    assert outcome.captions["000.jpg"] == [
        "First caption of 000.jpg .",
        'Second , with "commas" .',
    ]
    assert outcome.captions["002.jpg"][2] == "a dog & a cat"
    assert outcome.info.rejected == {
        "caption_placeholder": 1,
        "caption_repeated": 1,
        "caption_too_long": 1,
    }
    assert outcome.info.captions_mended == {"html": 1, "markers": 1}
    assert ("caption_repeated", "000.jpg", "first  caption of 000.JPG .") in outcome.rejected


def test_repetitions_are_no_damage(flickr8k: Path) -> None:
    tokens = flickr8k / "Flickr8k.token.txt"
    lines = tokens.read_text().splitlines()
    tokens.write_text("\n".join(lines * 2) + "\n")
    outcome = run(flickr8k, max_rejected_share=0.0)
    assert outcome.captions["a.jpg"] == ["Caption 0 of a.jpg .", "Caption 1 of a.jpg ."]
    assert outcome.info.rejected == {"caption_repeated": 10}
