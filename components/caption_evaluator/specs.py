"""Which caption metrics an evaluation computes, as TFMA's configuration spells it."""

from __future__ import annotations

import json
from pathlib import Path

from tensorflow_model_analysis.proto import config_pb2

from tfx_captioner.components.caption_evaluator import tfma_metrics
from tfx_captioner.metrics import diversity, meteor

MODULE = tfma_metrics.__name__


def unavailable_metrics(
    *,
    document_frequencies: Path | str | None = None,
    training_captions: Path | str | None = None,
) -> dict[str, str]:
    """The metrics that cannot be computed here, each with the reason, in words for a person."""
    reasons = {}
    if reason := meteor.unavailable_reason():
        reasons["meteor"] = reason
    if not document_frequencies:
        reasons["cider_d_train_idf"] = "no file with the training split's document frequencies"
    if not training_captions:
        reasons["novel_captions"] = "no file with the training split's captions"
    return reasons


def metrics_spec(
    *,
    document_frequencies: Path | str | None = None,
    training_captions: Path | str | None = None,
    unknown_token: str = diversity.UNKNOWN_TOKEN,
    with_meteor: bool = True,
) -> list[config_pb2.MetricConfig]:
    """The caption metrics that can be computed, for `MetricsSpec(metrics=metrics_spec())`.

    Args:
        document_frequencies: File that `cider.DocumentFrequencies.save` wrote of the training
            split, for `cider_d_train_idf`.
        training_captions: File with one raw training caption per line, for `novel_captions`.
        unknown_token: What the model writes for a word outside its vocabulary.
        with_meteor: Whether to compute METEOR where it is available; it takes longer than all
            other metrics together.

    Returns:
        `example_count` and the metrics that `unavailable_metrics` does not name.
    """
    configs: list[tuple[str, str, dict[str, str | int]]] = [
        ("ExampleCount", "", {"name": "example_count"})
    ]
    configs += [
        ("CorpusBleu", MODULE, {"name": f"bleu_{order}", "max_order": order})
        for order in range(1, 5)
    ]
    configs += [("RougeL", MODULE, {"name": "rouge_l"}), ("CiderD", MODULE, {"name": "cider_d"})]
    if document_frequencies:
        options = {"name": "cider_d_train_idf", "document_frequencies": str(document_frequencies)}
        configs.append(("CiderD", MODULE, {**options}))
    if with_meteor and meteor.unavailable_reason() is None:
        configs.append(("Meteor", MODULE, {"name": "meteor"}))
    configs += [
        ("CaptionDiversity", MODULE, {"name": measure, "unknown_token": unknown_token})
        for measure in diversity.MEASURES
    ]
    if training_captions:
        options = {"name": "novel_captions", "training_captions": str(training_captions)}
        configs.append(("NovelCaptions", MODULE, {**options}))
    return [
        config_pb2.MetricConfig(class_name=name, module=module, config=json.dumps(options)[1:-1])
        for name, module, options in configs
    ]
