"""CIDEr-D of many images at once, on flat arrays of word numbers.

Two passes for each order of n-grams. The first counts in how many images' references each n-gram
occurs and leaves that count at the n-gram's place in the text; the second computes the similarities
image by image. Neither holds a table of all n-grams: the first takes some of the n-grams at a time,
chosen by a hash, the second some of the images. So the memory is ten bytes for a word of text, and
a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from components.caption_evaluator.metrics.ngrams import MAX_ORDER, NGram

_SIGMA = 6.0
# No sum of floats crosses a cut: scores do not depend on these.
_IMAGES_PER_CHUNK = 8192
_NGRAMS_PER_PART = 1 << 20
_NO_PART = 255
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio (Knuth, volume 3, 6.4)

CountOf = Callable[[NGram], int]


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


def cider_scores(text: Text, images: int = 0, count_of: CountOf | None = None) -> np.ndarray:
    """CIDEr-D of each image.

    Args:
        text: Tokenised captions.
        images: How many images `count_of` counted in.
        count_of: Images whose references hold an n-gram; those of `text` are counted without it.

    Returns:
        float64 [images], each in [0, 10].
    """
    layout = _layout(text)
    total = np.zeros(len(text.captions))
    for order in range(1, MAX_ORDER + 1):
        documents = np.zeros(0) if count_of else _documents(text, layout, order)
        for first in range(0, len(total), _IMAGES_PER_CHUNK):
            last = min(first + _IMAGES_PER_CHUNK, len(total))
            places, number, caption = _ngrams_of_images(text, layout, order, first, last)
            if count_of:
                spelled = _spell(text, order, places, number)
                occurs = np.array([count_of(ngram) for ngram in spelled], np.float64)
            else:
                occurs = np.zeros(int(number.max(initial=-1)) + 1)
                occurs[number] = documents[places]
            idf = np.log(float(images or len(total))) - np.log(np.maximum(1.0, occurs))
            total[first:last] += _similarities(caption, number, idf, text, layout, first, last)
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


def _spell(text: Text, order: int, places: np.ndarray, number: np.ndarray) -> Iterator[NGram]:
    """The n-grams in the order of their numbers."""
    _, first = np.unique(number, return_index=True)
    columns = [text.words[places[first] + offset].tolist() for offset in range(order)]
    return (tuple(text.spelling[word] for word in ngram) for ngram in zip(*columns, strict=True))


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
    idf: np.ndarray,
    text: Text,
    layout: _Layout,
    first: int,
    last: int,
) -> np.ndarray:
    """Clipped, length-penalised cosines of one order, summed over each image's references.

    Args:
        caption: Caption of each n-gram, counted from that of the image `first`.
        ngram: Number of each n-gram.
        idf: Inverse document frequency by number.
        text: All captions.
        layout: Of the text.
        first: First image.
        last: The one behind the last image.
    """
    captions = text.captions[first:last]
    image = np.repeat(np.arange(last - first), captions)
    length = text.lengths[slice(*layout.first_caption[[first, last]])]
    is_hypothesis = np.zeros(len(image), bool)
    is_hypothesis[np.cumsum(captions) - captions] = True
    # One row per different n-gram of a caption, sorted by caption, then by number.
    rows, occurrences = np.unique(caption * len(idf) + ngram, return_counts=True)
    caption, ngram = np.divmod(rows, max(len(idf), 1))
    weight = occurrences * idf[ngram]
    norm = np.sqrt(np.bincount(caption, weight**2, minlength=len(image)))
    of_hypothesis = is_hypothesis[caption]
    # The hypothesis' weight of each reference row's n-gram, zero where it does not have it.
    known = image[caption[of_hypothesis]] * len(idf) + ngram[of_hypothesis]
    wanted = image[caption[~of_hypothesis]] * len(idf) + ngram[~of_hypothesis]
    place = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    found = known[place] == wanted if len(known) else np.zeros(len(wanted), bool)
    reference_weight = weight[~of_hypothesis][found]
    clipped = np.minimum(weight[of_hypothesis][place[found]], reference_weight)
    matched = caption[~of_hypothesis][found]
    product = np.zeros(len(image))
    product += np.bincount(matched, clipped * reference_weight, minlength=len(image))
    hypothesis = np.flatnonzero(is_hypothesis)[image]
    norms = norm[hypothesis] * norm
    cosine = np.divide(product, norms, out=product.copy(), where=norms != 0)
    # The reference implementation counts a caption's length in bigrams.
    bigrams = np.maximum(length - 1, 0)
    difference = (bigrams[hypothesis] - bigrams).astype(np.float64)
    penalised = cosine * np.exp(-(difference**2) / (2 * _SIGMA**2))
    return np.bincount(image, np.where(is_hypothesis, 0.0, penalised))
