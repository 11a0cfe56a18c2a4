"""The statistics of each metric: numbers from outside, an algebra that bundling cannot break."""

from __future__ import annotations

import copy
import functools
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfx_captioner.metrics import cider_scores
from tfx_captioner.metrics.bleu import (
    BleuStatistics,
    bleu_scores,
    bleu_statistics,
    closest_reference_length,
)
from tfx_captioner.metrics.cider import (
    CiderCorpus,
    DocumentFrequencies,
    TrainIdfCiderStatistics,
)
from tfx_captioner.metrics.diversity import (
    DiversityStatistics,
    NoveltyStatistics,
)
from tfx_captioner.metrics.ngrams import count_ngrams
from tfx_captioner.metrics.rouge import (
    RougeStatistics,
    longest_common_subsequence,
    rouge_l,
)
from tfx_captioner.metrics.sums import ExactSum

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
MEAN_ROUGE_L = 0.5324642609736129
CIDER_D = [3.1343153545796603, 2.97117607294099, 0.0, 0.0]
MEAN_CIDER_D = 1.5263728568801627

texts = st.lists(
    st.sampled_from(["a", "dog", "man", "runs", "on", "<unk>", "x\u00a0y"]), max_size=7
)
captions = texts.map(" ".join)
images = st.lists(
    st.tuples(captions, st.lists(captions, min_size=1, max_size=4)), min_size=1, max_size=9
)


@functools.lru_cache(maxsize=1)
def _files() -> tuple[str, str]:
    import tempfile

    folder = Path(tempfile.mkdtemp())
    DocumentFrequencies.of([references for _, references in IMAGES]).save(folder / "df.gz")
    (folder / "train.txt").write_text("A dog runs.\na man\n", encoding="utf-8")
    return str(folder / "df.gz"), str(folder / "train.txt")


KINDS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "bleu": (BleuStatistics, bleu_scores),
    "rouge_l": (RougeStatistics, RougeStatistics.mean),
    "cider_d": (CiderCorpus, CiderCorpus.mean),
    "cider_d_train_idf": (
        lambda: TrainIdfCiderStatistics(_files()[0]),
        TrainIdfCiderStatistics.mean,
    ),
    "diversity": (
        DiversityStatistics,
        lambda statistics: (
            statistics.distinct_1(),
            statistics.distinct_2(),
            statistics.vocabulary_coverage(),
            statistics.mean_caption_length(),
            statistics.unknown_word_captions(),
            statistics.dangling_captions(),
        ),
    ),
    "novel_captions": (
        lambda: NoveltyStatistics(_files()[1]),
        NoveltyStatistics.novel_captions,
    ),
}


