"""The reward of a training."""

from __future__ import annotations

import numpy as np
import pytest

from tfx_captioner.metrics.cider import CiderCorpus, DocumentFrequencies
from tfx_captioner.models.data import CaptionData
from tfx_captioner.models.rewards import CiderReward

# Two images with two captions each: start, words, end, padding.
TOKEN_IDS = np.array(
    [
        [1, 4, 5, 6, 7, 8, 2, 0],
        [1, 4, 5, 6, 9, 2, 0, 0],
        [1, 10, 5, 11, 12, 8, 2, 0],
        [1, 10, 11, 12, 2, 0, 0, 0],
    ],
    np.int32,
)
DATA = CaptionData(np.zeros([2, 1], np.float16), TOKEN_IDS, np.array([0, 2, 4]))


def test_reward_is_the_evaluators_cider_d_under_the_train_splits_frequencies() -> None:
    hypotheses = np.array([[4, 5, 6, 7, 2, 0], [10, 5, 11, 2, 0, 0], [4, 5, 6, 7, 8, 2]])
    rewards = CiderReward(DATA)(hypotheses, [DATA.references(image) for image in (0, 1, 0)])

    references = [["4 5 6 7 8", "4 5 6 9"], ["10 5 11 12 8", "10 11 12"]]
    corpus = CiderCorpus()
    for text, image in (("4 5 6 7", 0), ("10 5 11", 1), ("4 5 6 7 8", 0)):
        corpus.add(text, references[image])
    np.testing.assert_array_equal(rewards, corpus.scores(DocumentFrequencies.of(references)))
    # A caption word for word, against one that stops short.
    assert rewards[2] > rewards[0] > 0


def test_caption_without_words_has_no_reward() -> None:
    [reward] = CiderReward(DATA)(np.array([[2, 0, 0]]), [DATA.references(0)])
    assert reward == pytest.approx(0.0)


def test_with_the_end_a_caption_that_breaks_off_is_rewarded_less() -> None:
    breaks_off = np.array([[4, 5, 6, 9, 0, 0]])
    ends = np.array([[4, 5, 6, 9, 2, 0]])
    references = [DATA.references(0)]
    words_only, with_end = CiderReward(DATA), CiderReward(DATA, with_end=True)
    np.testing.assert_array_equal(words_only(breaks_off, references), words_only(ends, references))
    assert with_end(ends, references)[0] > with_end(breaks_off, references)[0]
