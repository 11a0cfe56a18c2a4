"""CIDEr-D of many images at once, under several kinds of document frequencies.

What does not depend on the frequencies (which n-grams match, how much captions differ in length) is
computed once. Frequencies can be those of groups of images: each image is then scored as if its
group were all there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tfx_captioner.metrics.matches import Comparison
from tfx_captioner.metrics.ngrams import MAX_ORDER, Counts, Types, offsets, pairs

_SIGMA = 6.0
# The rows of so many images fit into a processor's cache; no score depends on it.
_IMAGES_PER_CHUNK = 4096


class Groups(NamedTuple):
    """Document frequencies of the references of each image's group.

    Attributes:
        size: Number of groups.
        group: Group of each image, from 0, int [images].
    """

    size: int
    group: np.ndarray


class Given(NamedTuple):
    """Document frequencies from elsewhere.

    Attributes:
        images: Images that were counted.
        hypotheses: For each order those with each n-gram of the hypotheses, int64 [n-grams].
        references: For each order those with each n-gram of the references, int64 [n-grams].
    """

    images: int
    hypotheses: Sequence[np.ndarray]
    references: Sequence[np.ndarray]


class _Rows(NamedTuple):
    """The different n-grams of one order in each caption of some images, a row for each.

    Attributes:
        caption: Caption, counted from the first of them, int64 [rows].
        image: Image, int64 [rows].
        number: Number of the n-gram, int32 [rows].
        several: Rows of n-grams that several images' references have, int64 [shared rows].
        shared: Their numbers among the `_Shared`, int32 [shared rows].
        occurrences: How often the caption has it, [rows].
    """

    caption: np.ndarray
    image: np.ndarray
    number: np.ndarray
    several: np.ndarray
    shared: np.ndarray
    occurrences: np.ndarray

    @classmethod
    def of(cls, counts: Counts, captions: slice, image: np.ndarray, shared: np.ndarray) -> _Rows:
        """The rows of neighbouring captions, whose images are given."""
        first = counts.first[captions.start : captions.stop + 1]
        caption = np.repeat(np.arange(len(image)), np.diff(first))
        number = counts.number[first[0] : first[-1]]
        occurrences = counts.occurrences[first[0] : first[-1]]
        several = np.flatnonzero(shared[number])
        return cls(caption, image[caption], number, several, shared[number[several]], occurrences)

    def norms(self, weight: np.ndarray, captions: int) -> np.ndarray:
        """Length of each caption's vector, float64 [captions]."""
        return np.sqrt(np.bincount(self.caption, weight**2, minlength=captions))


class _Shared(NamedTuple):
    """The n-grams of one order that the references of several images have.

    All others, most of them, are of one image only and as rare in each group: tables of document
    frequencies need no place for them.

    Attributes:
        of: Number from 1 of each n-gram among the shared ones, 0 of the others, int32; the last
            entry is for n-grams of no reference, number -1.
        number: Number of each shared n-gram of each image, int32 [occurrences].
        image: Image of each of these, int32 [occurrences].
    """

    of: np.ndarray
    number: np.ndarray
    image: np.ndarray

    @classmethod
    def among(cls, documents: Types, size: int) -> _Shared:
        """Those of an order with so many different n-grams."""
        several = np.bincount(documents.number, minlength=size + 1) > 1
        of = np.cumsum(several, dtype=np.int32) * several
        number = of[documents.number]
        rows = np.flatnonzero(number)
        return cls(of, number[rows], documents.image()[rows])


class _GroupIdf:
    """Inverse document frequencies of one order from the references of each image's group."""

    def __init__(self, groups: Groups, shared: _Shared) -> None:
        self._groups = groups
        cell = pairs(shared.number, groups.group[shared.image], groups.size)
        occurs = np.bincount(cell, minlength=(int(shared.of.max()) + 1) * groups.size)
        images = np.bincount(groups.group, minlength=groups.size)
        table = np.log(np.maximum(1.0, occurs)).reshape(-1, groups.size)
        self._idf = (np.log(np.maximum(1.0, images)) - table).ravel()

    def of_hypotheses(self, rows: _Rows) -> np.ndarray:
        # Row 0 of the table is that of n-grams which one image has.
        idf = self._idf[self._groups.group[rows.image]]
        several = rows.several
        group = self._groups.group[rows.image[several]]
        idf[several] = self._idf[pairs(rows.shared, group, self._groups.size)]
        return idf

    of_references = of_hypotheses


