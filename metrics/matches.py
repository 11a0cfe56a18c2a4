"""Hypotheses beside the references of the same images: which n-grams both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tfx_captioner.metrics.ngrams import (
    CountedCaptions,
    Counts,
    Types,
    by_image,
    find,
    groups,
    offsets,
    pairs,
)


class Matches(NamedTuple):
    """The n-grams of one order that a hypothesis and a reference of its image share.

    Attributes:
        hypothesis: Row of the hypotheses' counts, int32 [matches].
        reference: Row of the references' counts, int32 [matches], ascending.
    """

    hypothesis: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True, eq=False)
class Comparison:
    """One hypothesis and the references of each image, counted and matched.

    Attributes:
        hypotheses: One caption per image.
        references: The references, image by image.
        captions: References of each image, int64 [images].
        documents: For each order the n-grams of each image's references, as `ngrams.by_image`.
        numbers: For each order the references' number of each n-gram of the hypotheses, -1 for
            those that no reference has.
        matches: For each order what they share.

    Example:
        >>> hypotheses, references = (CountedCaptions.of([text]) for text in ("a dog", "a red dog"))
        >>> comparison = Comparison.of(hypotheses, references, np.array([1]))
        >>> [len(matches.hypothesis) for matches in comparison.matches]  # a, dog; no pair
        [2, 0, 0, 0]
    """

    hypotheses: CountedCaptions
    references: CountedCaptions
    captions: np.ndarray
    documents: Sequence[Types]
    numbers: Sequence[np.ndarray]
    matches: Sequence[Matches]

    @classmethod
    def of(
        cls,
        hypotheses: CountedCaptions,
        references: CountedCaptions,
        captions: np.ndarray,
        documents: Sequence[Types] | None = None,
    ) -> Comparison:
        """Finds the n-grams that both have.

        Args:
            hypotheses: One caption per image.
            references: All references, image by image.
            captions: References of each image, int64 [images].
            documents: `image_documents` of the references where they are known already.
        """
        numbers = hypotheses.numbers_in(references.spelling, references.keys)
        image = groups(captions)
        matches = [
            _match(
                hypotheses.counts[order], numbers[order], references.counts[order], image, len(k)
            )
            for order, k in enumerate(references.keys)
        ]
        documents = documents or image_documents(references, captions)
        return cls(hypotheses, references, captions, documents, numbers, matches)

    @classmethod
    def within(
        cls,
        texts: CountedCaptions,
        captions: np.ndarray,
        documents: Sequence[Types],
        chosen: np.ndarray,
    ) -> Comparison:
        """Compares one of each image's captions with the others.

        Args:
            texts: At least two captions per image, image by image.
            captions: Captions of each image, int64 [images].
            documents: `image_documents` of them.
            chosen: Caption to compare with the others, int64 [images].
        """
        left_out = np.zeros(len(texts.lengths), bool)
        left_out[chosen] = True
        hypotheses, references = texts.select(left_out), texts.select(~left_out)
        comparison = cls.of(hypotheses, references, captions - 1, documents)
        others = [
            _without(documents[order], hypotheses.counts[order], comparison.matches[order], len(k))
            for order, k in enumerate(texts.keys)
        ]
        return cls(
            hypotheses, references, captions - 1, others, comparison.numbers, comparison.matches
        )


def image_documents(references: CountedCaptions, captions: np.ndarray) -> tuple[Types, ...]:
    """For each order the n-grams of each image's references, as `ngrams.by_image`."""
    return tuple(
        by_image(counts, captions, len(keys))
        for counts, keys in zip(references.counts, references.keys, strict=True)
    )


def _match(
    hypotheses: Counts, numbers: np.ndarray, references: Counts, image: np.ndarray, size: int
) -> Matches:
    number = numbers[hypotheses.number]
    known = np.flatnonzero(number >= 0)
    number = number[known]
    used = np.zeros(size, bool)
    used[number] = True
    rows = np.flatnonzero(used[references.number])
    # Both numberings follow the alphabet, so that those of the hypotheses ascend.
    place = find(
        pairs(hypotheses.caption()[known], number, size),
        pairs(image[references.caption()[rows]], references.number[rows], size),
    )
    found = place >= 0
    return Matches(known[place[found]].astype(np.int32), rows[found].astype(np.int32))


def _without(documents: Types, hypotheses: Counts, matches: Matches, size: int) -> Types:
    """The documents without what a caption that is left out alone has in its image."""
    alone = np.ones(len(hypotheses.number), bool)
    alone[matches.hypothesis] = False
    image = documents.image()
    kept = np.ones(len(image), bool)
    kept[
        find(
            pairs(image, documents.number, size),
            pairs(hypotheses.caption()[alone], hypotheses.number[alone], size),
        )
    ] = False
    sizes = np.bincount(image[kept], minlength=len(documents.first) - 1)
    return Types(documents.number[kept], offsets(sizes))
