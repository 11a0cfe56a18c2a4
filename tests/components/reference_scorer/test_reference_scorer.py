"""What is known before any model captions: references, slices, and lines to compare with."""

from __future__ import annotations

import pytest

from tests.components.walls import COLOURS, Bench, references
from tfx_captioner.components.caption_files import read_references
from tfx_captioner.components.examples import fingerprint_of
from tfx_captioner.components.reference_scorer import executor
from tfx_captioner.components.reference_scorer.summary import read_references_summary
from tfx_captioner.components.scores import HUMAN, MOST_FREQUENT, OVERALL, RANDOM
from tfx_captioner.components.statistics_files import read_tokenized_references
from tfx_captioner.metrics.statistics import score


@pytest.fixture(scope="module")
def uri(bench: Bench) -> str:
    return str(bench.references().uri)


def test_references_of_the_images_that_can_be_decoded(uri: str) -> None:
    known = read_references(uri)
    assert len(known) == len(COLOURS) + 2
    assert known["red.png"] == tuple(references("red"))
    tokenised = read_tokenized_references(uri)
    assert tokenised.ids == tuple(known)
    assert set(read_references_summary(uri).undecodable) == {"broken.jpg", "nothing.jpg"}


def test_images_are_in_slices(uri: str) -> None:
    tokenised = read_tokenized_references(uri)
    assert set(tokenised.slices) == {"people", "brightness"}
    assert tokenised.slices["brightness"].count("bright") == 2
    assert set(tokenised.slices["people"]) == {"yes"}


def test_the_data_is_named_by_fingerprints(uri: str) -> None:
    training = {f"train{i}.png": ["a grey wall"] for i in (2, 0, 1)}
    assert read_references_summary(uri).train_fingerprint == fingerprint_of(training)
    assert fingerprint_of({**training, "train1.png": ["a wall"]}) != fingerprint_of(training)


def test_lines_that_need_no_model(uri: str) -> None:
    context = read_references_summary(uri).context
    assert list(context) == [HUMAN, MOST_FREQUENT, RANDOM]
    known = read_references(uri)
    frequent = score(known, dict.fromkeys(known, "a grey wall"), with_meteor=False)
    assert context[MOST_FREQUENT][OVERALL]["bleu_1"] == frequent["bleu_1"]
    assert context[RANDOM] == context[MOST_FREQUENT]  # there is but one training caption
    first, second = (
        score(
            {image_id: [texts[1 - row]] for image_id, texts in known.items()},
            {image_id: texts[row] for image_id, texts in known.items()},
            with_meteor=False,
        )["rouge_l"]
        for row in (0, 1)
    )
    assert context[HUMAN][OVERALL]["rouge_l"] == pytest.approx((first + second) / 2)
    assert set(context[HUMAN]) > {OVERALL, "people: yes"}


def test_what_is_not_computed_is_told(bench: Bench, uri: str) -> None:
    unavailable = read_references_summary(uri).unavailable
    assert unavailable == {"meteor": "switched off by `evaluation.meteor`"}


def test_the_language_is_told_and_its_words_are_counted(bench: Bench) -> None:
    uri = bench.references(language="zh", meteor=1, slices='["people", "brightness"]').uri
    summary = read_references_summary(uri)
    assert (summary.language, summary.segmentation, summary.warning) == ("zh", "characters", "")
    assert "English alone" in summary.unavailable["meteor"]
    assert {"dangling_captions", "slice people"} <= set(summary.unavailable)
    tokenised = read_tokenized_references(uri)
    assert tokenised.language == "zh"
    assert set(tokenised.slices) == {"brightness"}
    assert "dangling_captions" not in summary.context[HUMAN][OVERALL]


def test_captions_in_another_script_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    captions = {"1.jpg": ["一只狗在跑", "一只狗"], "2.jpg": ["a dog"]}
    warning = executor._warning(captions, "en")
    assert warning.startswith("2 of 3 captions are in a script without spaces")
    assert warning.endswith(", as `text.language`.")
    assert warning in caplog.text
    assert executor._warning(captions, "zh") == ""
