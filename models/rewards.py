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
    """

    def __init__(self, train: CaptionData):
        self._frequencies = DocumentFrequencies.of(
            [_text(row) for row in train.references(image)] for image in range(train.num_images)
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
            corpus.add(_text(hypothesis), [_text(row) for row in rows])
        return corpus.scores(self._frequencies)


def _text(token_ids: np.ndarray) -> str:
    """Token ids as words, without start, end and padding."""
    return " ".join(
        str(token) for token in token_ids.tolist() if token not in (PAD_ID, START_ID, END_ID)
    )
