"""What each image adds to the scores: counted once, added up by all that reads it.

Numbers only. Corpus scores, slices, a bootstrap over images and TFMA's combiners are sums over some
of the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from tfx_captioner.metrics import archive, bleu, meteor, rouge, spice
from tfx_captioner.metrics.cider_scores import Given, Groups, cider_scores
from tfx_captioner.metrics.descriptions import ImageDescriptions, describe
from tfx_captioner.metrics.languages import ENGLISH, tokenizer
from tfx_captioner.metrics.matches import Comparison
from tfx_captioner.metrics.ngrams import MAX_ORDER, CountedCaptions, Types, offsets
from tfx_captioner.metrics.references import TokenizedReferences, check_ids, check_images

__all__ = [
    "FIELD_NAMES",
    "ImageStatistics",
    "Slicing",
    "check_images",
    "human_statistics",
    "image_statistics",
    "score",
]

# Names of papers and of pycocoevalcap for what is called otherwise in TFMA.
FIELD_NAMES = {
    "bleu_1": "Bleu_1",
    "bleu_2": "Bleu_2",
    "bleu_3": "Bleu_3",
    "bleu_4": "Bleu_4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE_L",
    "cider_d": "CIDEr",
    "spice": "SPICE",
}


@dataclass(frozen=True, slots=True, eq=False)
class Slicing:
    """The groups that images are in, by each of some features.

    Attributes:
        values: Feature to its different values.
        codes: Place of each image's value among them, int32 [features, images].
        cider_d: CIDEr-D with the document frequencies of the image's own slice, float64
            [features, images].
    """

    values: Mapping[str, tuple[str, ...]]
    codes: np.ndarray
    cider_d: np.ndarray

    @classmethod
    def none(cls, images: int) -> Slicing:
        """No slices of some images."""
        return cls({}, np.zeros((0, images), np.int32), np.zeros((0, images)))


@dataclass(frozen=True, slots=True, eq=False)
class ImageStatistics:
    """What each image adds to the corpus scores.

    Attributes:
        ids: Image ids, in the order of all arrays.
        bleu: int64 [images, 10], the columns of `bleu.bleu_counts`.
        rouge_l: float64 [images].
        cider_d: float64 [images], with document frequencies of all these images' references.
        descriptions: What the captions are like.
        slicing: Slices, and CIDEr-D in them.
        cider_d_train_idf: float64 [images] with those of the training split, or None.
        meteor: float64 [images, 23], the columns of `meteor.image_counts`, or None.
        meteor_failure: Why METEOR is missing though it was asked for; empty if it is not.
        spice: float64 [images], or None.
        spice_failure: Why SPICE is missing though it was asked for; empty if it is not.
        language: ISO 639-1 code; it decides what was counted as a word.

    Example:
        >>> references = TokenizedReferences.of({"1.jpg": ["A dog runs."], "2.jpg": ["A cat."]})
        >>> captions = {"1.jpg": "a dog runs", "2.jpg": "a cat"}
        >>> statistics = image_statistics(references, captions, with_meteor=False)
        >>> statistics.corpus()["rouge_l"]
        1.0
        >>> statistics.images()["cider_d"].round(3).tolist()
        [7.5, 5.0]
    """

    ids: tuple[str, ...]
    bleu: np.ndarray
    rouge_l: np.ndarray
    cider_d: np.ndarray
    descriptions: ImageDescriptions
    slicing: Slicing
    cider_d_train_idf: np.ndarray | None = None
    meteor: np.ndarray | None = None
    meteor_failure: str = ""
    spice: np.ndarray | None = None
    spice_failure: str = ""
    language: str = ENGLISH

    @property
    def slices(self) -> dict[str, tuple[str, ...]]:
        """Slicing feature to the value of each image."""
        return {
            feature: tuple(values[code] for code in codes.tolist())
            for (feature, values), codes in zip(
                self.slicing.values.items(), self.slicing.codes, strict=True
            )
        }

    def corpus(self) -> dict[str, float]:
        """The corpus scores by TFMA name; NaN of no image."""
        scores = _bleu_names(bleu.bleu_scores(self.bleu.sum(axis=0).tolist()))
        if self.meteor is not None:
            total = self.meteor.sum(axis=0)
            scores["meteor"] = float(meteor.meteor_scores(total)) if self.ids else math.nan
        scores |= {name: _mean(values) for name, values in self.means().items()}
        return scores | self.descriptions.values()

    def images(self) -> dict[str, np.ndarray]:
        """Each image's own score by TFMA name, float64 [images], for lists of best and worst.

        One image's BLEU-4 is next to zero unless four of its words in a row match: order images by
        CIDEr-D or METEOR.
        """
        rows = [bleu.bleu_scores(row) for row in self.bleu.tolist()]
        scores = _bleu_names(np.array(rows, np.float64).reshape(-1, MAX_ORDER).T)
        if self.meteor is not None:
            scores["meteor"] = meteor.meteor_scores(self.meteor)
        return scores | self.means()

    def by_slice(self) -> dict[str, ImageStatistics]:
        """The statistics of each slice by its name, such as `people: yes`.

        Their `cider_d` has the document frequencies of the slice: what the slice scores alone.
        """
        parts = {}
        for (feature, values), codes, cider_d in zip(
            self.slicing.values.items(), self.slicing.codes, self.slicing.cider_d, strict=True
        ):
            for code, value in enumerate(values):
                rows = np.flatnonzero(codes == code)
                if len(rows):
                    parts[f"{feature}: {value}"] = self._part(rows, cider_d[rows])
        return parts

    def rows(self, rows: np.ndarray) -> ImageStatistics:
        """The statistics of all images, or of one slice as `by_slice` has it.

        Args:
            rows: Row numbers of the images, int [images], in any order, each once.

        Raises:
            ValueError: The rows are neither all images nor exactly one slice, so that nothing is
                known of their own document frequencies.
        """
        rows = np.sort(np.asarray(rows, np.int64))
        if np.array_equal(rows, np.arange(len(self.ids))):
            return self
        for codes, cider_d in zip(self.slicing.codes, self.slicing.cider_d, strict=True):
            if len(rows) and np.array_equal(rows, np.flatnonzero(codes == codes[rows[0]])):
                return self._part(rows, cider_d[rows])
        raise ValueError(
            f"rows must be all {len(self.ids)} images or exactly one slice of "
            f"{', '.join(self.slicing.values) or 'no feature'}: CIDEr-D of other images is not "
            f"known. Received: {len(rows)} rows, {rows[:3].tolist()} first."
        )

    def select(self, ids: Sequence[str]) -> ImageStatistics:
        """The statistics of some images, in the order of `ids`, each once.

        CIDEr-D stays as scored: with the document frequencies of all images, or of whole slices.
        """
        place = {image_id: index for index, image_id in enumerate(self.ids)}
        rows = np.array([place[image_id] for image_id in ids], np.intp)
        slicing = Slicing(
            self.slicing.values, self.slicing.codes[:, rows], self.slicing.cider_d[:, rows]
        )
        return replace(self._part(rows, self.cider_d[rows]), slicing=slicing)

    def _part(self, rows: np.ndarray, cider_d: np.ndarray) -> ImageStatistics:
        return ImageStatistics(
            ids=tuple(self.ids[row] for row in rows.tolist()),
            bleu=self.bleu[rows],
            rouge_l=self.rouge_l[rows],
            cider_d=cider_d,
            descriptions=self.descriptions.select(rows),
            slicing=Slicing.none(len(rows)),
            cider_d_train_idf=_rows(self.cider_d_train_idf, rows),
            meteor=_rows(self.meteor, rows),
            meteor_failure=self.meteor_failure,
            spice=_rows(self.spice, rows),
            spice_failure=self.spice_failure,
            language=self.language,
        )

    def means(self) -> dict[str, np.ndarray]:
        """Scores that are means over images: each image's, float64 [images]."""
        means = {"rouge_l": self.rouge_l, "cider_d": self.cider_d}
        if self.cider_d_train_idf is not None:
            means["cider_d_train_idf"] = self.cider_d_train_idf
        if self.spice is not None:
            means["spice"] = self.spice
        return means

    def save(self, file: BinaryIO) -> None:
        """Writes one `.npz` file; equal statistics make equal bytes."""
        described = self.descriptions
        content = {
            "ids": self.ids,
            "bleu": self.bleu,
            "rouge_l": self.rouge_l,
            "cider_d": self.cider_d,
            "slices": self.slicing.values,
            "slice_codes": self.slicing.codes,
            "slice_cider_d": self.slicing.cider_d,
            "description_names": described.names,
            "description_means": described.means,
            "pair_counts": described.pair_counts,
            "meteor_failure": self.meteor_failure,
            "language": self.language,
        }
        for name in _TYPES:
            types = getattr(described, name)
            content |= {f"{name}_number": types.number, f"{name}_first": types.first}
        optional = {
            "cider_d_train_idf": self.cider_d_train_idf,
            "meteor": self.meteor,
            "spice": self.spice,
            # Not in files of before it was computed, which stay readable.
            "spice_failure": self.spice_failure or None,
        }
        archive.write(file, content | {k: v for k, v in optional.items() if v is not None})

    @classmethod
    def load(cls, file: BinaryIO) -> ImageStatistics:
        """Reads what `save` wrote."""
        content = archive.read(file)
        values = archive.text(content["slices"])
        return cls(
            ids=tuple(archive.text(content["ids"])),
            bleu=content["bleu"],
            rouge_l=content["rouge_l"],
            cider_d=content["cider_d"],
            descriptions=ImageDescriptions(
                tuple(archive.text(content["description_names"])),
                content["description_means"],
                content["pair_counts"],
                *(Types(content[f"{name}_number"], content[f"{name}_first"]) for name in _TYPES),
            ),
            slicing=Slicing(
                {feature: tuple(of) for feature, of in values.items()},
                content["slice_codes"],
                content["slice_cider_d"],
            ),
            cider_d_train_idf=content.get("cider_d_train_idf"),
            meteor=content.get("meteor"),
            meteor_failure=archive.text(content["meteor_failure"]),
            spice=content.get("spice"),
            spice_failure=archive.text(content["spice_failure"])
            if "spice_failure" in content
            else "",
            language=archive.text(content["language"]),
        )


