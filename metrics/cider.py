"""CIDEr-D (Vedantam et al., 2015), the metric everybody calls CIDEr.

The cosine of tf-idf vectors of n-grams between hypothesis and reference, clipped, with a Gaussian
penalty on the difference in length (sigma 6), averaged over n = 1 to 4 and over the references,
times 10. Two forms, which differ in where the document frequencies come from:

- from the evaluated references themselves: the published definition. A rare n-gram is rare among
  *these* images, so that scores of two slices or of two test sets do not compare, and one image
  alone scores 0.
- from the training split (`DocumentFrequencies`): a mean over images like any other, which compares
  across slices and runs that share the frequencies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from tfx_captioner.metrics.cider_scores import Given, Groups, cider_scores
from tfx_captioner.metrics.matches import Comparison, image_documents
from tfx_captioner.metrics.ngrams import CountedCaptions


@dataclass(frozen=True, eq=False)
class DocumentFrequencies:
    """In how many images' references each n-gram occurs.

    Attributes:
        images: Images counted.
        spelling: Words, in alphabetical order.
        keys: For each order the n-grams, as in `CountedCaptions`.
        documents: For each order the images with each of them, int32.

    Example:
        >>> frequencies = DocumentFrequencies.of([["a dog", "a dog runs"], ["a cat"]])
        >>> frequencies.images
        2
        >>> dict(zip(frequencies.spelling, frequencies.documents[0].tolist()))
        {'a': 2, 'cat': 1, 'dog': 1, 'runs': 1}
    """

    images: int
    spelling: Sequence[str]
    keys: tuple[np.ndarray, ...]
    documents: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, references: Iterable[Sequence[str]]) -> DocumentFrequencies:
        """Counts tokenised references, one sequence per image."""
        images = [list(texts) for texts in references]
        counted = CountedCaptions.of(text for texts in images for text in texts)
        documents = image_documents(counted, np.array([len(texts) for texts in images], np.int64))
        return cls(
            len(images),
            counted.spelling,
            counted.keys,
            tuple(
                np.bincount(counts.number, minlength=len(keys)).astype(np.int32)
                for counts, keys in zip(documents, counted.keys, strict=True)
            ),
        )

    def counts(self, captions: CountedCaptions) -> list[np.ndarray]:
        """For each order the images with each of the captions' n-grams, int32 [n-grams]."""
        numbers = captions.numbers_in(self.spelling, self.keys)
        counts = [np.zeros(len(number), np.int32) for number in numbers]
        for count, number, documents in zip(counts, numbers, self.documents, strict=True):
            known = number >= 0
            count[known] = documents[number[known]]
        return counts

    def source(self, comparison: Comparison) -> Given:
        """These frequencies for the n-grams of some hypotheses and references."""
        return Given(
            self.images, self.counts(comparison.hypotheses), self.counts(comparison.references)
        )


@dataclass(slots=True)
class CiderCorpus:
    """Tokenised captions of many images, to be scored together.

    Example:
        >>> corpus = CiderCorpus()
        >>> corpus.add("a dog runs", ["a dog runs"])
        >>> corpus.add("a cat", ["a bird sings"])
        >>> corpus.scores().round(2).tolist()
        [7.5, 0.0]
    """

    _hypotheses: list[str] = field(default_factory=list)
    _references: list[str] = field(default_factory=list)
    _captions: list[int] = field(default_factory=list)

    def add(self, hypothesis: str, references: Sequence[str]) -> None:
        """Adds one image.

        Raises:
            ValueError: There is no reference.
        """
        if not references:
            raise ValueError("CIDEr-D needs at least one reference per image. Received: none.")
        self._hypotheses.append(hypothesis)
        self._references.extend(references)
        self._captions.append(len(references))

    def scores(self, frequencies: DocumentFrequencies | None = None) -> np.ndarray:
        """CIDEr-D of each image in the order of addition.

        Args:
            frequencies: Document frequencies; those of this corpus' references if none are given.

        Returns:
            float64 [images], each in [0, 10].
        """
        comparison = Comparison.of(
            CountedCaptions.of(self._hypotheses),
            CountedCaptions.of(self._references),
            np.array(self._captions, np.int64),
        )
        if frequencies:
            return cider_scores(comparison, [frequencies.source(comparison)])[0]
        return cider_scores(comparison, [Groups(1, np.zeros(len(self._captions), np.int64))])[0]
