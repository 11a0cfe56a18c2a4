"""CIDEr-D of many images at once, on flat arrays of word numbers.

Two passes for each order of n-grams. The first counts in how many images' references each n-gram
occurs and leaves that count at the n-gram's place in the text; the second computes the similarities
image by image. Neither holds a table of all n-grams: the first takes some of the n-grams at a time,
chosen by a hash, the second some of the images. So the memory is ten bytes for a word of text, and
a constant. Counts from elsewhere (`NGramCounts`) take the place of the first pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np

from tfx_captioner.metrics.ngrams import MAX_ORDER, NGram

_SIGMA = 6.0
# No sum of floats crosses a cut: scores do not depend on these.
_IMAGES_PER_CHUNK = 8192
_NGRAMS_PER_PART = 1 << 20
_NO_PART = 255
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio (Knuth, volume 3, 6.4)


class Text(NamedTuple):
    """The captions of a corpus in a row, each image's hypothesis before its references.

    Attributes:
        spelling: Words in alphabetical order.
        words: Place of each word in `spelling`, int32 [words].
        lengths: Words of each caption, int64 [captions].
        captions: Captions of each image, int64 [images].
    """

    spelling: Sequence[str]
    words: np.ndarray
    lengths: np.ndarray
    captions: np.ndarray


class _Layout(NamedTuple):
    """Where things are in a text.

    Attributes:
        first_word: Of each caption, and the end, int64 [captions + 1].
        first_caption: Of each image, and the end, int64 [images + 1].
        left: Words from here to the end of the caption, four at the most, uint8 [words].
    """

    first_word: np.ndarray
    first_caption: np.ndarray
    left: np.ndarray


class NGramCounts:
    """In how many images each n-gram occurs, to be looked up for a whole text at once.

    A trie in sorted arrays: the n-grams of an order are found by the row of what they begin with,
    in the order before, and their last word.
    """

    def __init__(self, images: int, counts: Mapping[NGram, int]) -> None:
        """Sorts the counts.

        Args:
            images: How many images were counted.
            counts: Images by n-gram; one that is missing was in none.
        """
        self.images = images
        self._number: dict[str, int] = {}
        for word in chain.from_iterable(counts):
            self._number.setdefault(word, len(self._number))
        # What an n-gram begins with leads to it, counted by itself or not.
        beginnings = {ngram[:size]: 0 for ngram in counts for size in range(1, len(ngram))}
        by_order: list[dict[NGram, int]] = [{} for _ in range(MAX_ORDER)]
        for ngram, count in (beginnings | dict(counts)).items():
            by_order[len(ngram) - 1][ngram] = count
        self._keys: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []
        for order, known in enumerate(by_order, 1):
            size = order * len(known)
            words = np.fromiter(
                (self._number[word] for ngram in known for word in ngram), int, size
            )
            row = np.zeros(len(known), np.int64)
            columns = words.reshape(-1, order).T
            for keys, column in zip(self._keys, columns[:-1], strict=True):
                row = _find(keys, self._key(row, column))
            key = self._key(row, columns[-1])
            ascending = np.argsort(key)
            self._keys.append(key[ascending])
            self._counts.append(np.fromiter(known.values(), np.int32, len(known))[ascending])

    def at_each_word(self, text: Text) -> Iterator[np.ndarray]:
        """For each order the count of the n-gram that begins at each word, int32 [words].

        N-grams that go beyond the end of their caption have counts too; nobody asks for them.
        """
        words = np.array([self._number.get(word, -1) for word in text.spelling], np.int64)
        row = np.zeros(len(text.words), np.int32)
        for order, (keys, counts) in enumerate(zip(self._keys, self._counts, strict=True)):
            found = np.zeros(len(row), np.int32)
            for first in range(0, len(row) - order, _NGRAMS_PER_PART):
                part = slice(first, min(first + _NGRAMS_PER_PART, len(row) - order))
                last_word = words[text.words[part.start + order : part.stop + order]]
                key = self._key(row[part].astype(np.int64), last_word)
                # No key is negative: neither an unknown word nor an unknown beginning is found.
                key[(row[part] < 0) | (last_word < 0)] = -1
                row[part] = at = _find(keys, key)
                if len(counts):
                    found[part] = np.where(at < 0, 0, counts[at])
            yield found

    def _key(self, row: np.ndarray, word: np.ndarray) -> np.ndarray:
        return row * len(self._number) + word


def _find(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where each of some values is among sorted ones, -1 for those that are not."""
    if not len(keys):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


