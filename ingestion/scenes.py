"""What a generated scene shows, and how people would say it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple")
SHAPES = ("circle", "square", "triangle", "star", "cross")
SIZES = ("small", "large")
RELATIONS = {
    "above": "above",
    "below": "below",
    "left of": "to the left of",
    "right of": "to the right of",
}
POSITIONS = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "middle": "in the middle",
}
BACKGROUNDS = ("white", "grey", "black")
CAPTIONS_PER_SCENE = 5

_SHARE_OF_PAIRS = 0.6

_ONE_OBJECT = (
    "a {size} {main} {where} .",
    "a {size} {main} {where} of the picture .",
    "a {size} {main} is {where} of the picture .",
    "there is a {size} {main} {where} .",
    "there is a {size} {main} {where} of the picture .",
    "{a_main} {where} of the picture .",
    "there is {a_main} {where} of the picture .",
    "a {size} {main} {where} of a {background} picture .",
)
_TWO_OBJECTS = (
    "a {size} {main} {relation} a small {second} .",
    "a {size} {main} is {relation} a small {second} .",
    "there is a {size} {main} {relation} a small {second} .",
    "{a_main} {relation} a small {second} .",
    "{a_main} is {relation} a small {second} .",
    "{a_main} {relation} {a_second} .",
    "a {size} {main} {relation} {a_second} .",
    "a {size} {main} {relation} a small {second} on a {background} background .",
)


@dataclass(frozen=True)
class SecondObject:
    """The lesser object of a scene; it is always small."""

    colour: str
    shape: str


@dataclass(frozen=True)
class Scene:
    """What is to be seen in a picture.

    Of two objects the large one is the main object, so that a person would name it first too.

    Attributes:
      colour: Colour of the main object, one of `COLOURS`.
      shape: Shape of the main object, one of `SHAPES`.
      size: Size of the main object, one of `SIZES`.
      background: One of `BACKGROUNDS`.
      position: Where a lonely object lies, one of `POSITIONS`; None beside a second object.
      relation: Where the main object lies from the second, one of `RELATIONS`, or None.
      second: The second object, or None.
    """

    colour: str
    shape: str
    size: str
    background: str
    position: str | None = None
    relation: str | None = None
    second: SecondObject | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scene:
        """The scene of which `dataclasses.asdict` made these values."""
        second = values["second"]
        return cls(**{**values, "second": SecondObject(**second) if second else None})


def random_scene(rng: random.Random) -> Scene:
    """Draws a scene; every colour, shape and relation is as likely as any other."""
    colour, shape = rng.choice(COLOURS), rng.choice(SHAPES)
    background = rng.choice(BACKGROUNDS)
    if rng.random() >= _SHARE_OF_PAIRS:
        size, position = rng.choice(SIZES), rng.choice(tuple(POSITIONS))
        return Scene(colour, shape, size, background, position=position)
    others = [c for c in COLOURS if c != colour]
    second = SecondObject(rng.choice(others), rng.choice(SHAPES))
    relation = rng.choice(tuple(RELATIONS))
    return Scene(colour, shape, "large", background, relation=relation, second=second)


def is_held_out(scene: Scene) -> bool:
    """Whether all that is said of a scene, taken together, is for the test split alone.

    One combination in five is held out, in the manner of a Latin square: every word, and every
    two or three of them together, are as frequent in training as any other. Held-out pairs of
    colour and shape would be harder, but then the language learnt in training argues against the
    right answer, which networks of this size believe more than their eyes.
    """
    total = COLOURS.index(scene.colour) + SHAPES.index(scene.shape)
    if scene.second:
        total += list(RELATIONS).index(str(scene.relation))
        total += COLOURS.index(scene.second.colour) + SHAPES.index(scene.second.shape)
    else:
        total += list(POSITIONS).index(str(scene.position))
        total += SIZES.index(scene.size) + BACKGROUNDS.index(scene.background)
    return total % 5 == 0


def captions(scene: Scene, rng: random.Random) -> list[str]:
    """Five different captions of a scene, each of which names the main object first."""
    words = {
        "size": scene.size,
        "main": f"{scene.colour} {scene.shape}",
        "a_main": _with_article(f"{scene.colour} {scene.shape}"),
        "background": scene.background,
    }
    if scene.second:
        second = f"{scene.second.colour} {scene.second.shape}"
        words |= {"second": second, "a_second": _with_article(second)}
        words["relation"] = RELATIONS[str(scene.relation)]
    else:
        words["where"] = POSITIONS[str(scene.position)]
    templates = rng.sample(_TWO_OBJECTS if scene.second else _ONE_OBJECT, CAPTIONS_PER_SCENE)
    texts = [template.format_map(words) for template in templates]
    return [text[0].upper() + text[1:] for text in texts]


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
