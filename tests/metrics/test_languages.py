"""What a word is in a language, and that scores of captions without spaces mean something."""

from __future__ import annotations

import io

import pytest

from tfx_captioner.metrics import languages, meteor, scripts
from tfx_captioner.metrics.bootstrap import paired_bootstrap
from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import ImageStatistics, image_statistics, score

ALIKE = {
    "zh": ("一只狗在草地上跑", "一只狗在草地上奔跑"),
    "ja": ("男の子がサッカーボールを蹴る。", "男の子がサッカーボールを蹴っている。"),
    "th": ("ผู้ชายขี่จักรยานบนถนน", "ผู้ชายกำลังขี่จักรยานบนถนน"),
    "lo": ("ຜູ້ຊາຍຂີ່ລົດຖີບ", "ຜູ້ຊາຍກຳລັງຂີ່ລົດຖີບ"),
    "km": ("បុរសម្នាក់ជិះកង់", "បុរសម្នាក់កំពុងជិះកង់"),
    "my": ("လူတစ်ယောက် စက်ဘီးစီးနေသည်", "လူတစ်ယောက်စက်ဘီးစီး"),
}
OTHER = {
    "zh": "两个孩子吃苹果",
    "ja": "猫は窓辺で寝た",
    "th": "แมวนอน",
    "lo": "ແມວ",
    "km": "ឆ្មា",
    "my": "ကြောင်",
}


@pytest.mark.parametrize("language", languages.UNSPACED_LANGUAGES)
def test_nearly_equal_captions_score_high(language: str) -> None:
    caption, reference = ALIKE[language]
    # CIDEr-D needs a second image.
    references = {"1.jpg": [reference], "2.jpg": [OTHER[language]]}
    captions = {"1.jpg": caption, "2.jpg": OTHER[language]}
    scores = score(references, captions, with_meteor=False, language=language)
    assert min(scores[name] for name in ("bleu_1", "bleu_4", "rouge_l")) > 0.5
    assert scores["cider_d"] > 2
    different = score(
        {"1.jpg": [reference], "2.jpg": [reference]},
        {"1.jpg": OTHER[language], "2.jpg": OTHER[language]},
        with_meteor=False,
        language=language,
    )
    assert different["bleu_4"] < 1e-6
    assert different["rouge_l"] < 0.3


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("一只狗在跑。", "一 只 狗 在 跑"),
        ("赤いボールとDOG", "赤 い ボ ー ル と dog"),
        ("ｶﾞラス", "ガ ラ ス"),
        ("น้ำใส", "น้ ำ ใ ส"),
        ("穿T-Shirt的人\uff0cdon't\uff01", "穿 t-shirt 的 人 don't"),
        ("3只狗", "3 只 狗"),
        ("a dog", "a dog"),
        ("。、", ""),
        ("", ""),
    ],
)
def test_a_character_is_a_word(caption: str, words: str) -> None:
    assert languages.tokenizer("zh")(caption) == words


def test_a_spaced_language_has_the_words_of_the_coco_evaluation() -> None:
    for language in ("en", "de", "vi", "ko"):
        assert languages.tokenizer(language)("It can't run.") == "it ca n't run"
        assert languages.segmentation(language) == languages.PENN_TREEBANK
    assert languages.segmentation("ja") == languages.CHARACTERS


@pytest.mark.parametrize("language", ["", "xx", "EN", "english", "bo", "zh-CN"])
def test_an_unknown_language_is_refused(language: str) -> None:
    with pytest.raises(ValueError, match=rf"zh zu\. Received: {language!r}\."):
        TokenizedReferences.of({"1.jpg": ["x"]}, language=language)


def test_captions_in_the_wrong_language_come_with_a_warning() -> None:
    chinese = [texts for pair in ALIKE.values() for texts in pair]
    assert "12 of 13 captions" in languages.warning("en", [*chinese, "a dog"])
    assert "one of ja, km, lo, my, th, zh" in languages.warning("ko", chinese)
    assert languages.warning("zh", chinese) == ""
    assert languages.warning("en", ["a dog", "a 狗 dog", "犬"]) == ""
    assert languages.warning("ko", ["강아지가 달린다"]) == ""
    assert languages.warning("en", []) == ""


def test_an_unspaced_caption_is_told_by_its_letters() -> None:
    assert scripts.is_unspaced("穿T-shirt的男人在草地上走")
    assert not scripts.is_unspaced("a man in 北京")
    assert not scripts.is_unspaced("。、\uff01")


def statistics(language: str) -> ImageStatistics:
    references = {f"{number}.jpg": [text] for number, text in enumerate(ALIKE["zh"])}
    captions = {image: texts[0] for image, texts in references.items()}
    tokenized = TokenizedReferences.of(references, language=language)
    return image_statistics(tokenized, captions, with_meteor=False)


def test_files_keep_the_language() -> None:
    file = io.BytesIO()
    TokenizedReferences.of({"1.jpg": ["狗"]}, language="zh").save(file)
    file.seek(0)
    assert TokenizedReferences.load(file).language == "zh"
    file = io.BytesIO()
    statistics("zh").save(file)
    file.seek(0)
    assert ImageStatistics.load(file).language == "zh"


def test_scores_of_different_words_do_not_compare() -> None:
    with pytest.raises(ValueError, match="Received: characters and Penn Treebank words"):
        paired_bootstrap(statistics("zh"), statistics("en"), resamples=10)
    assert paired_bootstrap(statistics("zh"), statistics("ja"), resamples=10)


def test_what_is_english_only_is_left_out() -> None:
    references = TokenizedReferences.of({"1.jpg": ["ein hund in"]}, language="de")
    with pytest.raises(meteor.MeteorUnavailableError, match="the language is `de`"):
        image_statistics(references, {"1.jpg": "ein hund in"})
    assert "English alone" in str(meteor.unavailable_reason("de"))
    scores = image_statistics(references, {"1.jpg": "ein hund in"}, with_meteor=False).corpus()
    assert "dangling_captions" not in scores
    assert scores["mean_caption_length"] == 3
