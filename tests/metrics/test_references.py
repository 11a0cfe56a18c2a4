"""References that are tokenised and counted once."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.metrics.systems import HYPOTHESES, REFERENCES, SLICES, TRAINING
from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import image_statistics


def tokenized() -> TokenizedReferences:
    return TokenizedReferences.of(REFERENCES, slices=SLICES, training_captions=TRAINING)


def test_texts_are_tokenised() -> None:
    references = tokenized()
    assert references.ids == ("0", "1", "2", "3")
    assert references.texts[0] == ("a dog runs in the grass", "the dog is running")
    assert references.slices["people"] == ("no", "yes", "yes", "yes")
    assert references.training is not None
    assert references.training.captions == {
        *("a dog", "two girls eat ice-cream", "a man sits on a bench"),
    }
    assert references.training.frequencies.images == 2


def test_references_survive_a_file() -> None:
    one, two = io.BytesIO(), io.BytesIO()
    tokenized().save(one)
    tokenized().save(two)
    assert one.getvalue() == two.getvalue()
    loaded = TokenizedReferences.load(io.BytesIO(one.getvalue()))
    assert (loaded.ids, loaded.texts, loaded.slices) == (
        *(tokenized().ids, tokenized().texts, tokenized().slices),
    )
    scores, again = (
        image_statistics(references, HYPOTHESES, with_meteor=False).corpus()
        for references in (tokenized(), loaded)
    )
    assert scores == again
    assert "cider_d_train_idf" in scores


def test_references_without_slices_or_train_split_survive_a_file() -> None:
    file = io.BytesIO()
    TokenizedReferences.of({"\ud800.jpg": ["x\u00a0y"]}).save(file)
    loaded = TokenizedReferences.load(io.BytesIO(file.getvalue()))
    assert (loaded.ids, loaded.slices, loaded.training) == (("\ud800.jpg",), {}, None)


@pytest.mark.parametrize(
    ("references", "slices", "message"),
    [
        ({"a": "a dog"}, {}, "Single strings: a."),
        ({"a": []}, {}, "at least one reference. Without one: a."),
        ({"a": ["x"]}, {"people": []}, "one value per image, 1. Received: people: 0."),
    ],
)
def test_refused_references(
    references: Any, slices: dict[str, Sequence[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TokenizedReferences.of(references, slices=slices)


def test_references_are_counted_once() -> None:
    references = tokenized()
    assert references.counted is references.counted
    np.testing.assert_array_equal(references.captions, [2, 3, 1, 2])
