"""The references of a set of images, tokenised and counted once for all that is scored by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tfx_captioner.metrics import archive
from tfx_captioner.metrics.cider import DocumentFrequencies
from tfx_captioner.metrics.languages import ENGLISH, tokenizer
from tfx_captioner.metrics.matches import image_documents
from tfx_captioner.metrics.ngrams import MAX_ORDER, CountedCaptions, Types


class TrainingText(NamedTuple):
    """What the captions of the train split are needed for.

    Attributes:
        frequencies: Document frequencies, for `cider_d_train_idf`.
        captions: The different captions, tokenised, for `novel_captions`.
    """

    frequencies: DocumentFrequencies
    captions: frozenset[str]


@dataclass(frozen=True, eq=False)
class TokenizedReferences:
    """Tokenised references of some images, and the groups that the images are in.

    Attributes:
        ids: Image ids, in the order of all else.
        texts: Tokenised references of each image, at least one.
        slices: Slicing feature to the value of each image; may be empty.
        training: What is known of the train split, None without one.
        language: ISO 639-1 code; it decides what a word is.

    Example:
        >>> references = TokenizedReferences.of(
        ...     {"1.jpg": ["A dog runs.", "The dog!"], "2.jpg": ["Two men talk."]},
        ...     slices={"people": ["no", "yes"]},
        ... )
        >>> references.texts
        (('a dog runs', 'the dog'), ('two men talk',))
    """

    ids: tuple[str, ...]
    texts: tuple[tuple[str, ...], ...]
    slices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    training: TrainingText | None = None
    language: str = ENGLISH

    @classmethod
    def of(
        cls,
        references: Mapping[str, Sequence[str]],
        *,
        slices: Mapping[str, Sequence[str]] | None = None,
        training_captions: Iterable[Sequence[str]] | None = None,
        language: str = ENGLISH,
    ) -> TokenizedReferences:
        """Tokenises.

        Args:
            references: All raw reference captions of each image.
            slices: Slicing feature to the value of each image, in the order of `references`.
            training_captions: Raw captions of each image of the train split.
            language: One of `languages.LANGUAGES`.

        Raises:
            ValueError: An image has no reference, its references are one string instead of a
                sequence of strings, a slicing feature has not one value per image, or the language
                is unknown.
        """
        check_references(references)
        values = {feature: tuple(of) for feature, of in (slices or {}).items()}
        if wrong := {
            feature: len(of) for feature, of in values.items() if len(of) != len(references)
        }:
            raise ValueError(
                f"every slicing feature needs one value per image, {len(references)}. "
                f"Received: {', '.join(f'{feature}: {count}' for feature, count in wrong.items())}."
            )
        tokenize = cache(tokenizer(language))
        training = None
        if training_captions is not None:
            texts = [tuple(map(tokenize, captions)) for captions in training_captions]
            different = frozenset(text for captions in texts for text in captions)
            training = TrainingText(DocumentFrequencies.of(texts), different)
        return cls(
            tuple(references),
            tuple(tuple(map(tokenize, captions)) for captions in references.values()),
            values,
            training,
            language,
        )

    def with_several_captions(self) -> TokenizedReferences:
        """The images with more than one reference."""
        rows = [row for row, texts in enumerate(self.texts) if len(texts) > 1]
        if len(rows) == len(self.ids):
            return self
        return replace(
            self,
            ids=tuple(self.ids[row] for row in rows),
            texts=tuple(self.texts[row] for row in rows),
            slices={feature: tuple(of[row] for row in rows) for feature, of in self.slices.items()},
        )

    @cached_property
    def slicing(self) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
        """Slicing feature to its different values, and the place of each image's among them."""
        coded = {}
        for feature, values in self.slices.items():
            place = {value: number for number, value in enumerate(dict.fromkeys(values))}
            coded[feature] = tuple(place), np.array([place[value] for value in values], np.int32)
        return coded

    @cached_property
    def captions(self) -> np.ndarray:
        """References of each image, int64 [images]."""
        return np.array([len(texts) for texts in self.texts], np.int64)

    @cached_property
    def counted(self) -> CountedCaptions:
        """The n-grams of all references, image by image."""
        return CountedCaptions.of(text for texts in self.texts for text in texts)

    @cached_property
    def documents(self) -> tuple[Types, ...]:
        """For each order the n-grams of each image."""
        return image_documents(self.counted, self.captions)

    @cached_property
    def training_counts(self) -> list[np.ndarray]:
        """For each order the training images with each n-gram; empty without a train split."""
        return self.training.frequencies.counts(self.counted) if self.training else []

    def save(self, file: BinaryIO) -> None:
        """Writes one file; equal references make equal bytes."""
        content: dict[str, Any] = {
            "ids": self.ids,
            "texts": self.texts,
            "slices": self.slices,
            "language": self.language,
        }
        if self.training:
            frequencies, captions = self.training
            content |= {
                "training_captions": sorted(captions),
                "training_images": frequencies.images,
                "training_words": list(frequencies.spelling),
            }
            for order in range(MAX_ORDER):
                content[f"training_keys_{order}"] = frequencies.keys[order]
                content[f"training_documents_{order}"] = frequencies.documents[order]
        archive.write(file, content)

    @classmethod
    def load(cls, file: BinaryIO) -> TokenizedReferences:
        """Reads what `save` wrote."""
        content = archive.read(file)
        training = None
        if "training_images" in content:
            frequencies = DocumentFrequencies(
                archive.text(content["training_images"]),
                archive.text(content["training_words"]),
                tuple(content[f"training_keys_{order}"] for order in range(MAX_ORDER)),
                tuple(content[f"training_documents_{order}"] for order in range(MAX_ORDER)),
            )
            captions = frozenset(archive.text(content["training_captions"]))
            training = TrainingText(frequencies, captions)
        return cls(
            tuple(archive.text(content["ids"])),
            tuple(map(tuple, archive.text(content["texts"]))),
            {name: tuple(of) for name, of in archive.text(content["slices"]).items()},
            training,
            archive.text(content["language"]),
        )


def check_images(references: Mapping[str, Sequence[str]], hypotheses: Mapping[str, object]) -> None:
    """Refuses what would give wrong numbers without any other sign.

    Raises:
        ValueError: The two do not name the same images, an image has no reference, or its
            references are one string instead of a sequence of strings.
    """
    check_ids(references, hypotheses)
    check_references(references)


def check_references(references: Mapping[str, Sequence[str]]) -> None:
    """The part of `check_images` that is about references."""
    if strings := [image_id for image_id, texts in references.items() if isinstance(texts, str)]:
        raise ValueError(
            "the references of an image must be a sequence of strings: a single string would be "
            f"read as one reference per character. {_named(strings, 'Single strings')}"
        )
    if empty := [image_id for image_id, texts in references.items() if not len(texts)]:
        raise ValueError(
            f"every image needs at least one reference. {_named(empty, 'Without one')}"
        )


def check_ids(references: Iterable[str], hypotheses: Iterable[str]) -> None:
    """The part of `check_images` that is about which images there are."""
    known, captioned = set(references), set(hypotheses)
    if missing := known - captioned:
        raise ValueError(f"every image needs a caption. {_named(missing, 'Without one')}")
    if unknown := captioned - known:
        raise ValueError(f"captions must be of images with references. {_named(unknown, 'Not so')}")


def _named(ids: Iterable[str], what: str) -> str:
    shown = sorted(map(str, ids))
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return f"{what}: {', '.join(shown[:3])}{more}."