_TYPES = ("words", "pairs", "reference_words")


def image_statistics(
    references: TokenizedReferences,
    hypotheses: Mapping[str, str],
    *,
    with_meteor: bool = True,
    with_spice: bool = False,
    tokenize: Callable[[str], str] | None = None,
) -> ImageStatistics:
    """Tokenises and counts the captions of a system; everything that takes long.

    Args:
        references: References of each image; their language is that of the captions.
        hypotheses: One raw caption for each image of `references`.
        with_meteor: Whether to run METEOR, which takes some 10 ms per image. Where its program
            does not survive an image, it is left out, and `meteor_failure` says so.
        with_spice: Whether to run SPICE, which takes ten seconds and then some 0.1 s per image.
            Where its program fails, it is left out, and `spice_failure` says so.
        tokenize: What remembers results of the language's tokenizer; None calls that itself.

    Raises:
        ValueError: The two do not name the same images.
        MeteorUnavailableError: `with_meteor` where METEOR is not available, or not in this
            language.
        SpiceUnavailableError: `with_spice`, likewise.
    """
    check_ids(references.ids, hypotheses)
    tokenize = tokenize or tokenizer(references.language)
    captions = [tokenize(hypotheses[image_id]) for image_id in references.ids]
    comparison = Comparison.of(
        CountedCaptions.of(captions), references.counted, references.captions, references.documents
    )
    statistics = _statistics(references, comparison, captions, references.texts, with_meteor)
    if not with_spice:
        return statistics
    scores, failure = _spice_scores(references, captions)
    return replace(statistics, spice=scores, spice_failure=failure)


