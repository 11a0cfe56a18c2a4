"""CIDEr-D (Vedantam et al., 2015), the metric everybody calls CIDEr.

The cosine of tf-idf vectors of n-grams between hypothesis and reference, clipped, with a Gaussian
penalty on the difference in length (sigma 6), averaged over n = 1 to 4 and over the references,
times 10. Two forms, which differ in where the document frequencies come from:

- from the evaluated references themselves: the published definition. A rare n-gram is rare among
  *these* images, so that scores of two slices or of two test sets do not compare, and one image
  alone scores 0.
- from the training split (`DocumentFrequencies`): a mean over images like any other, which compares
  across slices and runs that share the file.

The published form cannot be had from sums: an image's score needs frequencies that are known after
the last image only. So its statistics are the captions themselves, four bytes a word, and scoring
works on arrays. About 0.3 KB per image with five references travel to the worker that extracts.
"""

from __future__ import annotations

import gzip
import json
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from components.caption_evaluator.metrics.ngrams import MAX_ORDER, NGram, count_ngrams
from components.caption_evaluator.metrics.sums import MeanStatistics

_SIGMA = 6.0
_IMAGES_PER_CHUNK = 8192
_WORDS_PER_CHUNK = 1 << 20


@dataclass(slots=True, frozen=True)
class DocumentFrequencies:
    """In how many images' references each n-gram occurs.

    Attributes:
        images: Images counted.
        counts: Images by n-gram; one that is missing was in none.
    """

    images: int
    counts: dict[NGram, int]

    @classmethod
    def of(cls, references: Iterable[Sequence[str]]) -> DocumentFrequencies:
        """Counts tokenised references, one sequence per image."""
        images = 0
        counts: Counter[NGram] = Counter()
        for texts in references:
            images += 1
            counts.update({ngram for text in texts for ngram in count_ngrams(text)})
        return cls(images, dict(counts))

    def save(self, path: Path | str) -> None:
        """Writes gzipped JSON lines: the number of images, then `["n gram", count]` each."""
        # A fixed time stamp: equal frequencies make equal files, which artifact caches rely on.
        with Path(path).open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as out:
            out.write(f"{self.images}\n".encode())
            for ngram, count in sorted(self.counts.items()):
                line = json.dumps([" ".join(ngram), count], ensure_ascii=False)
                out.write(f"{line}\n".encode())

    @classmethod
    def load(cls, path: Path | str) -> DocumentFrequencies:
        """Reads what `save` wrote."""
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            images = int(next(lines))
            counts = dict(map(json.loads, lines))
        return cls(images, {tuple(text.split(" ")): count for text, count in counts.items()})


@dataclass(slots=True)
class CiderCorpus:
    """Tokenised captions of many images in little memory; merged in any order, they score the same.

    Attributes:
        vocabulary: Number of each word, by first appearance.
        words: Word numbers of all captions in a row, each image's hypothesis before its references.
        lengths: Words of each caption.
        captions: Captions of each image.
    """

    vocabulary: dict[str, int] = field(default_factory=dict)
    words: array[int] = field(default_factory=lambda: array("I"))
    lengths: array[int] = field(default_factory=lambda: array("I"))
    captions: array[int] = field(default_factory=lambda: array("I"))

    def add(self, hypothesis: str, references: Sequence[str]) -> None:
        """Adds one image.

        Raises:
            ValueError: There is no reference.
        """
        if not references:
            raise ValueError("CIDEr-D needs at least one reference per image. Received: none.")
        for text in (hypothesis, *references):
            words = text.split()
            self.lengths.append(len(words))
            self.words.extend(
                self.vocabulary.setdefault(word, len(self.vocabulary)) for word in words
            )
        self.captions.append(1 + len(references))

    def __iadd__(self, other: CiderCorpus) -> CiderCorpus:
        numbers = np.fromiter(
            (self.vocabulary.setdefault(word, len(self.vocabulary)) for word in other.vocabulary),
            np.uint32,
            len(other.vocabulary),
        )
        if len(numbers):
            self.words.frombytes(numbers[np.frombuffer(other.words, np.uint32)].tobytes())
        self.lengths.extend(other.lengths)
        self.captions.extend(other.captions)
        return self

    def scores(self, frequencies: DocumentFrequencies | None = None) -> np.ndarray:
        """CIDEr-D of each image in the order of addition.

        Args:
            frequencies: Document frequencies; those of this corpus' references if none are given.

        Returns:
            float64 [images], each in [0, 10].
        """
        return _scores(self, frequencies)

    def mean(self) -> float:
        """The published CIDEr-D of the corpus, NaN without any image."""
        scores = self.scores()
        return math.fsum(scores) / len(scores) if len(scores) else math.nan


