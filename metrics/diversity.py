"""What a set of captions is like, beside how well it matches: variety, novelty, health.

Definitions: distinct-n is the share of different n-grams among all n-grams of the hypotheses (Li et
al., 2016). Vocabulary coverage is the share of the references' different words that the hypotheses
use (van Miltenburg et al., 2018). Both fall and rise with the number of captions: compare equal
sets only. A dangling caption ends in a word that no sentence ends in, the sign of a decoder that
ran into its length limit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from tfx_captioner.metrics import ptb

UNKNOWN_TOKEN = "<unk>"

_ARTICLES = ("a", "an", "the", "this", "that", "his", "her", "its", "their", "some")
_PREPOSITIONS = (
    *("of", "in", "on", "at", "to", "for", "from", "with", "by", "into", "onto", "near", "under"),
    *("over", "behind", "beside", "between", "through"),
)
DANGLING_WORDS = frozenset((*_ARTICLES, *_PREPOSITIONS, "and", "or", "as", "is", "are", "am"))


MEASURES = (
    "distinct_1",
    "distinct_2",
    "vocabulary_coverage",
    "mean_caption_length",
    "unknown_word_captions",
    "dangling_captions",
)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


@dataclass(slots=True)
class DiversityStatistics:
    """Sufficient statistics of the hypotheses of a set of images.

    Its size follows the number of *different* words and pairs of words, not that of the images.

    Attributes:
        captions: Hypotheses.
        words: Their words.
        pairs: Their bigrams.
        unknown: Hypotheses that hold the unknown token.
        dangling: Hypotheses that end in a dangling word.
        distinct_words: Different words of the hypotheses.
        distinct_pairs: Different bigrams of the hypotheses, "first second".
        reference_words: Different words of the references.
        unknown_token: What the model writes for a word outside its vocabulary.
    """

    captions: int = 0
    words: int = 0
    pairs: int = 0
    unknown: int = 0
    dangling: int = 0
    distinct_words: set[str] = field(default_factory=set)
    distinct_pairs: set[str] = field(default_factory=set)
    reference_words: set[str] = field(default_factory=set)
    unknown_token: str = UNKNOWN_TOKEN

    def add(self, hypothesis: str, references: Sequence[str]) -> None:
        """Adds one image: its tokenised hypothesis and references."""
        words = hypothesis.split()
        self.captions += 1
        self.words += len(words)
        self.pairs += max(0, len(words) - 1)
        # The tokenizer takes some unknown tokens apart ("[UNK]"): look for all its pieces in a row.
        self.unknown += f" {ptb.tokenize(self.unknown_token)} " in f" {hypothesis} "
        self.dangling += bool(words) and words[-1] in DANGLING_WORDS
        self.distinct_words.update(words)
        self.distinct_pairs.update(f"{first} {second}" for first, second in pairwise(words))
        for reference in references:
            self.reference_words.update(reference.split())

    def __iadd__(self, other: DiversityStatistics) -> DiversityStatistics:
        self.captions += other.captions
        self.words += other.words
        self.pairs += other.pairs
        self.unknown += other.unknown
        self.dangling += other.dangling
        self.distinct_words |= other.distinct_words
        self.distinct_pairs |= other.distinct_pairs
        self.reference_words |= other.reference_words
        return self

    def distinct_1(self) -> float:
        """Different words per word."""
        return _ratio(len(self.distinct_words), self.words)

    def distinct_2(self) -> float:
        """Different bigrams per bigram."""
        return _ratio(len(self.distinct_pairs), self.pairs)

    def vocabulary_coverage(self) -> float:
        """Share of the references' different words that the hypotheses use."""
        used = self.distinct_words & self.reference_words
        return _ratio(len(used), len(self.reference_words))

    def mean_caption_length(self) -> float:
        """Words per caption, punctuation not counted."""
        return _ratio(self.words, self.captions)

    def unknown_word_captions(self) -> float:
        """Share of captions with an unknown word."""
        return _ratio(self.unknown, self.captions)

    def dangling_captions(self) -> float:
        """Share of captions that end in a dangling word."""
        return _ratio(self.dangling, self.captions)


@dataclass(slots=True)
class NoveltyStatistics:
    """How many hypotheses are no caption of the training split, word by word.

    Attributes:
        training_captions: File with one raw training caption per line.
        captions: Hypotheses.
        novel: Hypotheses that are in no line of the file, after tokenisation of both.
    """

    training_captions: str
    captions: int = 0
    novel: int = 0

    def add(self, hypothesis: str, references: Sequence[str]) -> None:
        """Adds one image's tokenised hypothesis; the references do not matter here."""
        self.captions += 1
        self.novel += hypothesis not in _tokenised_lines(self.training_captions)

    def __iadd__(self, other: NoveltyStatistics) -> NoveltyStatistics:
        self.captions += other.captions
        self.novel += other.novel
        return self

    def novel_captions(self) -> float:
        """Share of captions not seen in training."""
        return _ratio(self.novel, self.captions)


@lru_cache(maxsize=2)
def _tokenised_lines(path: str) -> frozenset[str]:
    with Path(path).open(encoding="utf-8") as lines:
        return frozenset(map(ptb.tokenize, lines))
