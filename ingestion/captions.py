"""What is mended in a caption, and what makes it unusable.

Scoring refuses such captions, so training must not learn from them. Mended is what leaves the
words as a person wrote them: HTML entities and tags, control characters (line feeds among them),
and the start and end markers that other programs put around captions. Set aside is what leaves no
caption: placeholders of missing values, markers within the text (a word is missing there), URLs,
and texts of more words than a caption has.
"""

from __future__ import annotations

import html
import re

from tfx_captioner.ingestion.reasons import Reason

_PLACEHOLDERS = {"nan", "<na>", "n/a", "#n/a", "na", "null", "none", "nil", "undefined"}
_URL = re.compile(r"\b(?:https?://|www\.)\S", re.IGNORECASE)

_START = r"\bstartseq\b|<(?:start|s|sos|bos|begin|go)>|\[(?:start|bos|cls)\]|<\|startoftext\|>"
_END = r"\bendseq\b|<(?:end|/s|eos|stop|pad)>|\[(?:end|eos|sep|pad)\]|<\|endoftext\|>"
_LEADING = re.compile(rf"(?:\s*(?:{_START}))+", re.IGNORECASE)
_LAST = re.compile(rf"(?:{_END})\s*\Z", re.IGNORECASE)
_WITHIN = re.compile(rf"{_START}|{_END}|<unk>|\[unk\]", re.IGNORECASE)
_LONGEST_MARKER = 20

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]+")

_BLOCKS = "br|div|h[1-6]|hr|img|li|ol|p|table|td|th|tr|ul"
_INLINE = "a|abbr|b|big|center|cite|code|del|em|font|i|ins|mark|small|span|strong|sub|sup|tt|u"
_TAG = re.compile(rf"</?(?:(?P<block>{_BLOCKS})|{_INLINE})(?:\s[^<>]*)?/?>", re.IGNORECASE)

# Data that went through two exports has entities of entities: `&amp;quot;`.
_UNESCAPES = 3

_LONGEST_QUOTE = 100


class UnusableCaptionError(Exception):
    """A caption that has to be set aside.

    Attributes:
      reason: Why.
      detail: What exactly is wrong.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def clean_caption(text: str, *, max_words: int) -> tuple[str, list[str]]:
    """Mends a caption.

    Args:
      text: As the annotation file has it.
      max_words: Captions of more words, which spaces separate, are refused.

    Returns:
      The caption, and what was mended: "html", "markers", "control characters".

    Raises:
      UnusableCaptionError: There is no usable caption in the text.

    >>> clean_caption("startseq a cat &amp; a <b>dog</b> endseq", max_words=100)
    ('a cat & a dog', ['html', 'markers'])
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UnusableCaptionError(
            Reason.CAPTION_UNPARSABLE, "holds half a surrogate pair, or bytes that are not UTF-8"
        ) from error
    words = len(text.split())
    if words > max_words:
        raise UnusableCaptionError(
            Reason.CAPTION_TOO_LONG,
            f"{words} words; `max_caption_words` is {max_words}: {text[:_LONGEST_QUOTE]}",
        )
    steps = {
        "html": lambda text: _without_tags(_unescaped(text)),
        "markers": _without_markers,
        "control characters": _without_controls,
    }
    mended = []
    for name, step in steps.items():
        result = step(text).strip()
        if result != text.strip():
            mended.append(name)
        text = result
    _check(text)
    return text, mended


def same_words(caption: str) -> str:
    """What two captions have in common that say the same: all but case and spaces."""
    return " ".join(caption.casefold().split())


def _check(text: str) -> None:
    quote = text[:_LONGEST_QUOTE]
    if text.lower() in _PLACEHOLDERS:
        raise UnusableCaptionError(Reason.CAPTION_PLACEHOLDER, quote)
    if not any(character.isalnum() for character in text):
        raise UnusableCaptionError(Reason.CAPTION_EMPTY, quote)
    if _WITHIN.search(text):
        raise UnusableCaptionError(Reason.CAPTION_MARKERS, quote)
    if _URL.search(text):
        raise UnusableCaptionError(Reason.CAPTION_URL, quote)


def _unescaped(text: str) -> str:
    for _ in range(_UNESCAPES):
        plain = html.unescape(text)
        if plain == text:
            break
        text = plain.replace("\N{NO-BREAK SPACE}", " ")
    return text


def _without_tags(text: str) -> str:
    return _TAG.sub(lambda tag: " " if tag["block"] else "", text)


def _without_markers(text: str) -> str:
    leading = _LEADING.match(text)
    text = text[leading.end() :] if leading else text
    end = len(text)
    while last := _LAST.search(text, max(0, end - _LONGEST_MARKER), end):
        end = last.start()
    return text[:end]


def _without_controls(text: str) -> str:
    plain = _CONTROLS.sub(" ", text)
    return text if plain == text else re.sub(" {2,}", " ", plain)
