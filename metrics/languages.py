"""The language of captions: what a word is for the metrics, and what is known in English only.

Languages with spaces between words are tokenised as the COCO caption evaluation does it (`ptb`). In
those without, a character is a word, as in sacreBLEU's `zh` and `char`. No segmenter is used: its
scores depend on which one, in which version and with which dictionary, and nobody else has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tfx_captioner.metrics import ptb, scripts

ENGLISH = "en"
#: ISO 639-1 codes of the languages that are written without spaces between words.
UNSPACED_LANGUAGES = ("ja", "km", "lo", "my", "th", "zh")
#: All ISO 639-1 codes but `bo`, `dz` and `ii`, whose scripts set syllables apart, not words.
_CODES = """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn br bs ca ce ch co cr cs cu cv cy da de
    dv ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id
    ie ig ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu
    lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt
    qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn
    to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
LANGUAGES = tuple(_CODES.split())

#: How captions become words; scores of different segmentations do not compare.
CHARACTERS, PENN_TREEBANK = "characters", "Penn Treebank words"


def check_language(language: str) -> str:
    """The language itself.

    Raises:
        ValueError: It is none of `LANGUAGES`.
    """
    if language not in LANGUAGES:
        raise ValueError(
            "the language must be an ISO 639-1 code of a language with a rule for its words: "
            f"{' '.join(LANGUAGES)}. Received: {language!r}."
        )
    return language


def is_spaced(language: str) -> bool:
    """Whether words have spaces between them."""
    return check_language(language) not in UNSPACED_LANGUAGES


def segmentation(language: str) -> str:
    """Name of the rule by which captions become words: `CHARACTERS` or `PENN_TREEBANK`."""
    return PENN_TREEBANK if is_spaced(language) else CHARACTERS


def tokenizer(language: str) -> Callable[[str], str]:
    """What turns a caption into words with single spaces between them.

    Example:
        >>> tokenizer("zh")("一只狗。")
        '一 只 狗'
        >>> tokenizer("en")("A dog.")
        'a dog'
    """
    return ptb.tokenize if is_spaced(language) else scripts.split_words


def warning(language: str, captions: Iterable[str]) -> str:
    """That most captions cannot be scored in a language with spaces; empty where they can.

    Args:
        language: Language that they are said to be in.
        captions: Raw captions.
    """
    if not is_spaced(language):
        return ""
    verdicts = [scripts.is_unspaced(caption) for caption in captions]
    if 2 * sum(verdicts) <= len(verdicts):
        return ""
    return (
        f"{sum(verdicts):,} of {len(verdicts):,} captions are in a script without spaces between "
        f"words, but the language is `{language}`: a whole caption counts as one word, and nearly "
        f"equal captions score 0. Name their language, one of {', '.join(UNSPACED_LANGUAGES)}"
    )
