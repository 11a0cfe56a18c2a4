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
works on arrays. About 0.3 KB per image with five references travel to the worker that extracts; the
different n-grams of a million images would take more than their captions do.
"""

from __future__ import annotations

import gzip
import json
import math
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from tfx_captioner.metrics.cider_scores import NGramCounts, Text, cider_scores
from tfx_captioner.metrics.ngrams import NGram, count_ngrams
from tfx_captioner.metrics.sums import MeanStatistics

_WORDS_PER_PART = 1 << 20


@dataclass(frozen=True)
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

    @cached_property
    def arrays(self) -> NGramCounts:
        """The same counts, to be looked up for many captions at once."""
        return NGramCounts(self.images, self.counts)

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
        for part in _renumbered(other.words, numbers):
            self.words.frombytes(part.tobytes())
        self.lengths.extend(other.lengths)
        self.captions.extend(other.captions)
        return self

    def select(self, rows: Sequence[int]) -> CiderCorpus:
        """Some of the images, such as a slice, in the order of their rows."""
        words = np.frombuffer(self.words, np.uint32)
        lengths, captions = np.array(self.lengths, np.int64), np.array(self.captions, np.int64)
        first_caption = np.concatenate([[0], np.cumsum(captions)])
        first_word = np.concatenate([[0], np.cumsum(lengths)])[first_caption]
        part = CiderCorpus(dict(self.vocabulary))
        for row in rows:
            part.words.frombytes(words[first_word[row] : first_word[row + 1]].tobytes())
            part.lengths.extend(self.lengths[first_caption[row] : first_caption[row + 1]])
            part.captions.append(self.captions[row])
        return part

    def scores(self, frequencies: DocumentFrequencies | None = None) -> np.ndarray:
        """CIDEr-D of each image in the order of addition.

        Args:
            frequencies: Document frequencies; those of this corpus' references if none are given.

        Returns:
            float64 [images], each in [0, 10].
        """
        return cider_scores(self._text(), [frequencies.arrays if frequencies else None])[0]

    def both_scores(self, frequencies: DocumentFrequencies) -> tuple[np.ndarray, np.ndarray]:
        """`scores` without and with document frequencies, in less time than one after the other."""
        own, given = cider_scores(self._text(), [None, frequencies.arrays])
        return own, given

    def _text(self) -> Text:
        spelling = sorted(self.vocabulary)
        rank = np.empty(len(spelling), np.int32)
        rank[[self.vocabulary[word] for word in spelling]] = np.arange(len(spelling))
        return Text(
            spelling,
            np.concatenate([np.zeros(0, np.int32), *_renumbered(self.words, rank)]),
            np.frombuffer(self.lengths, np.uint32).astype(np.int64),
            np.frombuffer(self.captions, np.uint32).astype(np.int64),
        )

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


def _renumbered(words: array[int], numbers: np.ndarray) -> Iterator[np.ndarray]:
    """New numbers of words, a part at a time: numpy makes eight bytes of every index."""
    old = np.frombuffer(words, np.uint32) if words else np.zeros(0, np.uint32)
    for first in range(0, len(old), _WORDS_PER_PART):
        yield numbers[old[first : first + _WORDS_PER_PART]]


@lru_cache(maxsize=2)
def _load_frequencies(path: str) -> DocumentFrequencies:
    return DocumentFrequencies.load(path)