def human_statistics(
    references: TokenizedReferences, *, with_meteor: bool
) -> list[ImageStatistics]:
    """Each reference in its turn as the caption, the others of its image as the references.

    Images with a single reference are left out. In a round beyond an image's last reference its
    first ones come again, so that all rounds are about the same images.

    Args:
        references: References of each image.
        with_meteor: As in `image_statistics`.

    Returns:
        Statistics of each round, without SPICE; none where no image has two references.
    """
    references = references.with_several_captions()
    first = offsets(references.captions)[:-1]
    rounds = []
    for number in range(references.captions.max(initial=0)):
        turn = number % references.captions
        captions = [texts[own] for texts, own in zip(references.texts, turn.tolist(), strict=True)]
        others = [
            texts[:own] + texts[own + 1 :]
            for texts, own in zip(references.texts, turn.tolist(), strict=True)
        ]
        comparison = Comparison.within(
            references.counted, references.captions, references.documents, first + turn
        )
        rounds.append(_statistics(references, comparison, captions, others, with_meteor))
    return rounds


def score(
    references: Mapping[str, Sequence[str]],
    hypotheses: Mapping[str, str],
    *,
    with_meteor: bool = True,
    with_spice: bool = False,
    training_captions: Iterable[Sequence[str]] | None = None,
    language: str = ENGLISH,
) -> dict[str, float]:
    """Corpus scores of raw captions by TFMA name; `FIELD_NAMES` has those of papers.

    Args:
        references: All reference captions of each image.
        hypotheses: One caption for each image of `references`.
        with_meteor: As in `image_statistics`.
        with_spice: As in `image_statistics`.
        training_captions: Captions of each image of the train split, for `cider_d_train_idf` and
            `novel_captions`.
        language: As in `TokenizedReferences.of`.

    Raises:
        ValueError: See `check_images`; or the language is unknown.
        MeteorUnavailableError: `with_meteor` where METEOR is not available.
        SpiceUnavailableError: `with_spice` where SPICE is not available.

    Example:
        >>> references = {"1.jpg": ["A dog runs.", "The dog."]}
        >>> scores = score(references, {"1.jpg": "the dog"}, with_meteor=False)
        >>> round(scores["bleu_1"], 3)
        1.0
    """
    check_images(references, hypotheses)
    tokenized = TokenizedReferences.of(
        references, training_captions=training_captions, language=language
    )
    return image_statistics(
        tokenized, hypotheses, with_meteor=with_meteor, with_spice=with_spice
    ).corpus()