class _GivenIdf:
    """Inverse document frequencies of one order from elsewhere."""

    def __init__(self, given: Given, order: int) -> None:
        self._images = np.log(float(given.images))
        self._hypotheses, self._references = given.hypotheses[order], given.references[order]

    def of_hypotheses(self, rows: _Rows) -> np.ndarray:
        return self._images - np.log(np.maximum(1.0, self._hypotheses[rows.number]))

    def of_references(self, rows: _Rows) -> np.ndarray:
        return self._images - np.log(np.maximum(1.0, self._references[rows.number]))


def cider_scores(comparison: Comparison, sources: Sequence[Groups | Given]) -> np.ndarray:
    """CIDEr-D of each image.

    Args:
        comparison: Hypotheses and references.
        sources: Where document frequencies come from.

    Returns:
        float64 [sources, images], each in [0, 10].
    """
    captions = comparison.captions
    total = np.zeros((len(sources), len(captions)))
    first_caption = offsets(captions)
    for order, documents in enumerate(comparison.documents):
        shared = _Shared.among(documents, len(comparison.references.keys[order]))
        idfs = [
            _GivenIdf(source, order) if isinstance(source, Given) else _GroupIdf(source, shared)
            for source in sources
        ]
        for first in range(0, len(captions), _IMAGES_PER_CHUNK):
            images = slice(first, min(first + _IMAGES_PER_CHUNK, len(captions)))
            references = slice(*first_caption[[images.start, images.stop]])
            total[:, images] += _similarities(
                comparison, order, shared.of, idfs, images, references
            )
    return total / MAX_ORDER / captions * 10.0


def _similarities(
    comparison: Comparison,
    order: int,
    shared: np.ndarray,
    idfs: Sequence[_GroupIdf | _GivenIdf],
    images: slice,
    captions: slice,
) -> np.ndarray:
    """Clipped, length-penalised cosines of one order, summed over each image's references.

    Args:
        comparison: Hypotheses and references.
        order: Order of the n-grams, from 0.
        shared: Number of each n-gram of the references among the `_Shared`.
        idfs: Inverse document frequencies of this order.
        images: Images to score.
        captions: Their references.

    Returns:
        float64 [idfs, images].
    """
    own_counts, counts = (
        texts.counts[order] for texts in (comparison.hypotheses, comparison.references)
    )
    own_shared = shared[comparison.numbers[order]]
    own = _Rows.of(own_counts, images, np.arange(images.start, images.stop), own_shared)
    image = np.repeat(np.arange(images.start, images.stop), comparison.captions[images])
    rows = _Rows.of(counts, captions, image, shared)
    image -= images.start
    # The reference implementation counts a caption's length in bigrams.
    bigrams = np.maximum(comparison.references.lengths[captions] - 1, 0)
    own_bigrams = np.maximum(comparison.hypotheses.lengths[images] - 1, 0)
    difference = (own_bigrams[image] - bigrams).astype(np.float64)
    penalty = np.exp(-(difference**2) / (2 * _SIGMA**2))
    matches = comparison.matches[order]
    first, last = counts.first[[captions.start, captions.stop]]
    inside = slice(*np.searchsorted(matches.reference, [first, last]))
    row = matches.reference[inside] - first
    own_row = matches.hypothesis[inside] - own_counts.first[images.start]
    sums = []
    for idf in idfs:
        weight = rows.occurrences * idf.of_references(rows)
        own_weight = own.occurrences * idf.of_hypotheses(own)
        norms = own.norms(own_weight, len(own_bigrams))[image] * rows.norms(weight, len(image))
        clipped = np.minimum(own_weight[own_row], weight[row])
        product = np.bincount(rows.caption[row], clipped * weight[row], minlength=len(image))
        product = product.astype(np.float64)  # without any match it comes as integers
        cosine = np.divide(product, norms, out=product.copy(), where=norms != 0)
        sums.append(np.bincount(image, cosine * penalty, minlength=len(own_bigrams)))
    return np.array(sums)
