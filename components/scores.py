"""Names that all nodes of the evaluation share."""

from __future__ import annotations

from collections.abc import Mapping

# Metrics of which more is better, so that a lower bound makes sense. The others describe captions
# (their length, say) and cannot be thresholds.
RANKING_METRICS = (
    "bleu_1",
    "bleu_2",
    "bleu_3",
    "bleu_4",
    "meteor",
    "rouge_l",
    "cider_d",
    "cider_d_train_idf",
)

# The slice of all images.
OVERALL = "all images"

# Slicing features that are known without being told words.
SLICES = (
    "caption_length",
    "orientation",
    "brightness",
    "source",
    "people",
    "animals",
    "outdoor",
    "reference_count",
)

# Those of them that are told by English words.
ENGLISH_SLICES = ("people", "animals", "outdoor")

# What scores are read against: people, and captioners that need no model.
HUMAN = "human"
MOST_FREQUENT = "most frequent training caption"
RANDOM = "random training caption"
NEAREST = "nearest neighbour"

# Metric to value; None where the metric is not a number.
MetricValues = Mapping[str, float | None]
# Slice (`people: yes`, or `OVERALL`) to metric to value.
SliceScores = dict[str, dict[str, float]]
