"""n-grams as arrays, and the metrics made of them: numbers from outside."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_captioner.metrics import cider_scores, rouge
from tfx_captioner.metrics.bleu import bleu_counts, bleu_scores
from tfx_captioner.metrics.cider import CiderCorpus, DocumentFrequencies
from tfx_captioner.metrics.matches import Comparison
from tfx_captioner.metrics.ngrams import CountedCaptions
from tfx_captioner.metrics.rouge import longest_common_subsequence, rouge_l, rouge_l_scores

Image = tuple[str, list[str]]

IMAGES: list[Image] = [
    ("a dog runs in the grass", ["a dog runs fast in the grass", "the dog is running"]),
    ("a man sits on the bench", ["a man sits on a bench", "a man on a bench", "some man"]),
    ("a man with a", ["two children play football", "a boy in a red shirt"]),
    ("", ["a quiet lake"]),
]

# pycocoevalcap 1.2 on IMAGES.
BLEU = [0.6327756361664195, 0.515128298149219, 0.435617911991165, 0.30967873310982214]
ROUGE_L = [0.9104477611940297, 0.8333333333333334, 0.3860759493670886, 0.0]
CIDER_D = [3.1343153545796603, 2.97117607294099, 0.0, 0.0]

texts = st.lists(
    st.sampled_from(["a", "dog", "man", "runs", "on", "<unk>", "x\u00a0y"]), max_size=7
)
captions = texts.map(" ".join)
images = st.lists(
    st.tuples(captions, st.lists(captions, min_size=1, max_size=4)), min_size=1, max_size=9
)


def comparison(data: list[Image]) -> Comparison:
    return Comparison.of(
        CountedCaptions.of(hypothesis for hypothesis, _ in data),
        CountedCaptions.of(text for _, texts in data for text in texts),
        np.array([len(texts) for _, texts in data]),
    )


def corpus(data: list[Image]) -> CiderCorpus:
    summed = CiderCorpus()
    for hypothesis, references in data:
        summed.add(hypothesis, references)
    return summed


@given(st.lists(captions, max_size=6))
def test_every_ngram_is_counted(data: list[str]) -> None:
    counted = CountedCaptions.of(data)
    ngrams: list[tuple[str, ...]] = [()]
    for order, (keys, counts) in enumerate(zip(counted.keys, counted.counts, strict=True), 1):
        beginning, last = np.divmod(keys, max(len(counted.spelling), 1))
        ngrams = [
            (*(ngrams[one] if order > 1 else ()), counted.spelling[other])
            for one, other in zip(beginning.tolist(), last.tolist(), strict=True)
        ]
        assert ngrams == sorted(ngrams)
        for row, caption in enumerate(data):
            words = caption.split()
            rows = slice(*counts.first[[row, row + 1]])
            found = {
                ngrams[number]: count
                for number, count in zip(counts.number[rows], counts.occurrences[rows], strict=True)
            }
            assert found == Counter(zip(*(words[start:] for start in range(order)), strict=False))


@given(st.lists(captions, max_size=6), st.lists(captions, max_size=6))
def test_an_ngram_is_found_among_those_of_other_captions(one: list[str], two: list[str]) -> None:
    first, second = CountedCaptions.of(one), CountedCaptions.of(two)
    both = CountedCaptions.of(one + two)
    places = first.numbers_in(both.spelling, both.keys), second.numbers_in(both.spelling, both.keys)
    for order, numbers in enumerate(first.numbers_in(second.spelling, second.keys)):
        known = dict(zip(places[1][order].tolist(), range(len(places[1][order])), strict=True))
        assert numbers.tolist() == [known.get(place, -1) for place in places[0][order].tolist()]


def test_a_word_that_a_caption_has_three_hundred_times() -> None:
    counted = CountedCaptions.of(["a " * 300 + "b"])
    assert counted.counts[0].occurrences.tolist() == [300, 1]
    scores = corpus([("a " * 300, ["a " * 300]), ("b", ["c"])]).scores()
    assert scores[0] == pytest.approx(10.0)


def test_bleu_counts_of_an_image() -> None:
    # "the" is clipped to once; the references are equally far, the shorter one is taken.
    counts = bleu_counts(comparison([("the the cat", ["the cat sat", "the cat"])]))
    assert counts.tolist() == [[2, 1, 0, 0, 3, 2, 1, 0, 3, 3]]


@pytest.mark.parametrize(
    ("length", "references", "expected"), [(6, [5, 7], 5), (6, [9, 7], 7), (3, [3, 2], 3)]
)
def test_closest_reference_length(length: int, references: list[int], expected: int) -> None:
    counts = bleu_counts(comparison([("a " * length, ["b " * size for size in references])]))
    assert counts[0, -1] == expected


def test_bleu_of_pycocoevalcap() -> None:
    assert bleu_scores(bleu_counts(comparison(IMAGES)).sum(axis=0).tolist()) == BLEU


def test_rouge_l_of_pycocoevalcap() -> None:
    assert [rouge_l(*image) for image in IMAGES] == ROUGE_L


long_captions = st.lists(st.sampled_from("abcde"), min_size=55, max_size=70).map(" ".join)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            captions | long_captions,
            st.lists(captions | long_captions, min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_rouge_l_of_many_images_is_that_of_each(data: list[Image]) -> None:
    scores = rouge_l_scores(comparison(data), [text for text, _ in data], [of for _, of in data])
    assert scores.tolist() == [rouge_l(*image) for image in data]


def test_rouge_l_of_more_captions_than_are_compared_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rouge, "_CAPTIONS_PER_CHUNK", 2)
    test_rouge_l_of_many_images_is_that_of_each.hypothesis.inner_test(IMAGES)


@given(texts, texts)
def test_longest_common_subsequence(first: list[str], second: list[str]) -> None:
    table = np.zeros((len(first) + 1, len(second) + 1), int)
    for i, one in enumerate(first, 1):
        for j, other in enumerate(second, 1):
            best = max(table[i - 1, j], table[i, j - 1])
            table[i, j] = table[i - 1, j - 1] + 1 if one == other else best
    assert longest_common_subsequence(first, second) == table[-1, -1]


def test_cider_d_of_pycocoevalcap() -> None:
    np.testing.assert_allclose(corpus(IMAGES).scores(), CIDER_D, rtol=1e-12)


def test_an_image_without_references_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one reference per image. Received: none."):
        CiderCorpus().add("a dog", [])


def test_one_image_alone_scores_zero_in_the_published_cider_d_only() -> None:
    image = corpus(IMAGES[:1])
    assert image.scores().tolist() == [0.0]
    frequencies = DocumentFrequencies.of([references for _, references in IMAGES])
    assert image.scores(frequencies)[0] == pytest.approx(CIDER_D[0], rel=1e-12)


def test_cider_d_of_more_images_than_are_scored_together() -> None:
    data = [(references[-1], references) for _, references in IMAGES]
    few = corpus(data).scores()
    # Document frequencies and the number of images grow alike, so that every idf stays.
    np.testing.assert_allclose(corpus(data * 3000).scores(), np.tile(few, 3000), rtol=1e-12)


def test_cider_d_of_a_vocabulary_whose_bigrams_do_not_fit_into_32_bits() -> None:
    data = [f"a{image} b{image} c{image} d{image}" for image in range(15_000)]
    scores = corpus([(caption, [caption]) for caption in data]).scores()
    np.testing.assert_allclose(scores, 10.0, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(data=images)
def test_cider_d_does_not_depend_on_how_a_large_corpus_is_cut_up(data: list[Image]) -> None:
    whole = corpus(data).scores()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cider_scores, "_IMAGES_PER_CHUNK", 2)
        assert corpus(data).scores().tolist() == whole.tolist()


@settings(max_examples=40, deadline=None)
@given(data=images, random=st.randoms(use_true_random=False))
def test_cider_d_does_not_depend_on_the_order_of_images(data: list[Image], random) -> None:
    order = list(range(len(data)))
    random.shuffle(order)
    shuffled = corpus([data[row] for row in order]).scores()
    assert shuffled.tolist() == corpus(data).scores()[order].tolist()


@settings(max_examples=40, deadline=None)
@given(data=images, others=images)
def test_cider_d_by_frequencies_from_elsewhere(data: list[Image], others: list[Image]) -> None:
    frequencies = DocumentFrequencies.of([references for _, references in data])
    own = corpus(data).scores().tolist()
    assert corpus(data).scores(frequencies).tolist() == own
    # Words, and beginnings of n-grams, that were never counted do not matter to those that were.
    more = [*data, *((f"new {text}", ["new", *texts]) for text, texts in others)]
    assert corpus(more).scores(frequencies)[: len(data)].tolist() == own


def test_document_frequencies() -> None:
    frequencies = DocumentFrequencies.of([["a dog", "a dog runs"], ["a\u00a0cat"]])
    assert frequencies.images == 2
    counted = CountedCaptions.of(["a cat dog", "a dog"])
    words, pairs, *_ = frequencies.counts(counted)
    assert dict(zip(counted.spelling, words.tolist(), strict=True)) == {"a": 2, "cat": 1, "dog": 1}
    assert pairs.tolist() == [1, 1, 0]  # a cat, a dog, cat dog