def summed(factory: Callable[[], Any], data: list[Image]) -> Any:
    statistics = factory()
    for hypothesis, references in data:
        statistics.add(hypothesis, references)
    return statistics


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(data=images, drawn=st.data())
def test_any_split_in_any_order_gives_the_same_value(
    kind: str, data: list[Image], drawn: st.DataObject
) -> None:
    factory, value = KINDS[kind]
    expected = value(summed(factory, data))

    shuffled = drawn.draw(st.permutations(data))
    bounds = sorted(drawn.draw(st.lists(st.integers(0, len(data)), max_size=4)))
    parts = [
        summed(factory, shuffled[first:last])
        for first, last in zip([0, *bounds], [*bounds, len(data)], strict=True)
    ]
    merged = factory()
    for part in drawn.draw(st.permutations(parts)):
        # Beam moves accumulators between processes.
        merged += pickle.loads(pickle.dumps(part))

    np.testing.assert_array_equal(value(merged), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_empty_statistics_are_neutral(kind: str) -> None:
    factory, value = KINDS[kind]
    full = summed(factory, IMAGES)
    expected = value(copy.deepcopy(full))
    full += factory()
    np.testing.assert_array_equal(value(full), expected)
    empty = factory()
    empty += summed(factory, IMAGES)
    np.testing.assert_array_equal(value(empty), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_no_data_is_nan(kind: str) -> None:
    factory, value = KINDS[kind]
    assert np.isnan(value(factory())).all()


@pytest.mark.parametrize("kind", ["bleu", "rouge_l", "cider_d"])
def test_an_image_without_references_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"at least one reference per image. Received: none."):
        KINDS[kind][0]().add("a dog", [])


@given(st.lists(st.floats(-1e12, 1e12), max_size=40), st.randoms(use_true_random=False))
def test_exact_sum_is_the_correctly_rounded_sum(values: list[float], random: Any) -> None:
    halves = ExactSum(), ExactSum()
    for value in values:
        random.choice(halves).add(value)
    left, right = halves
    left += right
    assert left.value() == math.fsum(values)


def test_ngrams() -> None:
    assert count_ngrams("a b a b", 2) == {("a",): 2, ("b",): 2, ("a", "b"): 2, ("b", "a"): 1}


@pytest.mark.parametrize(
    ("length", "references", "expected"), [(6, [5, 7], 5), (6, [9, 7], 7), (3, [3, 2], 3)]
)
def test_closest_reference_length(length: int, references: list[int], expected: int) -> None:
    assert closest_reference_length(length, references) == expected


def test_bleu_statistics_of_an_image() -> None:
    statistics = bleu_statistics("the the cat", ["the cat sat", "the cat"])
    # "the" is clipped to once; the references are equally far, the shorter one would be taken.
    assert statistics.vector() == [2, 1, 0, 0, 3, 2, 1, 0, 3, 3]


def test_bleu_of_pycocoevalcap() -> None:
    assert bleu_scores(summed(BleuStatistics, IMAGES)) == BLEU


def test_rouge_l_of_pycocoevalcap() -> None:
    assert [rouge_l(*image) for image in IMAGES] == ROUGE_L
    assert summed(RougeStatistics, IMAGES).mean() == pytest.approx(MEAN_ROUGE_L, rel=1e-15)


@given(texts, texts)
def test_longest_common_subsequence(first: list[str], second: list[str]) -> None:
    table = np.zeros((len(first) + 1, len(second) + 1), int)
    for i, one in enumerate(first, 1):
        for j, other in enumerate(second, 1):
            best = max(table[i - 1, j], table[i, j - 1])
            table[i, j] = table[i - 1, j - 1] + 1 if one == other else best
    assert longest_common_subsequence(first, second) == table[-1, -1]


def test_cider_d_of_pycocoevalcap() -> None:
    corpus = summed(CiderCorpus, IMAGES)
    np.testing.assert_allclose(corpus.scores(), CIDER_D, rtol=1e-12)
    assert corpus.mean() == pytest.approx(MEAN_CIDER_D, rel=1e-12)


def test_one_image_alone_scores_zero_in_the_published_cider_d_only(tmp_path: Path) -> None:
    image = IMAGES[0]
    assert summed(CiderCorpus, [image]).mean() == 0.0

    path = tmp_path / "df.gz"
    DocumentFrequencies.of([references for _, references in IMAGES]).save(path)
    statistics = summed(lambda: TrainIdfCiderStatistics(str(path)), [image])
    assert statistics.mean() == pytest.approx(CIDER_D[0], rel=1e-12)


def test_cider_d_of_more_images_than_are_scored_together() -> None:
    images = [(references[-1], references) for _, references in IMAGES]
    few = summed(CiderCorpus, images)
    many = summed(CiderCorpus, images * 3000)
    # Document frequencies and the number of images grow alike, so that every idf stays.
    np.testing.assert_allclose(many.scores(), np.tile(few.scores(), 3000), rtol=1e-12)


def test_cider_d_of_a_vocabulary_whose_bigrams_do_not_fit_into_32_bits() -> None:
    captions = [f"a{image} b{image} c{image} d{image}" for image in range(15_000)]
    scores = summed(CiderCorpus, [(caption, [caption]) for caption in captions]).scores()
    np.testing.assert_allclose(scores, 10.0, rtol=1e-12)


def test_document_frequencies_survive_a_file(tmp_path: Path) -> None:
    frequencies = DocumentFrequencies.of([["a dog", "a dog runs"], ["a\u00a0cat"]])
    assert frequencies.images == 2
    assert frequencies.counts["a",] == 2
    assert frequencies.counts["a", "dog"] == 1
    frequencies.save(tmp_path / "one.gz")
    frequencies.save(tmp_path / "two.gz")
    assert DocumentFrequencies.load(tmp_path / "one.gz") == frequencies
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()


def test_diversity() -> None:
    statistics = summed(
        lambda: DiversityStatistics(unknown_token="[UNK]"),
        [
            ("a dog sits on a", ["a dog on a sofa"]),
            ("a dog sits", ["a puppy"]),
            ("-lsb- unk -rsb- dog", ["a dog"]),
        ],
    )
    assert statistics.distinct_1() == 7 / 12
    assert statistics.distinct_2() == 7 / 9
    assert statistics.vocabulary_coverage() == 3 / 5
    assert statistics.mean_caption_length() == 4.0
    assert statistics.unknown_word_captions() == 1 / 3
    assert statistics.dangling_captions() == 1 / 3


def test_novel_captions_are_compared_after_tokenisation(tmp_path: Path) -> None:
    training = tmp_path / "train.txt"
    training.write_text("A dog runs.\nTwo men talk !\n", encoding="utf-8")
    statistics = summed(
        lambda: NoveltyStatistics(str(training)), [("a dog runs", ["x"]), ("a dog", ["x"])]
    )
    assert statistics.novel_captions() == 0.5


@settings(max_examples=40, deadline=None)
@given(data=images)
def test_cider_d_does_not_depend_on_how_a_large_corpus_is_cut_up(data: list[Image]) -> None:
    whole = summed(CiderCorpus, data).scores()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cider_scores, "_NGRAMS_PER_PART", 3)
        patch.setattr(cider_scores, "_IMAGES_PER_CHUNK", 2)
        assert summed(CiderCorpus, data).scores().tolist() == whole.tolist()


