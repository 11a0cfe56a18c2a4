"""CIDEr-D of generated token ids, which chooses the best epoch and rewards sampled captions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tfx_captioner.metrics.cider import CiderCorpus, DocumentFrequencies
from tfx_captioner.models.data import CaptionData
from tfx_captioner.models.data_config import END_ID, PAD_ID, START_ID


class CiderReward:
    """CIDEr-D with the document frequencies of the train split, on token ids instead of words.

    The arithmetic is the evaluator's own. Words below the minimum count are one token here, so the
    figures are near those of the evaluation but not the same.

    Example:

    ```python
    reward = CiderReward(train)
    scores = reward(hypotheses, [val.references(image) for image in range(val.num_images)])
    ```

    Args:
      train: Captions whose n-grams are counted, once per image.
      with_end: Whether the end of a caption is a word of its n-grams. Without it, captions that
        break off ("a dog runs through the") are rewarded for the words they have, and a model that
        is trained on the reward learns to break off. Scores of evaluations are without.
    """

    def __init__(self, train: CaptionData, *, with_end: bool = False):
        self._not_words = (PAD_ID, START_ID) if with_end else (PAD_ID, START_ID, END_ID)
        self._frequencies = DocumentFrequencies.of(
            [self._text(row) for row in train.references(image)]
            for image in range(train.num_images)
        )

    def __call__(
        self, hypotheses: Iterable[np.ndarray], references: Iterable[np.ndarray]
    ) -> np.ndarray:
        """Scores captions.

        Args:
          hypotheses: Token ids of each caption, int [T], ending at its end token or at padding.
          references: Token ids of the captions of its image, int [n, T], for each caption.

        Returns:
          Score of each caption, float64 [captions], in [0, 10].
        """
        corpus = CiderCorpus()
        for hypothesis, rows in zip(hypotheses, references, strict=True):
            corpus.add(self._text(hypothesis), [self._text(row) for row in rows])
        return corpus.scores(self._frequencies)

    def _text(self, token_ids: np.ndarray) -> str:
        """Token ids as words, without start and padding."""
        return " ".join(str(token) for token in token_ids.tolist() if token not in self._not_words)