@dataclass(slots=True)
class TrainIdfCiderStatistics:
    """Mean CIDEr-D under document frequencies from a file: a sum and a count.

    Attributes:
        document_frequencies: File that `DocumentFrequencies.save` wrote.
        scored: Sum and count of the images scored so far.
        waiting: Images that wait for being scored together, since arrays are slow one by one.
    """

    document_frequencies: str
    scored: MeanStatistics = field(default_factory=MeanStatistics)
    waiting: CiderCorpus = field(default_factory=CiderCorpus)

    def add(self, hypothesis: str, references: Sequence[str]) -> None:
        """Adds one image."""
        self.waiting.add(hypothesis, references)
        self._score_waiting(unless_fewer_than=1024)

    def __iadd__(self, other: TrainIdfCiderStatistics) -> TrainIdfCiderStatistics:
        self.scored += other.scored
        self.waiting += other.waiting
        self._score_waiting(unless_fewer_than=1024)
        return self

    def mean(self) -> float:
        """CIDEr-D under the file's frequencies, NaN without any image."""
        self._score_waiting(unless_fewer_than=1)
        return self.scored.mean()

    def _score_waiting(self, unless_fewer_than: int) -> None:
        if len(self.waiting.captions) >= unless_fewer_than:
            frequencies = _load_frequencies(self.document_frequencies)
            for score in self.waiting.scores(frequencies).tolist():
                self.scored.add_value(score)
            self.waiting = CiderCorpus()


@lru_cache(maxsize=2)
def _load_frequencies(path: str) -> DocumentFrequencies:
    return DocumentFrequencies.load(path)


class _Layout(NamedTuple):
    """Where things are in a corpus' flat array of words.

    Attributes:
        caption: Caption of each word, int32 [words].
        image: Image of each caption, int64 [captions].
        is_hypothesis: bool [captions].
        length: Words of each caption, int64 [captions].
    """

    caption: np.ndarray
    image: np.ndarray
    is_hypothesis: np.ndarray
    length: np.ndarray


def _layout(corpus: CiderCorpus) -> _Layout:
    length = np.frombuffer(corpus.lengths, np.uint32).astype(np.int64)
    captions = np.frombuffer(corpus.captions, np.uint32).astype(np.int64)
    is_hypothesis = np.zeros(len(length), bool)
    is_hypothesis[np.cumsum(captions) - captions] = True
    return _Layout(
        caption=np.repeat(np.arange(len(length), dtype=np.int32), length),
        image=np.repeat(np.arange(len(captions)), captions),
        is_hypothesis=is_hypothesis,
        length=length,
    )


def _scores(corpus: CiderCorpus, frequencies: DocumentFrequencies | None) -> np.ndarray:
    images = len(corpus.captions)
    if not images:
        return np.zeros(0)
    layout = _layout(corpus)
    total = np.zeros(images)
    for starts, ngram, text_of in _ngrams(corpus, layout):
        caption = layout.caption[starts]
        if frequencies is None:
            idf = _idf_of_references(caption, ngram, layout, images)
        else:
            documents = [frequencies.counts.get(text, 0) for text in text_of()]
            idf = np.log(float(frequencies.images)) - np.log(np.maximum(1.0, documents))
        total += _similarities(caption, ngram, idf, layout)
    references = np.frombuffer(corpus.captions, np.uint32) - 1.0
    return total / MAX_ORDER / references * 10.0