def cider_scores(text: Text, sources: Sequence[NGramCounts | None] = (None,)) -> np.ndarray:
    """CIDEr-D of each image.

    Args:
        text: Tokenised captions.
        sources: Where document frequencies come from, None for the references of `text`; what does
            not depend on them is computed once.

    Returns:
        float64 [sources, images], each in [0, 10].
    """
    layout = _layout(text)
    total = np.zeros((len(sources), len(text.captions)))
    sizes = [source.images if source else len(text.captions) for source in sources]
    counted = [source.at_each_word(text) if source else None for source in sources]
    for order in range(1, MAX_ORDER + 1):
        documents = [next(of) if of else _documents(text, layout, order) for of in counted]
        for first in range(0, len(text.captions), _IMAGES_PER_CHUNK):
            last = min(first + _IMAGES_PER_CHUNK, len(text.captions))
            places, number, caption = _ngrams_of_images(text, layout, order, first, last)
            occurs = np.zeros((len(sources), int(number.max(initial=-1)) + 1))
            for row, of in enumerate(documents):
                occurs[row, number] = of[places]
            idfs = np.log(np.array(sizes, np.float64))[:, None] - np.log(np.maximum(1.0, occurs))
            similar = _similarities(caption, number, idfs, text, layout, first, last)
            total[:, first:last] += similar
    return total / MAX_ORDER / (text.captions - 1.0) * 10.0


def _layout(text: Text) -> _Layout:
    first_word = np.concatenate([[0], np.cumsum(text.lengths)])
    left = np.full(len(text.words), MAX_ORDER, np.uint8)
    for before_end in range(1, MAX_ORDER):
        left[(first_word[1:] - before_end)[text.lengths >= before_end]] = before_end
    return _Layout(first_word, np.concatenate([[0], np.cumsum(text.captions)]), left)


