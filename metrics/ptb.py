"""Penn Treebank tokenisation as the COCO caption evaluation does it.

The field's scores are taken after Stanford's PTBTokenizer 3.4.1 in lower case, less seventeen
punctuation tokens. This module gives the same tokens without Java. It is an implementation of its
own of what that tokenizer accepts: at each place the longest of some sixty patterns wins, of
equally long ones the first, where what a pattern wants to see *behind* its token counts into its
length. `tests/metrics/test_ptb.py` compares the two.

Two peculiarities are part of the standard and kept. The list of punctuation names brackets in upper
case while tokens are in lower case, so that `-lrb-` and `-rrb-` count as words. And a token with a
space inside ("5 1/2") carries a no-break space, at which BLEU and CIDEr-D split and ROUGE-L does
not; therefore captions are passed on as strings.

What differs: a line break inside a caption is white space here, while some of them shift all
following captions by one in the reference implementation; and the last caption of a file is treated
like the others, while there an abbreviation such as "u.s" falls apart when nothing at all follows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import NamedTuple

from tfx_captioner.metrics.ptb_characters import (
    DIGITS,
    MARKS,
    OTHER_LETTERS,
    SYMBOLS,
)
from tfx_captioner.metrics.ptb_words import (
    ABBREVIATIONS,
    BEFORE_NUMBERS,
    CAPITALISED_ABBREVIATIONS,
    FILE_EXTENSIONS,
    PUNCTUATION,
    SENTENCE_OPENERS,
    TITLES,
)

# Building blocks. Letters of a literal match both cases, those of a class only what they say.
_BLANK = r" \t\u00a0\u2000-\u200a\u3000"
_SPACE = f"[{_BLANK}]"
_LETTERS = "A-Za-z" + OTHER_LETTERS
_LETTER = f"(?:[{_LETTERS}{MARKS}]|&[aeiouAEIOU](?i:acute|grave|uml);)"
_ALNUM = f"[{_LETTERS}{DIGITS}]"
_WORD = f"{_LETTER}(?:{_LETTER}|[{DIGITS}])*(?:[.!?]{_LETTER}(?:{_LETTER}|[{DIGITS}])*)*"
_APOSTROPHE = r"(?:['\u0092\u2019]|(?i:&apos;))"
_APOSTROPHE_LIKE = r"(?:['\u0092\u2019`\u0091\u2018\u201b]|(?i:&apos;))"
_NUMBER = (
    f"(?:[{DIGITS}]+(?:[.:,\\u00ad\\u066b\\u066c][{DIGITS}]+)*"
    f"|(?:[.:,\\u00ad\\u066b\\u066c][{DIGITS}]+)+)"
)
_HYPHEN = r"[-_\u058a\u2010\u2011]"
_AMPERSAND = "(?:&|(?i:&amp;))"
_CONTRACTED = f"{_APOSTROPHE}(?:(?i:re|ve|ll)|[msdMSD])"
_CONTRACTED_NOT = f"[nN]{_APOSTROPHE_LIKE}[tT]"
_INSIDE_SENTENCE = r"[,;:\u3001]"
_ACRONYM = (
    r"(?:(?i:u\.s\.-u\.(?:s\.s\.r|k)|(?:canada|sino|korean|eu|japan|non)-u\.s)"
    r"|[A-Za-z](?:\.[A-Za-z])+)"
)
_QUOTES = r"[`\u0091-\u0094\u2018-\u201f\u2039\u203a\u00ab\u00bb]"

_SGML_NAME = r"[A-Za-z][A-Za-z0-9_:.\-]*"
_SGML_ATTRIBUTE = f"{_SGML_NAME}[ ]*=[ ]*(?:'[^'\\r\\n]*'|\"[^\"\\r\\n]*\")"
_SGML = (
    f"<(?:[!?][A-Za-z\\-][^>\\r\\n]*|{_SGML_NAME}(?:[ ]+(?:{_SGML_ATTRIBUTE}|{_SGML_NAME}))*[ ]*/?"
    f"|/{_SGML_NAME})[ ]*>"
)


class _Pattern(NamedTuple):
    """One kind of token.

    Attributes:
        match: Anchored regular expression; its first group is the token, the rest what must follow.
        normalize: Turns the text into the token.
        give_back: Characters at the token's end that are scanned again.
    """

    match: Callable[[str, int], re.Match[str] | None]
    normalize: Callable[[str], str] | None
    give_back: int


def _any_of(words: tuple[str, ...]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _capitalised(words: tuple[str, ...]) -> str:
    longest_first = sorted(words, key=len, reverse=True)
    return "|".join(f"{word[0]}(?i:{re.escape(word[1:])})" for word in longest_first)


def _latex_quotes(text: str, *, opening: bool = False) -> str:
    text = re.sub("(?:&apos;|')", "`" if opening else "'", text)
    text = re.sub('"|&quot;', "``" if opening else "''", text)
    text = re.sub(r"[\u0091\u2018\u201b\u2039]", "`", text)
    text = re.sub(r"[\u0092\u2019\u203a]", "'", text)
    text = re.sub(r"[\u0093\u201c\u00ab]", "``", text)
    return re.sub(r"[\u0094\u201d\u00bb]", "''", text)


_opening_quotes = partial(_latex_quotes, opening=True)


def _without_soft_hyphens(text: str) -> str:
    return text.replace("\u00ad", "") or "-"


def _round_brackets(text: str) -> str:
    return text.replace("(", "-LRB-").replace(")", "-RRB-")


def _no_break_spaces(text: str) -> str:
    return text.replace(" ", "\u00a0")


def _phone(text: str) -> str:
    return _round_brackets(_no_break_spaces(text))


def _ampersand(text: str) -> str:
    return re.sub("(?i:&amp;)", "&", text)


def _currency(text: str) -> str:
    text = text.replace("\u00a2", "cents").replace("\u00a3", "#")
    return re.sub("[\u0080\u00a4\u20a0\u20ac]", "$", text)


def _fraction(text: str) -> str:
    for character, spelt in (("¼", "1/4"), ("½", "1/2"), ("¾", "3/4"), ("\u2153", "1/3")):
        text = text.replace(character, spelt)
    return text.replace("\u2154", "2/3")


def _dashes(text: str) -> str:
    return "--" if 3 <= len(text) <= 4 else text


def _constant(token: str) -> Callable[[str], str]:
    return lambda text: token


def _token(
    token: str,
    followed_by: str = "",
    normalize: Callable[[str], str] | None = None,
    give_back: int = 0,
) -> _Pattern:
    return _Pattern(re.compile(f"({token}){followed_by}").match, normalize, give_back)


def _words_and_contractions() -> Iterator[_Pattern]:
    yield _token(r"[cC]\+\+|[cCfF]#")
    yield _token("(?i:cannot|'twas)", give_back=3)
    yield _token("(?i:'tis|gonna|gotta|lemme|gimme|wanna)", give_back=2)
    yield _token(_SGML, normalize=_no_break_spaces)
    yield _token("&(?i:md|mdash|ndash);|[\u0096\u0097\u2013\u2014\u2015]", "", _constant("--"))
    yield _token("(?i:&amp;)", "", _ampersand)
    yield _token("&(?i:ht|tl|ur|lr|qc|ql|qr|odq|cdq|#[0-9]+);")
    yield _token(_WORD, _CONTRACTED, _without_soft_hyphens)
    yield _token("[A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*", _CONTRACTED_NOT, _without_soft_hyphens)
    yield _token(_WORD, "", _without_soft_hyphens)
    # Words whose apostrophe stays.
    for apostrophised in (
        f"{_APOSTROPHE}[nN]{_APOSTROPHE}?",
        f"[lLdDjJ]{_APOSTROPHE}",
        f"(?i:dunkin|somethin|ol){_APOSTROPHE}",
        f"{_APOSTROPHE}(?i:em|till?|cause)",
        f"[A-HJ-XZn]{_APOSTROPHE_LIKE}[{_LETTERS}]{{2,}}",
        f"{_APOSTROPHE}[2-9]0(?i:s)",
        f"[{_LETTERS}]+[aeiouyAEIOUY]{_APOSTROPHE_LIKE}[aeiouA-Z][{_LETTERS}]*",
        r"(?i:cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l)",
        f"[oO]{_APOSTROPHE_LIKE}[oO]",
    ):
        yield _token(apostrophised)
    yield _token(f"[yY]{_APOSTROPHE}", f"[{_LETTERS}]")


def _addresses() -> Iterator[_Pattern]:
    yield _token(r"(?i:https?)://[^ \t\n\f\r\"<>|(){}]+[^ \t\n\f\r\"<>|.!?(){},\-]")
    host = (
        r"(?:(?i:www)\.(?:[^ \t\n\f\r\"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}"
        r"|(?:[^ \t\n\f\r\"`'<>|.!?(){},-_$]+\.)+(?i:com|net|org|edu))"
    )
    # A host may hold slashes itself: one greedy pattern would miss the longer match.
    yield _token(host + r"/[^ \t\n\f\r\"<>|()]+[^ \t\n\f\r\"<>|.!?(){},\-]")
    yield _token(host)
    yield _token(
        r"(?:(?i:&lt;)|<)?[a-zA-Z0-9][^ \t\n\f\r\"<>|()\u00a0{}]*@"
        r"(?:[^ \t\n\f\r\"<>|(){}.\u00a0]+\.)*[^ \t\n\f\r\"<>|(){}.\u00a0]+(?:(?i:&gt;)|>)?"
    )
    yield _token(f"@[a-zA-Z_][a-zA-Z_0-9]*|#{_LETTER}+")


def _numbers() -> Iterator[_Pattern]:
    yield _token(_CONTRACTED, "[^A-Za-z]", _latex_quotes)
    yield _token(_CONTRACTED_NOT, "[^A-Za-z]", _latex_quotes)
    digit = f"[{DIGITS}]"
    yield _token(f"{digit}{{1,2}}[\\-/]{digit}{{1,2}}[\\-/]{digit}{{2,4}}")
    yield _token(f"[\\-+]?{_NUMBER}", "", _without_soft_hyphens)
    yield _token(
        r"[\u207a\u207b\u208a\u208b]?"
        r"(?:[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+)"
    )
    yield _token(
        f"(?:{digit}{{1,4}}[- \\u00a0])?{digit}{{1,4}}(?:\\\\?/|\\u2044){digit}{{1,4}}",
        "",
        _no_break_spaces,
    )
    yield _token(r"[\u00bc-\u00be\u2153-\u215e]", "", _fraction)
    yield _token(
        f"-(?i:rrb|lrb|rcb|lcb|rsb|lsb)-|(?i:c\\.d\\.s|pro-|anti-)"
        f"|(?i:s){_AMPERSAND}(?i:p-500|ls)|(?i:cap){_APOSTROPHE}[nN]|[cC]{_APOSTROPHE}(?i:est)",
        "",
        _ampersand,
    )
    slashed = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
    yield _token(f"{slashed}(?:\\\\?/{slashed}){{1,2}}")
    yield _token(r"[A-Z]*\$|#")
    yield _token(
        r"[\u0080\u00a2-\u00a5\u060b\u0e3f\u20a0\u20a4\u20ac\uffe0\uffe1\uffe5\uffe6]",
        "",
        _currency,
    )


def _abbreviations() -> Iterator[_Pattern]:
    opener = f"(?:{_capitalised(SENTENCE_OPENERS)}|{_SGML})"
    acronym_end = f"[{_BLANK}\u0085]+{opener}[{_BLANK}\\n\u0085]"
    yield _token("[A-Za-z]\\.", acronym_end, give_back=1)
    yield _token(f"{_ACRONYM}\\.", acronym_end)
    yield _token(f"(?i:{_any_of(BEFORE_NUMBERS)})\\.", f"{_SPACE}?[{DIGITS}]")
    yield _token(r"(?:(?i:pt)[ey]|(?i:co))\.", f"{_SPACE}(?i:ltd|lim)")
    abbreviation = (
        f"(?:(?i:{_any_of(ABBREVIATIONS)})|(?i:pp?t)[ye](?i:s?)"
        f"|{_capitalised(CAPITALISED_ABBREVIATIONS)})\\."
    )
    yield _token(abbreviation, "(?s:..)")
    yield _token(abbreviation)
    title = f"(?:(?i:{_any_of(TITLES)}|a\\.k\\.a)|M(?i:iss)|[mM][ft][gG]|{_ACRONYM}|[A-Za-z])"
    yield _token(f"{title}\\.")
    yield _token(title, _SPACE)
    yield _token(_ACRONYM, f"[{_BLANK}\\n\u0085]")
    yield _token(f"{_APOSTROPHE}[0-9][0-9]", f"[{_BLANK}\\n\u0085]")
    alnum = f"(?:{_LETTER}|[{DIGITS}])"
    extensions = _any_of(FILE_EXTENSIONS)
    yield _token(f"{alnum}+(?:\\.{alnum}+)*\\.(?i:{extensions})", f"[{_BLANK}.?!,\\n\u0085]")
    yield _token(f"{_WORD}\\.", _INSIDE_SENTENCE, _without_soft_hyphens)
    yield _token(
        r"(?:\([0-9]{2,3}\)[ \u00a0]?|(?:\+\+?)?(?:[0-9]{2,4}[\- \u00a0])?[0-9]{2,4}[\- \u00a0])"
        r"[0-9]{3,4}[\- \u00a0]?[0-9]{3,5}"
        r"|(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}",
        "",
        _phone,
    )


def _signs() -> Iterator[_Pattern]:
    double_quote = '(?:"|(?i:&quot;))'
    yield _token(double_quote, "[A-Za-z0-9$]", _opening_quotes)
    yield _token(double_quote, "", _latex_quotes)
    yield _token("<|(?i:&lt;)", "", _constant("<"))
    yield _token(">|(?i:&gt;)", "", _constant(">"))
    yield _token(r"[<>]?[:;=][\-o*']?[()DPdpO\\{@|\[\]]", "[^A-Za-z0-9]", _round_brackets)
    face = r"[\^x=~<>']"
    yield _token(
        rf"[\^x=~<>]\.\[\^(?i:x)=~<>\]|[\-\^x=~<>']_[\-\^x=~<>']|\([\-\^x=~<>'][_.]?[\-\^x=~<>']\)"
        rf"|\({face}-[\^x=~<>'`]\)",
        "",
        _round_brackets,
    )
    for bracket, name in zip("{}[]()", ("LCB", "RCB", "LSB", "RSB", "LRB", "RRB"), strict=True):
        yield _token(re.escape(bracket), "", _constant(f"-{name}-"))
    yield _token("-+", "", _dashes)
    yield _token(r"\.{3,5}|(?:\.[ \u00a0]){2,4}\.|[\u0085\u2026]", "", _constant("..."))
    yield _token("@+|#+|_+")
    yield _token(r"\*+|(?:\\\*){1,3}")
    yield _token(_INSIDE_SENTENCE)
    yield _token("[?!]+")
    yield _token("[.=/]")


def _compounds() -> Iterator[_Pattern]:
    part = f"(?:{_ACRONYM}\\.|[A-Za-z0-9\\u00ad]+)"
    hyphenated = f"[A-Za-z0-9][A-Za-z0-9.,\\u00ad]*(?:-{part})+"
    yield _token(f"{hyphenated}\\.", _INSIDE_SENTENCE, _without_soft_hyphens)
    yield _token(hyphenated, "", _without_soft_hyphens)
    article = f"(?:[dDoOlL]{_APOSTROPHE_LIKE}{_ALNUM})?"
    thing = f"{article}{_ALNUM}+(?:{_HYPHEN}{article}{_ALNUM}+)*"
    yield _token(f"{thing}\\.", _INSIDE_SENTENCE)
    yield _token(thing)
    joined = f"[A-Z]+(?:(?:\\+|{_AMPERSAND})[A-Z]+)+"
    yield _token(f"{joined}\\.", _INSIDE_SENTENCE, _ampersand)
    yield _token(joined, "", _ampersand)
    yield _token("'", r"[A-Za-z][^ \t\n\r\u00a0]", _opening_quotes)
    yield _token(_CONTRACTED, "", _latex_quotes)
    yield _token(f"{_QUOTES}{{1,2}}|''|{_APOSTROPHE}", "", _latex_quotes)
    yield _token("<<|>>")
    yield _token(f"[+%&~^|\\\\{SYMBOLS}\\u207a-\\u207e\\u208a-\\u208e\\u2044\\u24b6-\\u24cf]")
    yield _token(f"{_SPACE}+|[\\x00\\x7f\u200b\u200e\u200f\ufeff]|(?i:&nbsp;)", "", _constant(""))


@lru_cache(maxsize=1)
def _patterns() -> tuple[_Pattern, ...]:
    return (
        *_words_and_contractions(),
        *_addresses(),
        *_numbers(),
        *_abbreviations(),
        *_signs(),
        *_compounds(),
    )


_LINE_BREAK = re.compile("[\n\r\u000b\u000c\u2028\u2029]")
_BLANKS = re.compile(f"[ \\t]{_SPACE}*")
# What needs no contest, nearly all of a caption: words before a space or a comma, a comma or full
# stop before a space and a word, the full stop at the end.
_PLAIN_WORD = r"(?!(?i:cannot|gonna|gotta|lemme|gimme|wanna)\b)[A-Za-z]+"
_PLAIN = re.compile(f"{_PLAIN_WORD}(?=[ \\n]|, [A-Za-z])|[,.](?=\\s*\\n| [A-Za-z])")
# Most captions are little else than a run of such words: one match for all of them.
_PLAIN_RUN = re.compile(f"(?:{_PLAIN_WORD} (?=[A-Za-z]))+")


def scan(text: str) -> Iterator[str]:
    """Yields the tokens of one line, punctuation included, in their original case."""
    text = _LINE_BREAK.sub(" ", text) + "\n"
    patterns = _patterns()
    position = 0
    while position < len(text) - 1:
        if blank := _BLANKS.match(text, position):
            position = blank.end()
            continue
        if run := _PLAIN_RUN.match(text, position):
            yield from run[0].split()
            position = run.end()
            continue
        if plain := _PLAIN.match(text, position):
            yield plain[0]
            position = plain.end()
            continue
        longest, best, end = 0, None, position + 1
        for pattern in patterns:
            found = pattern.match(text, position)
            if found and found.end() > longest:
                longest, best, end = found.end(), pattern, found.end(1) - pattern.give_back
        if best:
            token = text[position:end]
            token = best.normalize(token) if best.normalize else token
            if token:
                yield token
        position = end


@lru_cache(maxsize=65536)
def tokenize(caption: str) -> str:
    """Lower-cases and tokenises one caption.

    Returns:
        Tokens separated by single spaces, without the punctuation that the evaluation drops.
    """
    tokens = " ".join(scan(caption)).lower().rstrip().split(" ")
    return " ".join(token for token in tokens if token not in PUNCTUATION)
