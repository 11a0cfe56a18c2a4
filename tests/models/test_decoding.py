"""Beam search with a model whose every probability is known."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfx_captioner.models.config import DecodingConfig
from tfx_captioner.models.data_config import END_ID, SPECIAL_TOKENS
from tfx_captioner.models.decoding import beam_search, sample
from tfx_captioner.models.vocabulary import Vocabulary

A, B, C, D = 4, 5, 6, 7
START = 1
WORDS = Vocabulary((*SPECIAL_TOKENS, "a", "b", "c", "d"))

# Probability of the next word by the last one. Greedy goes "a c ...", though "b d" is likelier:
#   a c </s>: 0.5 * 0.4 * 0.5 = 0.10      a d </s>: 0.5 * 0.35 * 0.2 = 0.035
#   b d </s>: 0.4 * 0.9 * 0.9 = 0.324     a </s>: 0.5 * 0.25 = 0.125
#   b c </s>: 0.4 * 0.06 * 0.5 = 0.012    c </s>: 0.1 * 0.5 = 0.05
TRANSITIONS = {
    START: {A: 0.5, B: 0.4, C: 0.1},
    A: {C: 0.4, D: 0.35, END_ID: 0.25},
    B: {D: 0.9, C: 0.06, END_ID: 0.04},
    C: {END_ID: 0.5, A: 0.3, B: 0.2},
    D: {END_ID: 0.2, A: 0.5, C: 0.3},
}


class FakeModel:
    """Knows the last word only; each image has a table of its own."""

    def __init__(self, *tables: dict[int, dict[int, float]], size: int = WORDS.size):
        probabilities = np.full([len(tables), size, size], 1e-30, np.float32)
        for index, table in enumerate(tables):
            for last, following in table.items():
                for word, probability in following.items():
                    probabilities[index, last, word] = probability
        self.log_probs = tf.constant(np.log(probabilities))

    def initial_state(self, inputs: Any, beam_size: int) -> Any:
        images = tf.range(self.log_probs.shape[0])
        return {
            "image": tf.repeat(images[:, None], beam_size, axis=1),
            "steps": tf.zeros([self.log_probs.shape[0], beam_size], tf.int32),
        }

    def step(self, token_ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
        logits = tf.gather_nd(self.log_probs, tf.stack([state["image"], token_ids], axis=-1))
        return logits, {**state, "steps": state["steps"] + 1}


def _search(model: Any, **config: Any) -> list[list[tuple[list[int], float]]]:
    """Hypotheses of every image: words without end token, score."""
    config = {"length_normalization": 0.0, "max_length": 4, **config}
    found = tf.function(lambda: beam_search(model, None, DecodingConfig(**config), WORDS))()
    assert found.token_ids.shape[2] == config["max_length"] + 1
    results = []
    for token_ids, scores in zip(found.token_ids.numpy(), found.scores.numpy(), strict=True):
        rows = []
        for row, score in zip(token_ids.tolist(), scores.tolist(), strict=True):
            if math.isinf(score):
                assert set(row) == {0}
                continue
            end = row.index(END_ID)
            assert set(row[end + 1 :]) <= {0}
            rows.append((row[:end], score))
        results.append(rows)
    return results


BETTER = {**TRANSITIONS, D: {END_ID: 0.9, A: 0.06, C: 0.04}}


def test_greedy_follows_the_likeliest_word() -> None:
    [[(words, score)]] = _search(FakeModel(BETTER), beam_size=1)
    assert words == [A, C]
    assert score == pytest.approx(math.log(0.5 * 0.4 * 0.5))


def test_a_beam_of_two_finds_what_greedy_misses() -> None:
    [[best, second]] = _search(FakeModel(BETTER), beam_size=2)
    assert best == ([B, D], pytest.approx(math.log(0.4 * 0.9 * 0.9)))
    # "a d </s>" is better than "a </s>", but its beginning was not among the two best; of
    # "a c </s>" and the finished "a </s>" the latter fell out when "b d" and "a c" were better.
    assert second == ([A, C], pytest.approx(math.log(0.5 * 0.4 * 0.5)))


def test_a_beam_of_three_keeps_a_finished_hypothesis_at_its_score() -> None:
    [rows] = _search(FakeModel(BETTER), beam_size=3)
    assert rows[0] == ([B, D], pytest.approx(math.log(0.4 * 0.9 * 0.9)))
    assert [words for words, _ in rows[1:]] == [[A, D], [A, C]]
    assert rows[1][1] == pytest.approx(math.log(0.5 * 0.35 * 0.9))


def test_length_normalization_favours_longer_captions() -> None:
    table = {
        START: {A: 1.0},
        A: {END_ID: 0.6, B: 0.4},
        B: {C: 1.0},
        C: {D: 1.0},
        D: {END_ID: 1.0},
    }
    [[plain, *_]] = _search(FakeModel(table), beam_size=2)
    assert plain == ([A], pytest.approx(math.log(0.6)))
    [[normalized, *_]] = _search(FakeModel(table), beam_size=2, length_normalization=1.0)
    assert normalized == ([A, B, C, D], pytest.approx(math.log(0.4) / 5))


@pytest.mark.parametrize("max_length", [1, 2, 3])
def test_max_length_counts_words_and_the_end_is_paid_for(max_length: int) -> None:
    table = {START: {A: 1.0}, A: {B: 0.99, END_ID: 0.01}, B: {A: 0.98, END_ID: 0.02}}
    [[(words, score)]] = _search(FakeModel(table), beam_size=1, max_length=max_length)
    assert words == [A, B, A][:max_length]
    inner = [1.0, 0.99, 0.98][:max_length]
    assert score == pytest.approx(math.log(math.prod(inner) * {A: 0.01, B: 0.02}[words[-1]]))


def test_min_length_counts_words() -> None:
    table = {START: {A: 1.0}, A: {END_ID: 0.9, B: 0.1}, B: {END_ID: 0.8, A: 0.2}}
    [[(words, score)]] = _search(FakeModel(table), beam_size=1, min_length=3)
    assert words == [A, B, A]
    assert score == pytest.approx(math.log(0.1 * 0.2 * 0.9))
    [[(words, score)]] = _search(FakeModel(table), beam_size=1, min_length=4, max_length=4)
    assert words == [A, B, A, B]
    assert score == pytest.approx(math.log(0.1 * 0.2 * 0.1 * 0.8))


def test_groups_of_beams_say_other_words_and_are_sorted_together() -> None:
    # The first group goes "a c" as greedy search does. The second may not begin with "a" at this
    # price, and finds the better caption; the price is no part of its score.
    [rows] = _search(FakeModel(BETTER), beam_size=2, beam_groups=2, diversity_penalty=1.0)
    assert rows == [
        ([B, D], pytest.approx(math.log(0.4 * 0.9 * 0.9))),
        ([A, C], pytest.approx(math.log(0.5 * 0.4 * 0.5))),
    ]
    [rows] = _search(FakeModel(BETTER), beam_size=2, beam_groups=2, diversity_penalty=0.0)
    assert [words for words, _ in rows] == [[A, C], [A, C]]


def test_a_finished_group_takes_no_words_from_the_next() -> None:
    # "a c </s>" makes the end after "b d" too dear, but not two words later.
    settings = {"beam_size": 2, "beam_groups": 2, "diversity_penalty": 10.0, "max_length": 6}
    [rows] = _search(FakeModel(TRANSITIONS), **settings)
    assert rows == [
        ([A, C], pytest.approx(math.log(0.5 * 0.4 * 0.5))),
        ([B, D, A, C], pytest.approx(math.log(0.4 * 0.9 * 0.5 * 0.4 * 0.5))),
    ]


def test_never_unknown_repeated_or_empty() -> None:
    table = {
        START: {END_ID: 0.7, 3: 0.2, 0: 0.05, A: 0.05},
        A: {A: 0.8, 3: 0.1, B: 0.06, START: 0.04},
        B: {END_ID: 1.0},
    }
    [[(words, score)]] = _search(FakeModel(table), beam_size=1)
    assert words == [A, B]
    assert score == pytest.approx(math.log(0.05 * 0.06))


def test_a_character_may_be_doubled_but_not_tripled() -> None:
    table = {START: {A: 0.9, B: 0.1}, A: {A: 0.9, END_ID: 0.1}, B: {B: 0.9, END_ID: 0.1}}

    def best(*words: str) -> list[int]:
        vocabulary = Vocabulary((*SPECIAL_TOKENS, *words))
        config = DecodingConfig(beam_size=1, max_length=4, length_normalization=0.0)
        found = beam_search(FakeModel(table), None, config, vocabulary)
        return found.token_ids.numpy()[0, 0].tolist()

    assert best("妈", "b", "c", "d") == [A, A, END_ID, 0, 0]
    assert best("a", "妈", "c", "d") == [A, END_ID, 0, 0, 0]


def test_no_word_twice_but_those_that_may_be_repeated() -> None:
    table = {
        START: {A: 1.0},
        A: {B: 0.9, END_ID: 0.1},
        B: {A: 0.8, C: 0.15, END_ID: 0.05},
        C: {A: 0.6, B: 0.3, END_ID: 0.1},
    }
    settings = {"beam_size": 1, "max_length": 5}
    [[(words, _)]] = _search(FakeModel(table), **settings)
    assert words == [A, B, A, B, A]
    [[(words, score)]] = _search(FakeModel(table), **settings, repeatable_words="")
    assert words == [A, B, C]
    assert score == pytest.approx(math.log(0.9 * 0.15 * 0.1))
    # Immediate repetition is another matter, and a word that is not known is never said.
    repeatable = {A: {A: 0.5, B: 0.4, END_ID: 0.1}}
    [[(words, score)]] = _search(
        FakeModel({**table, **repeatable}), **settings, repeatable_words="a zebra"
    )
    assert words == [A, B, A]
    assert score == pytest.approx(math.log(0.4 * 0.8 * 0.1))


def test_as_many_words_as_were_said_are_passed_over() -> None:
    # Whatever was last, the likeliest words are the same, in this order.
    ranking = {word: 0.7 ** (word - A) for word in range(A, A + 20)}
    following = {**ranking, END_ID: 1e-9}
    model = FakeModel(dict.fromkeys((START, *ranking), following), size=30)
    [[(words, _)]] = _search(model, beam_size=1, max_length=15, repeatable_words="")
    assert words == list(range(A, A + 15))


def test_a_caption_that_has_to_go_on_and_cannot_is_none() -> None:
    table = {START: {A: 1.0}, A: {B: 0.9, END_ID: 0.1}, B: {A: 0.9, END_ID: 0.1}}
    settings = {"beam_size": 2, "repeatable_words": "", "min_length": 5, "max_length": 5}
    assert _search(FakeModel(table), **settings) == [[]]


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    alone = [_search(FakeModel(table), beam_size=3)[0] for table in (TRANSITIONS, BETTER)]
    together = _search(FakeModel(TRANSITIONS, BETTER), beam_size=3)
    for expected, found in zip(alone, together, strict=True):
        assert [words for words, _ in found] == [words for words, _ in expected]
        np.testing.assert_allclose([s for _, s in found], [s for _, s in expected], rtol=1e-6)


def test_fewer_captions_than_beams_leaves_the_rest_empty() -> None:
    [rows] = _search(FakeModel({START: {A: 1.0}, A: {END_ID: 1.0}}), beam_size=3, max_length=1)
    assert rows[0] == ([A], pytest.approx(0.0, abs=1e-6))
    assert all(score < -60 for _, score in rows[1:])


def test_the_search_stops_when_all_are_finished() -> None:
    class Counting(FakeModel):
        def step(self, token_ids: tf.Tensor, state: Any) -> tuple[tf.Tensor, Any]:
            calls.assign_add(1)
            return super().step(token_ids, state)

    calls = tf.Variable(0)
    model = Counting({START: {A: 1.0}, A: {END_ID: 1.0}})
    beam_search(model, None, DecodingConfig(beam_size=1, max_length=20), WORDS)
    assert calls.numpy() == 2


def _random_tables(count: int, seed: int) -> list[dict[int, dict[int, float]]]:
    rng = np.random.default_rng(seed)
    return [
        {
            last: dict(zip((END_ID, A, B, C, D), rng.dirichlet(np.ones(5)), strict=True))
            for last in (START, A, B, C, D)
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("repeatable", [None, "a c", ""])
@pytest.mark.parametrize("min_length", [1, 2])
@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0])
def test_a_wide_beam_finds_the_optimum_of_brute_force(
    alpha: float, min_length: int, repeatable: str | None
) -> None:
    tables = _random_tables(5, seed=3)
    settings = {"max_length": 3, "min_length": min_length, "length_normalization": alpha}
    found = _search(FakeModel(*tables), beam_size=128, **settings, repeatable_words=repeatable)
    for table, rows in zip(tables, found, strict=True):
        expected = _brute_force(table, max_length=3, alpha=alpha)
        expected = [
            one
            for one in expected
            if len(one[0]) >= min_length and _may_be_said(one[0], repeatable)
        ]
        assert [words for words, _ in rows[:10]] == [words for words, _ in expected[:10]]
        np.testing.assert_allclose(
            [score for _, score in rows[:10]], [score for _, score in expected[:10]], rtol=1e-5
        )


def _may_be_said(words: list[int], repeatable: str | None) -> bool:
    if repeatable is None:
        return True
    return all(words.count(word) == 1 or WORDS.tokens[word] in repeatable.split() for word in words)


def _brute_force(
    table: dict[int, dict[int, float]], max_length: int, alpha: float
) -> list[tuple[list[int], float]]:
    captions = []
    for length in range(1, max_length + 1):
        for words in itertools.product((A, B, C, D), repeat=length):
            if any(one == other for one, other in itertools.pairwise(words)):
                continue
            path = [START, *words, END_ID]
            log_prob = sum(math.log(table[a][b]) for a, b in itertools.pairwise(path))
            captions.append((list(words), log_prob / (length + 1) ** alpha))
    return sorted(captions, key=lambda caption: -caption[1])


@pytest.mark.parametrize("repeatable", [None, "a c"])
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_a_narrow_beam_chooses_as_a_search_written_out_in_python(
    groups: int, repeatable: str | None
) -> None:
    tables = _random_tables(8, seed=4)
    settings = {"beam_size": 6, "max_length": 5, "length_normalization": 0.7, "min_length": 2}
    groups_settings = {"beam_groups": groups, "diversity_penalty": 0.4}
    found = _search(FakeModel(*tables), **settings, **groups_settings, repeatable_words=repeatable)
    for table, rows in zip(tables, found, strict=True):
        expected = _plain_search(table, groups, repeatable)
        assert [words for words, _ in rows] == [words for words, _ in expected]
        np.testing.assert_allclose([s for _, s in rows], [s for _, s in expected], rtol=1e-5)


def _plain_search(
    table: dict[int, dict[int, float]], groups: int, repeatable: str | None
) -> list[tuple[list[int], float]]:
    """Beam 6, 2 to 5 words, normalisation 0.7, penalty 0.4; hypotheses are (words, log prob)."""
    beams: list[list[tuple[list[int], float]]] = [[([START], 0.0)] for _ in range(groups)]

    def normalized(words: list[int], log_prob: float) -> float:
        return log_prob / (len(words) - 1) ** 0.7

    for step in range(6):
        said: list[int] = []
        for index, beam in enumerate(beams):
            candidates = []
            for words, log_prob in beam:
                if words[-1] == END_ID:
                    candidates.append((normalized(words, log_prob), (words, log_prob)))
                    continue
                for word, probability in table[words[-1]].items():
                    is_end = word == END_ID
                    if word == words[-1] or (is_end and step < 2) or (not is_end and step == 5):
                        continue
                    if not (is_end or _may_be_said([*words, word], repeatable)):
                        continue
                    longer = ([*words, word], log_prob + math.log(probability))
                    price = 0.4 * said.count(word)
                    candidates.append((normalized(longer[0], longer[1] - price), longer))
            candidates.sort(key=lambda candidate: -candidate[0])
            beams[index] = [hypothesis for _, hypothesis in candidates[: 6 // groups]]
            said += [words[-1] for words, _ in beams[index] if len(words) == step + 2]
    found = [
        (words[1:-1], normalized(words, log_prob)) for beam in beams for words, log_prob in beam
    ]
    return sorted(found, key=lambda one: -one[1])


def test_samples_follow_the_model() -> None:
    def draw(seed: int) -> np.ndarray:
        model = FakeModel(TRANSITIONS)
        drawn = tf.function(
            lambda: sample(model, None, samples=20_000, max_length=3, seed=tf.constant([seed, 0]))
        )()
        return drawn[0].numpy()

    drawn = draw(1)
    assert drawn.shape == (20_000, 4)

    def share(*words: int) -> float:
        return float(np.mean((drawn == words).all(axis=1)))

    # Five standard deviations of a share of 20,000 are below 0.02.
    assert share(B, D, END_ID, 0) == pytest.approx(0.4 * 0.9 * 0.2, abs=0.02)
    assert share(A, END_ID, 0, 0) == pytest.approx(0.5 * 0.25, abs=0.02)
    # Cut, so without an end.
    assert share(B, D, A, C) == pytest.approx(0.4 * 0.9 * 0.5 * 0.4, abs=0.02)
    np.testing.assert_array_equal(drawn, draw(1))
    assert (drawn != draw(2)).any()


def test_samples_never_hold_padding_start_or_the_unknown_word() -> None:
    model = FakeModel({START: {0: 0.3, START: 0.3, 3: 0.3, A: 0.1}, A: {END_ID: 1.0}})
    drawn = sample(model, None, samples=50, max_length=3, seed=tf.constant([1, 2]))
    np.testing.assert_array_equal(drawn[0], [[A, END_ID, 0, 0]] * 50)
