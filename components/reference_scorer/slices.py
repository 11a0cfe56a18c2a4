"""Groups of test images that are scored by themselves.

Every slice is a string feature of an image, made of its reference captions and its pixels only,
so that it is the same for every model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tfx_captioner.components.reference_scorer.split import EvaluatedImage


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
_WORDS = {"people": PEOPLE, "animals": ANIMALS, "outdoor": OUTDOOR}


def slice_features(
    images: Iterable[EvaluatedImage], names: Iterable[str], word_slices: Mapping[str, Iterable[str]]
) -> dict[str, list[str]]:
    """The value of every slicing feature for every image.

    Args:
      images: Images with their references.
      names: Names among `SLICES` and the keys of `word_slices`.
      word_slices: Further slices: name to words of which one occurs in a reference.

    Returns:
      Feature to a value for each image, such as `{"people": ["yes", "no"]}`.
    """
    known = {name: frozenset(words) for name, words in (*_WORDS.items(), *word_slices.items())}
    values: dict[str, list[str]] = {name: [] for name in names}
    for image in images:
        features = {
            "caption_length": _caption_length(image.references),
            "orientation": _orientation(image.width, image.height),
            "brightness": _brightness(image.brightness),
            "source": image.source,
            "reference_count": str(len(image.references)),
        }
        words = frozenset(re.findall(r"\w+", " ".join(image.references).lower()))
        for name, column in values.items():
            column.append(features.get(name) or ("no" if words.isdisjoint(known[name]) else "yes"))
    return values


def _caption_length(references: Iterable[str]) -> str:
    """Mean words of the references; Flickr8k's terciles lie near 10 and 12."""
    lengths = [len(reference.split()) for reference in references]
    mean = sum(lengths) / len(lengths)
    if mean < 10:
        return "short (under 10 words)"
    return "medium (10 to 12 words)" if mean <= 12 else "long (over 12 words)"


def _orientation(width: int, height: int) -> str:
    if width == height:
        return "square"
    return "landscape" if width > height else "portrait"


def _brightness(luma: float) -> str:
    """Mean luma from 0 (black) to 255 (white)."""
    if luma < 85:
        return "dark"
    return "medium" if luma <= 150 else "bright"
