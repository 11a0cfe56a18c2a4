"""Which caption metrics an evaluation computes, as TFMA's configuration spells it."""

from __future__ import annotations

import json

from tensorflow_model_analysis.proto import config_pb2

MODULE = "components.caption_evaluator.metrics.tfma_metrics"


def metrics_spec() -> list[config_pb2.MetricConfig]:
    """The caption metrics, for `MetricsSpec(metrics=metrics_spec())`."""
    configs = [("ExampleCount", "", {"name": "example_count"})]
    configs += [
        ("CorpusBleu", MODULE, {"name": f"bleu_{order}", "max_order": order})
        for order in range(1, 5)
    ]
    return [
        config_pb2.MetricConfig(class_name=name, module=module, config=json.dumps(options)[1:-1])
        for name, module, options in configs
    ]