def _ngrams(
    corpus: CiderCorpus, layout: _Layout
) -> Iterator[tuple[np.ndarray, np.ndarray, Callable[[], list[NGram]]]]:
    """Numbers the n-grams of each order.

    Numbers follow the alphabet, never the order of addition: it decides in which order floats are
    added up later, and so the last digits.

    Yields:
        Place of each n-gram's first word, int32 [n-grams]; its number, int32 [n-grams]; and a
        function that spells out the n-grams in the order of their numbers.
    """
    spelling = sorted(corpus.vocabulary)
    rank = np.empty(len(spelling), np.int32)
    rank[[corpus.vocabulary[word] for word in spelling]] = np.arange(len(spelling))
    word = rank[np.frombuffer(corpus.words, np.uint32)]
    starts, number = np.arange(len(word), dtype=np.int32), word
    for order in range(1, MAX_ORDER + 1):
        if order > 1:
            last = starts + order - 1
            inside = last < len(word)
            inside[inside] = layout.caption[last[inside]] == layout.caption[starts[inside]]
            key = number[inside].astype(np.int64) * len(spelling) + word[last[inside]]
            starts = starts[inside]
            number = _ranks(key)
        yield starts, number, partial(_spell, spelling, word, starts, number, order)


def _ranks(keys: np.ndarray) -> np.ndarray:
    """Rank of each key among the different ones, int32, without the tables of `np.unique`."""
    different = np.unique(keys)
    ranks = np.empty(len(keys), np.int32)
    for first in range(0, len(keys), _WORDS_PER_CHUNK):
        part = slice(first, first + _WORDS_PER_CHUNK)
        ranks[part] = np.searchsorted(different, keys[part])
    return ranks


def _spell(
    spelling: list[str], word: np.ndarray, starts: np.ndarray, number: np.ndarray, order: int
) -> list[NGram]:
    _, first = np.unique(number, return_index=True)
    places = starts[first]
    columns = [word[places + offset].tolist() for offset in range(order)]
    return [tuple(spelling[index] for index in row) for row in zip(*columns, strict=True)]


def _idf_of_references(
    caption: np.ndarray, ngram: np.ndarray, layout: _Layout, images: int
) -> np.ndarray:
    """Inverse document frequency of each n-gram number among the references, float64."""
    count = int(ngram.max(initial=-1)) + 1
    documents = np.zeros(count, np.int64)
    for _, begin, end in _chunks(caption, layout):
        owner, numbers = caption[begin:end], ngram[begin:end]
        referenced = ~layout.is_hypothesis[owner]
        pairs = np.unique(layout.image[owner[referenced]] * count + numbers[referenced])
        documents += np.bincount(pairs % max(count, 1), minlength=count)
    return np.log(float(images)) - np.log(np.maximum(1.0, documents))


def _similarities(
    caption: np.ndarray, ngram: np.ndarray, idf: np.ndarray, layout: _Layout
) -> np.ndarray:
    """Clipped, length-penalised cosines of one order, summed over each image's references."""
    result = np.zeros(int(layout.image[-1]) + 1)
    for captions, begin, end in _chunks(caption, layout):
        image = layout.image[captions]
        first = image[0]
        result[first : image[-1] + 1] = _chunk_similarities(
            caption[begin:end] - captions.start,
            ngram[begin:end].astype(np.int64),
            idf,
            image - first,
            layout.is_hypothesis[captions],
            layout.length[captions],
        )
    return result


def _chunks(caption: np.ndarray, layout: _Layout) -> Iterator[tuple[slice, int, int]]:
    """Cuts a corpus between images, so that tables of millions of them never exist at once.

    Yields:
        The captions of some images, and first and last place of their n-grams.
    """
    images = int(layout.image[-1]) + 1
    for first in range(0, images, _IMAGES_PER_CHUNK):
        low, high = np.searchsorted(layout.image, [first, first + _IMAGES_PER_CHUNK])
        # In the array's own type, or it would be copied whole.
        begin, end = np.searchsorted(caption, np.array([low, high], caption.dtype))
        yield slice(int(low), int(high)), int(begin), int(end)


def _chunk_similarities(
    caption: np.ndarray,
    ngram: np.ndarray,
    idf: np.ndarray,
    image: np.ndarray,
    is_hypothesis: np.ndarray,
    length: np.ndarray,
) -> np.ndarray:
    # One row per different n-gram of a caption, sorted by caption, then by number.
    rows, occurrences = np.unique(caption.astype(np.int64) * len(idf) + ngram, return_counts=True)
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
