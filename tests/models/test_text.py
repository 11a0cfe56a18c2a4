"""Tokenisation of captions in any script."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies

from tfx_captioner.metrics import scripts
from tfx_captioner.models import text


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("A dog runs .", ["a", "dog", "runs"]),
        ("Two kids' t-shirts, don't they?", ["two", "kids", "t-shirts", "don't", "they"]),
        ("The man\u2019s \u201cbig\u201d dog \u2014 wet!", ["the", "man's", "big", "dog", "wet"]),
        ("rock - n - roll 'quoted'", ["rock", "n", "roll", "quoted"]),
        ("\uff26ull \uff57idth \ufb01sh 3 balls", ["full", "width", "fish", "3", "balls"]),
        ("Cafe\u0301 ÉTÉ", ["café", "été"]),
        ("ΟΔΟΣ Большая СОБАКА", ["οδος", "большая", "собака"]),
        ("一只狗在跑。", ["一", "只", "狗", "在", "跑"]),
        ("赤いボールとdog", ["赤", "い", "ボ", "ー", "ル", "と", "dog"]),
        ("एक कुत्ता दौड़ता है।", ["एक", "कुत्ता", "दौड़ता", "है"]),
        ("كَلْبٌ بُنِّيٌّ، يركض", ["كَلْبٌ", "بُنِّيٌّ", "يركض"]),
        ("می\u200cدود क्\u200dष", ["می\u200cدود", "क्\u200dष"]),
        ("a \U0001f436 \u2764\ufe0f \U0001f468\u200d\U0001f469\u200d\U0001f467 dog", ["a", "dog"]),
        ("...", []),
        ("", []),
    ],
)
def test_tokenize(caption: str, words: list[str]) -> None:
    import unicodedata

    tokens = text.tokenize([caption])[0].numpy()
    assert [t.decode() for t in tokens] == [unicodedata.normalize("NFKC", w) for w in words]


@pytest.mark.parametrize(
    ("words", "caption"),
    [
        (["a", "dog", "", ""], "a dog"),
        (["", "a", "", "dog"], "a dog"),
        (["一", "只", "狗", "在", "跑"], "一只狗在跑"),
        (["狗", "on", "草"], "狗 on 草"),
        (["", ""], ""),
    ],
)
def test_detokenize(words: list[str], caption: str) -> None:
    assert text.detokenize([words])[0].numpy().decode() == caption


def test_unspaced_scripts_survive_the_round_trip() -> None:
    for caption in ("棕色的狗在草地上跑", "男の子がサッカーボールを蹴る", "ผู้ชายดื่มน้ำ", "កង់ដ៏ធំមួយ"):
        words = text.tokenize([caption]).to_tensor("")
        assert text.detokenize(words)[0].numpy().decode() == caption


PIECES = strategies.sampled_from(
    [
        *"aéßςΣ9٣²½Ⅷ_'-\u2011\u2019` .,!?。、・ー々〇狗犬がか\u3099ｶﾞア㍍㈱ヽ〆ｗ한글",
        *"\u200b\u200c\u200d\u0301\ufe0f🐶ก้ำา\u0e4d๑ฯ฿ກຳ\u0ecdາກັខ្មែ។៣မြန်မာ၊ऀदौ़ًك𠀋",
        *("Dog", "t-shirt", "don't", "  ", "\n", "\u3000", "İ"),
    ]
)


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True)
@hypothesis.given(strategies.lists(strategies.lists(PIECES, max_size=12).map("".join), max_size=20))
def test_metrics_split_captions_as_training_does(captions: list[str]) -> None:
    trained_on = (
        [" ".join(word.decode() for word in words) for words in text.tokenize(captions).to_list()]
        if captions
        else []
    )
    assert [scripts.split_words(caption) for caption in captions] == trained_on