@settings(max_examples=40, deadline=None)
@given(data=images, others=images)
def test_cider_d_by_frequencies_from_elsewhere(data: list[Image], others: list[Image]) -> None:
    frequencies = DocumentFrequencies.of([references for _, references in data])
    corpus = summed(CiderCorpus, data)
    own = corpus.scores().tolist()
    assert corpus.scores(frequencies).tolist() == own
    # Words, and beginnings of n-grams, that were never counted do not matter to those that were.
    more = [*data, *((f"new {text}", ["new", *texts]) for text, texts in others)]
    known = summed(CiderCorpus, more).scores(frequencies)
    assert known[: len(data)].tolist() == own
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cider_scores, "_NGRAMS_PER_PART", 3)
        assert [scores.tolist() for scores in corpus.both_scores(frequencies)] == [own, own]


def test_an_ngram_counts_without_the_shorter_ones_in_it() -> None:
    counts = cider_scores.NGramCounts(3, {("a", "dog", "runs"): 2, ("runs",): 1})
    text = cider_scores.Text(
        ["a", "cat", "dog", "runs"],
        np.array([0, 2, 3, 1, 3], np.int32),
        np.array([5]),
        np.array([1]),
    )
    found = [of.tolist() for of in counts.at_each_word(text)]
    assert found == [[0, 0, 1, 0, 1], [0] * 5, [2, 0, 0, 0, 0], [0] * 5]


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_ngrams_of_a_vocabulary_too_large_for_one_number(order: int) -> None:
    # Three words of such a vocabulary fill 63 bits.
    size = 1 << 21
    words = np.random.default_rng(0).choice([0, 1, size - 2, size - 1], 200).astype(np.int32)
    text = cider_scores.Text(range(size), words, np.array([200]), np.array([1]))
    places = np.arange(200 - order)
    ngrams = [tuple(words[place : place + order].tolist()) for place in places]
    rank = {ngram: number for number, ngram in enumerate(sorted(set(ngrams)))}
    assert cider_scores._numbers(text, places, order).tolist() == [rank[n] for n in ngrams]