def _ngrams_of_images(
    text: Text, layout: _Layout, order: int, first: int, last: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place, number and caption, counted from that of `first`, of each n-gram of some images."""
    begin, end = layout.first_caption[[first, last]]
    words = slice(*layout.first_word[[begin, end]])
    inside = layout.left[words] >= order
    places = words.start + np.flatnonzero(inside)
    caption = np.repeat(np.arange(end - begin), text.lengths[begin:end])[inside]
    return places, _numbers(text, places, order), caption


def _numbers(text: Text, places: np.ndarray, order: int) -> np.ndarray:
    """Numbers the n-grams at some places.

    Numbers follow the alphabet, never the order of addition: it decides in which order floats are
    added up later, and so the last digits.
    """
    size = max(len(text.spelling), 1)
    key, bound = text.words[places].astype(np.int64), size
    for offset in range(1, order):
        if bound > np.iinfo(np.int64).max // size:
            key = _ranks(key)
            bound = int(key.max(initial=0)) + 1
        key = key * size + text.words[places + offset]
        bound *= size
    return _ranks(key)


def _ranks(keys: np.ndarray) -> np.ndarray:
    """Rank of each key among the different ones, int64."""
    return np.unique(keys, return_inverse=True)[1].reshape(-1)


def _documents(text: Text, layout: _Layout, order: int) -> np.ndarray:
    """Images whose references hold the n-gram that begins at each word, int32 [words]."""
    documents = np.zeros(len(text.words), np.int32)
    images = len(text.captions)
    for places in _parts(text, layout, order):
        number = _numbers(text, places, order)
        caption = np.searchsorted(layout.first_word, places, side="right") - 1
        image = np.searchsorted(layout.first_caption, caption, side="right") - 1
        of_reference = caption != layout.first_caption[image]
        pairs = np.unique(number[of_reference] * images + image[of_reference])
        counts = np.bincount(pairs // images, minlength=int(number.max(initial=-1)) + 1)
        documents[places] = counts[number]
    return documents


def _parts(text: Text, layout: _Layout, order: int) -> Iterator[np.ndarray]:
    """Places of all n-grams in parts: wherever an n-gram occurs, it is in the same part."""
    count = min(1 + len(text.words) // _NGRAMS_PER_PART, _NO_PART)
    part_of = np.full(len(text.words), _NO_PART, np.uint8)
    for first in range(0, len(part_of), _NGRAMS_PER_PART):
        places = first + np.flatnonzero(layout.left[first : first + _NGRAMS_PER_PART] >= order)
        mixed = np.zeros(len(places), np.uint64)
        for offset in range(order):
            mixed = (mixed + text.words[places + offset].astype(np.uint64) + np.uint64(1)) * _MIX
        part_of[places] = (mixed >> np.uint64(40)) % np.uint64(count)
    for part in range(count):
        yield np.flatnonzero(part_of == part)


def _similarities(
    caption: np.ndarray,
    ngram: np.ndarray,
    idfs: np.ndarray,
    text: Text,
    layout: _Layout,
    first: int,
    last: int,
) -> np.ndarray:
    """Clipped, length-penalised cosines of one order, summed over each image's references.

    Args:
        caption: Caption of each n-gram, counted from that of the image `first`.
        ngram: Number of each n-gram.
        idfs: Inverse document frequencies by number, float64 [sources, n-grams].
        text: All captions.
        layout: Of the text.
        first: First image.
        last: The one behind the last image.

    Returns:
        float64 [sources, last - first].
    """
    captions = text.captions[first:last]
    image = np.repeat(np.arange(last - first), captions)
    length = text.lengths[slice(*layout.first_caption[[first, last]])]
    is_hypothesis = np.zeros(len(image), bool)
    is_hypothesis[np.cumsum(captions) - captions] = True
    hypothesis = np.flatnonzero(is_hypothesis)[image]
    # The reference implementation counts a caption's length in bigrams.
    bigrams = np.maximum(length - 1, 0)
    difference = (bigrams[hypothesis] - bigrams).astype(np.float64)
    penalty = np.exp(-(difference**2) / (2 * _SIGMA**2))
    # One row per different n-gram of a caption, sorted by caption, then by number.
    size = idfs.shape[1]
    rows, occurrences = np.unique(caption * size + ngram, return_counts=True)
    caption, ngram = np.divmod(rows, max(size, 1))
    of_hypothesis = is_hypothesis[caption]
    # Where the hypothesis has each reference row's n-gram, if it has it.
    known = image[caption[of_hypothesis]] * size + ngram[of_hypothesis]
    wanted = image[caption[~of_hypothesis]] * size + ngram[~of_hypothesis]
    place = _find(known, wanted)
    found = place >= 0
    place, matched = place[found], caption[~of_hypothesis][found]
    sums = []
    for idf in idfs:
        weight = occurrences * idf[ngram]
        norm = np.sqrt(np.bincount(caption, weight**2, minlength=len(image)))
        reference_weight = weight[~of_hypothesis][found]
        clipped = np.minimum(weight[of_hypothesis][place], reference_weight)
        product = np.zeros(len(image))
        product += np.bincount(matched, clipped * reference_weight, minlength=len(image))
        norms = norm[hypothesis] * norm
        cosine = np.divide(product, norms, out=product.copy(), where=norms != 0)
        sums.append(np.bincount(image, np.where(is_hypothesis, 0.0, cosine * penalty)))
    return np.array(sums)