def _statistics(
    references: TokenizedReferences,
    comparison: Comparison,
    captions: Sequence[str],
    texts: Sequence[Sequence[str]],
    with_meteor: bool,
) -> ImageStatistics:
    images, training = len(references.ids), references.training
    sources: list[Groups | Given] = [Groups(1, np.zeros(images, np.int64))]
    sources += [Groups(len(values), codes) for values, codes in references.slicing.values()]
    if training:
        sources.append(
            Given(
                training.frequencies.images,
                training.frequencies.counts(comparison.hypotheses)
                if comparison.hypotheses.keys is not references.counted.keys
                else references.training_counts,
                references.training_counts,
            )
        )
    cider_d, *of_slices = cider_scores(comparison, sources)
    train_idf = of_slices.pop() if training else None
    shape = len(of_slices), images
    slicing = Slicing(
        {feature: values for feature, (values, _) in references.slicing.items()},
        np.array([codes for _, codes in references.slicing.values()], np.int32).reshape(shape),
        np.array(of_slices).reshape(shape),
    )
    counts, failure = _meteor_counts(references, captions, texts) if with_meteor else (None, "")
    return ImageStatistics(
        ids=references.ids,
        bleu=bleu.bleu_counts(comparison),
        rouge_l=rouge.rouge_l_scores(comparison, captions, texts),
        cider_d=cider_d,
        descriptions=describe(
            comparison,
            captions,
            training.captions if training else None,
            language=references.language,
        ),
        slicing=slicing,
        cider_d_train_idf=train_idf,
        meteor=counts,
        meteor_failure=failure,
        language=references.language,
    )


def _meteor_counts(
    references: TokenizedReferences, captions: Sequence[str], texts: Sequence[Sequence[str]]
) -> tuple[np.ndarray | None, str]:
    """METEOR's counts, or why there are none."""
    meteor.check_language(references.language)
    try:
        return meteor.image_counts(list(zip(captions, texts, strict=True))), ""
    except meteor.MeteorImageError as error:
        words = [len(text.split()) for text in (captions[error.row], *texts[error.row])]
        return None, (
            f"{error} at image {references.ids[error.row]}: its caption has {words[0]} words, its "
            f"longest reference {max(words[1:])}"
        )


def _spice_scores(
    references: TokenizedReferences, captions: Sequence[str]
) -> tuple[np.ndarray | None, str]:
    """SPICE of each image, or why there is none."""
    spice.check_language(references.language)
    try:
        return spice.image_scores(list(zip(captions, references.texts, strict=True))), ""
    except spice.SpiceImageError as error:
        return None, f"{error}, at image {references.ids[error.row]}"
    except spice.SpiceProgramError as error:
        return None, str(error)


def _rows(values: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[rows]


def _mean(values: np.ndarray) -> float:
    return math.fsum(values) / len(values) if len(values) else math.nan


def _bleu_names(scores: Iterable[Any]) -> dict[str, Any]:
    return {f"bleu_{order}": value for order, value in enumerate(scores, 1)}
