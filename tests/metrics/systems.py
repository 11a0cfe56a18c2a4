"""Captions with known scores, for the tests of the metrics."""

from __future__ import annotations

import numpy as np
import pytest

from tfx_captioner.metrics import meteor
from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import ImageStatistics, image_statistics

needs_meteor = pytest.mark.skipif(
    meteor.unavailable_reason() is not None,
    reason=f"METEOR is not available: {meteor.unavailable_reason()}",
)

REFERENCES = {
    "0": ["A dog runs in the grass .", "The dog is running ."],
    "1": ["A man sits on a bench .", "A man .", "Some man ."],
    "2": ["Two girls eat ice-cream ."],
    "3": ["A boy's red ball (new) .", "A ball ."],
}
HYPOTHESES = {
    "3": "a boy <unk> a red ball",
    "0": "a dog runs in grass",
    "1": "a man sits on the bench",
    "2": "two girls eat ice-cream",
}
# pycocoevalcap 1.2 with its own tokenizer.
SCORES = {
    "bleu_1": 0.8172831040651436,
    "bleu_2": 0.7100971954880624,
    "bleu_3": 0.6054165205181548,
    "bleu_4": 0.5153356826227257,
    "rouge_l": 0.9121506373810521,
    "cider_d": 4.441264852298199,
}
METEOR = 0.4478913695853011
METEOR_IMAGES = [0.4645695216158345, 0.45876240259563655, 1.0, 0.30328232509354]

SLICES = {"people": ["no", "yes", "yes", "yes"], "length": ["long", "long", "short", "short"]}
TRAINING = [["A dog .", "Two girls eat ice-cream ."], ["A man sits on a bench ."]]


def captions(seed: int, images: int, good: float = 0.5) -> tuple[dict, dict]:
    """References of made-up images, and captions of which a share are right."""
    generator = np.random.default_rng(seed)
    words = np.array(["a", "dog", "man", "runs", "on", "the", "grass", "red"])
    references, hypotheses = {}, {}
    drawn = np.random.default_rng(1)
    for image in range(images):
        texts = [" ".join(drawn.choice(words, drawn.integers(4, 9))) for _ in range(3)]
        references[str(image)] = texts
        luck, wrong = generator.random(), " ".join(generator.choice(words, 6))
        hypotheses[str(image)] = texts[0] if luck < good else wrong
    return references, hypotheses


def system(seed: int, images: int = 60, good: float = 0.5) -> ImageStatistics:
    """Statistics of `captions`."""
    references, hypotheses = captions(seed, images, good)
    return image_statistics(TokenizedReferences.of(references), hypotheses, with_meteor=False)


def known_system(with_meteor: bool = False) -> ImageStatistics:
    """Statistics of the captions above, with slices and a train split."""
    references = TokenizedReferences.of(REFERENCES, slices=SLICES, training_captions=TRAINING)
    return image_statistics(references, HYPOTHESES, with_meteor=with_meteor)
