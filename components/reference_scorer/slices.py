"""Groups of test images that are scored by themselves.

Every slice is a string feature of an image, made of its reference captions and its pixels only,
so that it is the same for every model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from tfx_captioner.components.reference_scorer.split import EvaluatedImage
from tfx_captioner.components.scores import ENGLISH_SLICES
from tfx_captioner.metrics.languages import ENGLISH, is_spaced, tokenizer


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PEOPLE = _words(
    "adult adults baby babies bicyclist biker boy boys brother brothers child children couple "
    "crowd cyclist dancer dancers father female friends girl girls guy guys human infant kid kids "
    "ladies lady male man men mother people person persons player players rider sister sisters "
    "skateboarder skier snowboarder surfer team teenager toddler woman women"
)
ANIMALS = _words(
    "animal animals bear bears bird birds bull camel cat cats cattle cow cows deer dog dogs duck "
    "ducks elephant elephants fish giraffe giraffes goat goats horse horses kitten lamb monkey "
    "pony puppies puppy sheep squirrel zebra zebras"
)
OUTDOOR = _words(
    "beach bridge cliff clouds desert dirt field forest garden grass grassy hill hills lake "
    "mountain mountains ocean outdoor outdoors outside park path pond rain river road rock rocks "
    "sand sea sidewalk sky snow snowy street sunset surf tree trees trail wave waves woods "
    "yard"
)
_WORDS = dict(zip(ENGLISH_SLICES, (PEOPLE, ANIMALS, OUTDOOR), strict=True))


def slice_features(
    images: Iterable[EvaluatedImage],
    names: Iterable[str],
    word_slices: Mapping[str, Iterable[str]],
    language: str = ENGLISH,
) -> dict[str, list[str]]:
    """The value of every slicing feature for every image.

    Args:
      images: Images with their references.
      names: Names among `SLICES` and the keys of `word_slices`; in other languages those of
        `ENGLISH_SLICES` are passed over.
      word_slices: Further slices: name to words of which one occurs in a reference.
      language: Language of the references.

    Returns:
      Feature to a value for each image, such as `{"people": ["yes", "no"]}`.
    """
    known = {name: frozenset(words) for name, words in (*_WORDS.items(), *word_slices.items())}
    values: dict[str, list[str]] = {
        name: [] for name in names if language == ENGLISH or name not in ENGLISH_SLICES
    }
    for image in images:
        features = {
            "caption_length": _caption_length(image.references, language),
            "orientation": _orientation(image.width, image.height),
            "brightness": _brightness(image.brightness),
            "source": image.source,
            "reference_count": str(len(image.references)),
        }
        holds_one_of = _search(image.references, language)
        for name, column in values.items():
            column.append(features.get(name) or ("yes" if holds_one_of(known[name]) else "no"))
    return values


def _search(references: Sequence[str], language: str) -> Callable[[Iterable[str]], bool]:
    """Tells whether one of some words occurs in a reference."""
    if is_spaced(language):
        words = frozenset(re.findall(r"\w+", " ".join(references).lower()))
        return lambda wanted: not words.isdisjoint(wanted)
    # A word is some characters in a row.
    split = tokenizer(language)
    texts = [f" {split(reference)} " for reference in references]
    return lambda wanted: any(f" {split(word)} " in text for word in wanted for text in texts)


def _caption_length(references: Iterable[str], language: str) -> str:
    """Mean words of the references; Flickr8k's terciles lie near 10 and 12."""
    spaced = is_spaced(language)
    unit, split = ("words", str) if spaced else ("characters", tokenizer(language))
    lengths = [len(split(reference).split()) for reference in references]
    mean = sum(lengths) / len(lengths)
    if mean < 10:
        return f"short (under 10 {unit})"
    return f"medium (10 to 12 {unit})" if mean <= 12 else f"long (over 12 {unit})"


def _orientation(width: int, height: int) -> str:
    if width == height:
        return "square"
    return "landscape" if width > height else "portrait"


def _brightness(luma: float) -> str:
    """Mean luma from 0 (black) to 255 (white)."""
    if luma < 85:
        return "dark"
    return "medium" if luma <= 150 else "bright"
