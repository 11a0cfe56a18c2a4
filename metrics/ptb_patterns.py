"""The kinds of tokens of the Penn Treebank tokeniser, each with a regular expression.

The longest match wins, and of several that are equally long the first kind. What a token needs
behind it counts as part of the match; then group 1 is the token.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from tfx_captioner.metrics import ptb_words as words
from tfx_captioner.metrics.ptb_characters import DIGITS, LETTERS, MARKS, SYMBOLS


class Kind(NamedTuple):
    """A kind of token.

    Attributes:
        starts: Matches the characters that can be its first.
        pattern: Matches the token and, outside group 1 if there is one, what has to follow.
        spell: Turns the matched text into the token.
    """

    starts: re.Pattern[str]
    pattern: re.Pattern[str]
    spell: Callable[[str], str]


# --- How a token is written ---------------------------------------------------------------------

SOFT_HYPHEN = "\u00ad"
_STRAIGHT = str.maketrans({"\u2019": "'", "\x92": "'", "\u2018": "`", "\u201b": "`", "\x91": "`"})
# The program writes quotation marks as LaTeX does.
_LATEX = str.maketrans(
    {
        **dict.fromkeys("\u2018\u201b\u2039\x91", "`"),
        **dict.fromkeys("\u2019\u203a\x92", "'"),
        **dict.fromkeys("\u201c\u00ab\x93", "``"),
        **dict.fromkeys("\u201d\u00bb\x94", "''"),
    }
)
_BRACKETS = str.maketrans({"(": "-lrb-", ")": "-rrb-"})


def _as_it_is(token: str) -> str:
    return token


def _without_soft_hyphens(token: str) -> str:
    return token.replace(SOFT_HYPHEN, "")


def _straight_apostrophe(token: str) -> str:
    return _without_soft_hyphens(token).replace("&apos;", "'").translate(_STRAIGHT)


def _plain_ampersand(token: str) -> str:
    return re.sub("&amp;", "&", _without_soft_hyphens(token), flags=re.IGNORECASE)


def _quotes(token: str) -> str:
    return token.translate(_LATEX)


def _no_break(token: str) -> str:
    return token.replace(" ", "\u00a0")


def _brackets(token: str) -> str:
    return _no_break(token).translate(_BRACKETS)


def _hyphens(token: str) -> str:
    return token if len(token) > 4 else "--"


def _symbol(token: str) -> str:
    return words.SYMBOL_SPELLINGS.get(token, token)


def _entity(token: str) -> str:
    return words.ENTITY_SPELLINGS.get(token.lower(), token)


# --- Building blocks ----------------------------------------------------------------------------


def _any_of(alternatives: Iterable[str]) -> str:
    """Any of the words, whatever their case; of two that begin alike the longer one."""
    longest_first = sorted(alternatives, key=len, reverse=True)
    return f"(?i:{'|'.join(re.escape(word) for word in longest_first)})"


_SPACE = "[ \t\x85\u00a0\u2000-\u200a\u3000]"
_ASCII_ALNUM = "[A-Za-z0-9]"
_LETTER = f"[A-Za-z{LETTERS}]"
_DIGIT = f"[0-9{DIGITS}]"
_ALNUM = f"[A-Za-z{LETTERS}0-9{DIGITS}]"
_ACCENT_ENTITY = "(?i:&[aeiou](?:acute|grave|uml);)"
_WORD_FIRST = f"(?:[A-Za-z{LETTERS}{MARKS}{SOFT_HYPHEN}]|{_ACCENT_ENTITY})"
_WORD_NEXT = f"(?:[A-Za-z{LETTERS}{MARKS}{SOFT_HYPHEN}0-9{DIGITS}]|{_ACCENT_ENTITY})"
_CURLY = "(?:[\u2019\x92]|(?i:&apos;))"
_APOSTROPHE = "(?:['\u2019\x92]|(?i:&apos;))"
_ANY_APOSTROPHE = "(?:['`\u2018\u2019\u201b\x91\x92]|(?i:&apos;))"
_QUOTE = "[`\u2018-\u201f\u2039\u203a\u00ab\u00bb\x91-\x94]"
_SYMBOL = f"[$%&+/<=>\\\\^|~(){{}}\\[\\]{SYMBOLS}{re.escape(''.join(words.SYMBOL_SPELLINGS))}]"
_AMPERSAND = "(?:&|(?i:&amp;))"

# "hello", "a1" and, where a space is missing, "one.Two" and "oh!no".
_WORD = rf"{_WORD_FIRST}{_WORD_NEXT}*(?:[.!?]{_WORD_FIRST}{_WORD_NEXT}*)*"
# "10th", "o'clock", and with hyphens between them "x-ray", "a_b".
_PART = rf"(?:[dloDLO]{_ANY_APOSTROPHE}{_ALNUM}{{2,}}|{_ALNUM}+)"
_HYPHENATED = rf"{_PART}(?:[-_\u058a\u2010\u2011]{_PART})+"
# "N'Djamena", "Shi'ite".
_NAME = (
    rf"(?:[A-HJ-XZn]{_ANY_APOSTROPHE}{_LETTER}{{2,}}|[oO]{_ANY_APOSTROPHE}[oO]"
    rf"|{_LETTER}+[aeiouyAEIOUY]{_ANY_APOSTROPHE}[aeiouA-Z]{_LETTER}*)"
)
# "AT&T", "A+B".
_AMPERSAND_NAME = rf"[A-Z]+(?:(?:{_AMPERSAND}|\+)[A-Z]+)+"
_CLITIC = "(?:[sSmMdD]|[lL]{2}|[vVrR][eE])"
_NOT = rf"(?i:n){_ANY_APOSTROPHE}(?i:t)"

_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+\."
_DEGREE = r"(?i:ph|ed)\.(?i:d)\."
# "Pte.", "Pty.": of the case of their letters only that of some matters.
_PROPRIETARY = "(?i:p{1,2}t)[ey](?i:s)?"
_SENTENCE_ABBREVIATION = (
    rf"(?:{_any_of(words.ABBREVIATIONS)}|{_PROPRIETARY}|"
    + "|".join(rf"{word[0]}(?i:{word[1:]})" for word in words.CAPITALISED_ABBREVIATIONS)
    + ")"
)

# "U.S.-based", "non-U.S.", "1,000-acre".
_DOTTED_COMPOUND = (
    rf"[A-Za-z0-9][A-Za-z0-9.,{SOFT_HYPHEN}]*(?:-(?:{_ACRONYM}|[A-Za-z0-9{SOFT_HYPHEN}]+))+"
)

_NUMBER = rf"(?:{_DIGIT}*(?:[.,:{SOFT_HYPHEN}\u066b\u066c]{_DIGIT}+)+|{_DIGIT}+)"

_URL_INSIDE = r'[^ \t"<>|()]'
_URL_END = r'[^ \t"<>|.!?(){},\-]'
_ASTRAL = "[\U00010000-\U0010ffff]"
# One character is too short for the part behind "//" or "/"; the program counts those outside
# the basic multilingual plane as two.
_URL_PATH = rf"(?:/(?:{_URL_INSIDE}+{_URL_END}|{_ASTRAL}))"
_MAIL_LOCAL = r'[a-zA-Z0-9][^ \t\u00a0"<>|(){}]*'
_MAIL_DOMAIN = r'[^ \t\u00a0"<>|().{}]'

_TAG_NAME = r"[A-Za-z][A-Za-z0-9_:.\-]*"
_TAG_VALUE = r"""(?: *= *(?:"[^"]*"|'[^']*'))?"""
_TAG = (
    rf"<(?:{_TAG_NAME}(?: +{_TAG_NAME}{_TAG_VALUE})* */?|/{_TAG_NAME}"
    r"|[!?][A-Za-z\-][^>]*) *>"
)

# --- The kinds ----------------------------------------------------------------------------------

_AT_WORD = f"[A-Za-z{LETTERS}{MARKS}{SOFT_HYPHEN}&]"
_AT_WORD_OR_DIGIT = f"[A-Za-z{LETTERS}{MARKS}{SOFT_HYPHEN}&0-9{DIGITS}]"
_AT_ALNUM = f"[A-Za-z{LETTERS}0-9{DIGITS}]"
_AT_APOSTROPHE = "['\u2019\x92&]"

#: What the first character matches, the pattern, the spelling. The order decides between matches
#: of the same length.
_TABLE: list[tuple[str, str, Callable[[str], str]]] = [
    # Contractions and clitics: "do" in front of "n't", then "n't"; "dog" in front of "'s", then
    # "'s"; "can" in front of "not".
    (
        f"[A-Za-z{SOFT_HYPHEN}]",
        rf"([A-Za-z{SOFT_HYPHEN}]*[A-MO-Za-mo-z]{SOFT_HYPHEN}*){_NOT}",
        _without_soft_hyphens,
    ),
    ("[nN]", _NOT, _straight_apostrophe),
    (_AT_WORD, rf"({_WORD}){_APOSTROPHE}{_CLITIC}", _without_soft_hyphens),
    (_AT_APOSTROPHE, rf"'{_CLITIC}(?![A-Za-z])|{_CURLY}{_CLITIC}", _straight_apostrophe),
    *(
        (_AT_ALNUM, rf"((?i:{first}))(?i:{second})", _as_it_is)
        for first, second in words.ASSIMILATED.values()
    ),
    ("'", "('(?i:t))(?i:is|was)", _as_it_is),
    ("@", "@[A-Za-z_][A-Za-z_0-9]*", _as_it_is),
    ("#", f"#{_WORD_FIRST}+", _as_it_is),
    ("<", _TAG, _no_break),
    # Abbreviations and single letters.
    (_AT_ALNUM, rf"(?:{_any_of(words.TITLES)}|[Mm]fg|M(?i:fg|tg)|mtg)\.", _as_it_is),
    ("[pP]", rf"((?i:pt[ey])\.){_SPACE}(?i:ltd)", _as_it_is),
    (
        _AT_ALNUM,
        rf"({_any_of(words.NUMBERED_ABBREVIATIONS)}\.){_SPACE}?{_DIGIT}",
        _as_it_is,
    ),
    (
        # What follows is looked at, to tell whether the sentence ends here.
        _AT_ALNUM,
        rf"({_SENTENCE_ABBREVIATION}\.|{_DEGREE})(?s:-?.)",
        _as_it_is,
    ),
    (
        # A letter that ends a sentence, so the full stop is not the letter's.
        "[A-Za-z]",
        rf"([A-Za-z])\.{_SPACE}+(?:(?=[A-Z])(?:{_any_of(words.SENTENCE_STARTERS)}|(?i:mr|ms)\.)"
        rf"|{_TAG}){_SPACE}",
        _as_it_is,
    ),
    ("[A-Za-z]", r"[A-Za-z]\.", _as_it_is),
    # Words, file names, compounds, acronyms. A file name comes first because it keeps its soft
    # hyphens.
    (
        _AT_WORD_OR_DIGIT,
        rf"{_WORD_NEXT}+(?:\.{_WORD_NEXT}+)*\.{_any_of(words.FILE_EXTENSIONS)}(?={_SPACE}|[!,.?])",
        _as_it_is,
    ),
    (_AT_WORD, _WORD, _without_soft_hyphens),
    (_AT_ALNUM, _PART, _as_it_is),
    (_AT_ALNUM, _HYPHENATED, _as_it_is),
    (
        # The full stop stays where the sentence evidently goes on: "dept., store".
        _AT_WORD_OR_DIGIT,
        rf"((?:{_DOTTED_COMPOUND}|{_WORD}|{_PART}|{_HYPHENATED}|{_AMPERSAND_NAME})\.)[,;:\u3001]",
        _plain_ampersand,
    ),
    ("[A-Za-z]", _ACRONYM, _as_it_is),
    (
        "[A-Za-z0-9]",
        _DOTTED_COMPOUND,
        _without_soft_hyphens,
    ),
    (_AT_ALNUM, rf"(?i:canada|eu|japan|korean|non|sino)-(?i:u\.s)(?={_SPACE})", _as_it_is),
    ("[uU]", r"(?i:u\.s\.-u\.k)", _as_it_is),
    (_AT_ALNUM, _NAME, _as_it_is),
    ("[jdlJDL]", rf"[jdlJDL]{_APOSTROPHE}", _as_it_is),
    ("[yY]", rf"([yY]{_APOSTROPHE}){_LETTER}", _as_it_is),
    (
        f"[A-Za-z{LETTERS}'\u2019\x92&]",
        _any_of(words.WITH_APOSTROPHE).replace("'", _APOSTROPHE),
        _as_it_is,
    ),
    (_AT_ALNUM, _any_of(words.WITH_STRAIGHT_APOSTROPHE), _as_it_is),
    (_AT_APOSTROPHE, rf"'[nN](?=[ \t\u00a0])|{_CURLY}[nN]|{_APOSTROPHE}[2-9]0(?i:s)", _as_it_is),
    (_AT_APOSTROPHE, rf"({_APOSTROPHE}[0-9]{{2}}){_SPACE}", _as_it_is),
    ("[A-Z]", _AMPERSAND_NAME, _plain_ampersand),
    ("[sS\u017f]", rf"(?i:s){_AMPERSAND}(?i:p-500)", _plain_ampersand),
    (
        "[A-Za-z0-9]",
        rf"{_ASCII_ALNUM}+(?:-[A-Za-z]+){{0,2}}(?:\\?/{_ASCII_ALNUM}+(?:-[A-Za-z]+){{0,2}}){{1,2}}",
        _as_it_is,
    ),
    ("[cCfF]", r"[cC]\+\+|[cCfF]\#", _as_it_is),
    ("[-]", r"-(?i:[lr][rsc]b)-", _as_it_is),
    # Addresses on the web and of e-mail.
    ("[hH]", rf'(?i:https?)://(?:[^ \t"<>|(){{}}]+{_URL_END}|{_ASTRAL})', _as_it_is),
    (
        "[wW]",
        rf'(?i:www)\.(?:[^ \t"<>|.!?(){{}},]+\.)+[A-Za-z]{{2,4}}{_URL_PATH}?',
        _as_it_is,
    ),
    (
        "[^ ]",
        rf"(?:[^ \t!\"$'(),-`{{|}}]+\.)+(?i:com|net|org|edu){_URL_PATH}?",
        _as_it_is,
    ),
    (
        "[A-Za-z0-9<&]",
        rf"(?:<|(?i:&lt;))?{_MAIL_LOCAL}@(?:{_MAIL_DOMAIN}+\.)*{_MAIL_DOMAIN}+>?",
        _as_it_is,
    ),
    # Numbers: of telephones, fractions, dates, all others; the currency in front of one.
    (
        "[+0-9]",
        r"\+{0,2}[0-9]{2,4}[- \u00a0](?:[0-9]{2,4}[- \u00a0])?[0-9]{3,4}[- \u00a0]?[0-9]{3,5}",
        _no_break,
    ),
    (r"\(", r"\([0-9]{2,3}\)[ \u00a0]?[0-9]{3,4}[- \u00a0]?[0-9]{3,5}", _brackets),
    (
        _DIGIT,
        rf"(?:{_DIGIT}{{1,4}}[- \u00a0])?{_DIGIT}{{1,4}}(?:\\?/|\u2044){_DIGIT}{{1,4}}",
        _no_break,
    ),
    (_DIGIT, rf"{_DIGIT}{{1,2}}[-/]{_DIGIT}{{1,2}}[-/]{_DIGIT}{{2,4}}", _as_it_is),
    (
        f"[-+.,:\u066b\u066c{SOFT_HYPHEN}0-9{DIGITS}]",
        rf"[-+]?{_NUMBER}",
        _without_soft_hyphens,
    ),
    ("[A-Z]", r"[A-Z]+\$", _as_it_is),
    # Space is a token like the others; otherwise an address might begin with an exotic one.
    (_SPACE, "[ \t\u00a0\u2000-\u200a\u3000]+", lambda space: ""),
    # Smileys, entities, punctuation, symbols.
    ("[<>:;=]", rf"[<>]?[:;=]['\-o*]?[DOPdp()\[\]{{|\\@](?!{_ASCII_ALNUM})", _brackets),
    (
        r"[(x=~<>.'^\-]",
        r"[x=~<>'^\-]_[x=~<>'^\-]|\([x=~<>'^\-][_.]?[x=~<>'^\-]\)|\([x=~<>'^]-[x=~<>'^]\)",
        _brackets,
    ),
    (
        "&",
        r"(?i:&(?:[aeiou](?:acute|grave|uml)|\#[0-9]+|ht|lr|qc|ql|qr|tl|ur|cdq|odq|"
        r"quot|lt|gt|amp|nbsp|apos|mdash|ndash|md);)",
        _entity,
    ),
    (r"\.", r"\.{3,5}|\. \. \.(?: \.)?", lambda dots: "..."),
    ("-", "-+", _hyphens),
    (
        f"[\u2013-\u2015\x96\x97{SOFT_HYPHEN}]",
        f"[\u2013-\u2015\x96\x97]|{SOFT_HYPHEN}+",
        lambda dash: "--",
    ),
    ("[\u2026\x85]", "[\u2026\x85]", lambda dots: "..."),
    (_QUOTE, rf"{_QUOTE}{{1,2}}", _quotes),
    ("['\",;:.!?]", "''|['\",;:.]|[!?]+", lambda mark: mark if mark[0] in "!?" else "."),
    (r"[_*\#@<>\\]", r"_+|\*+|\#+|@+|<<|>>|\\\*(?:\\\*)*", _as_it_is),
    (
        "[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]",
        "[\u00b2\u00b3\u00b9\u2070\u2074-\u2079]+",
        _as_it_is,
    ),
    ("[\u2080-\u2089]", "[\u2080-\u2089]+", _as_it_is),
    (_SYMBOL, _SYMBOL, _symbol),
]

_KINDS = [Kind(re.compile(starts), re.compile(pattern), spell) for starts, pattern, spell in _TABLE]


@functools.lru_cache(maxsize=1024)
def kinds_at(character: str) -> tuple[Kind, ...]:
    """Which kinds of token can begin with this character, in the order of preference."""
    return tuple(kind for kind in _KINDS if kind.starts.match(character))
