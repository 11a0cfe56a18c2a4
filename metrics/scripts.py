"""Scripts with and without spaces between words, and the words of captions in any of them.

The rule is written down once: TFX Transform splits captions by it in the graph
(`models.text`, with RE2), and the metrics of all languages but those of the Penn Treebank do so
here (with Python's `re`). What is a letter or a mark is asked of RE2 there and of `unicodedata`
here; only for characters younger than one of the two can they differ.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

#: Inside of a regular expression's `[...]`, for RE2 as for `re`: the blocks of the scripts that are
#: written without spaces. Han with its iteration marks, Hiragana and Katakana with the long vowel
#: mark, Thai, Lao, Khmer, Burmese.
UNSPACED = (
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3041-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U0003ffff"
    "\u0e00-\u0eff\u1780-\u17ff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"
)
#: Inside of `[...]`: what is an apostrophe or a hyphen within a word.
APOSTROPHES = "\u2018\u2019\u02bc\uff07`"
HYPHENS = "\u2010\u2011"
#: Inside of `[...]`: joiners, which keep Persian and Indic words whole.
JOINERS = "\u200c\u200d"
#: NFKC takes a vowel sign of Thai and of Lao apart, which nobody writes so: put it together again.
TAKEN_APART = {"\u0e4d\u0e32": "\u0e33", "\u0ecd\u0eb2": "\u0eb3"}

# Letters and digits: `\w` of `re` without the underscore.
_LETTER = r"[^\W_]"
_LETTERS_OF_UNSPACED = re.compile(f"[{UNSPACED}]")


def split_words(caption: str) -> str:
    """The words of a caption in lower case, with single spaces between them.

    Text is NFKC-normalised; punctuation and symbols go; words keep inner apostrophes and hyphens;
    a character of a script without spaces is, with its marks, a word of its own.

    >>> split_words("一只狗在Frisbee旁边。")
    '一 只 狗 在 frisbee 旁 边'
    """
    text = unicodedata.normalize("NFKC", caption).lower()
    text = re.sub(f"[{APOSTROPHES}]", "'", text)
    text = re.sub(f"[{HYPHENS}]", "-", text)
    for parts, whole in TAKEN_APART.items():
        text = text.replace(parts, whole)
    unspaced, word = _patterns()
    return " ".join(word.findall(unspaced.sub(r" \g<0> ", text)))


def is_unspaced(caption: str) -> bool:
    """Whether most letters and digits of a caption are of scripts without spaces.

    >>> is_unspaced("一只狗 dog"), is_unspaced("a dog 狗"), is_unspaced("")
    (False, False, False)
    """
    if caption.isascii():
        return False
    letters = sum(map(str.isalnum, caption))
    unspaced = sum(map(str.isalnum, _LETTERS_OF_UNSPACED.findall(caption)))
    return 2 * unspaced > letters


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A character of a script without spaces, with its marks; and a word."""
    # `re` has no class of marks.
    marks = "".join(
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)).startswith("M")
    )
    letters = rf"{_LETTER}(?:{_LETTER}|[{marks}{JOINERS}])*"
    return re.compile(f"[{UNSPACED}][{marks}]*"), re.compile(f"{letters}(?:['-]{letters})*")
