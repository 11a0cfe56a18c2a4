"""`captioner models`: what a server serves."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from tfx_captioner.pipeline.arguments import add_server, add_serving_dir
from tfx_captioner.pipeline.errors import UserError

HELP = "List served models, versions, states and labels."
EXAMPLES = """\
examples:
  captioner models
  captioner models --server grpc://10.0.0.5:8500 --serving-dir runs/flickr8k/serving
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the server and what it serves."""
    add_server(parser, "grpc://HOST:PORT or http://HOST:PORT")
    add_serving_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    """Prints a table."""
    from rich.console import Console
    from rich.table import Table

    from tfx_captioner.serving import config
    from tfx_captioner.serving.errors import ServingError
    from tfx_captioner.serving.pushed import newest_serving_dir

    try:
        serving_dir = arguments.serving_dir or newest_serving_dir()
        path = serving_dir / config.MODELS_FILE
        models = config.read_models(path) if path.is_file() else config.generate(serving_dir)
    except (ValueError, OSError) as error:
        raise UserError(str(error)) from error
    table = Table("model", "version", "state", "labels", "", box=None, pad_edge=False)
    try:
        for row in _rows(arguments.server, models):
            table.add_row(*row)
    except (ServingError, ValueError) as error:
        raise UserError(f"{arguments.server} does not answer: {error}") from error
    Console().print(table)
    return 0


def _rows(url: str, models: Any) -> Iterator[tuple[str, ...]]:
    from tfx_captioner.serving.client import CaptionClient
    from tfx_captioner.serving.errors import ServingError

    for model in models.model_config_list.config:
        with CaptionClient(url, model=model.name) as client:
            try:
                states = client.status()
            except ServingError as error:
                if error.code != "NOT_FOUND":
                    raise
                yield model.name, "-", "not served", "", ""
                continue
        labels = _labels(url, model, {s.version for s in states if s.state == "AVAILABLE"})
        for status in states:
            named = ", ".join(labels.pop(status.version, []))
            yield model.name, str(status.version), status.state, named, status.error
        for version, names in labels.items():
            yield model.name, str(version or "?"), "not loaded", ", ".join(names), ""


def _labels(url: str, model: Any, available: set[int]) -> dict[int | None, list[str]]:
    """The labels of a model's configuration, by the version that each names on the server.

    None is a version that is not loaded and may be any: the server tells those that are.
    """
    from tfx_captioner.serving.client import CaptionClient
    from tfx_captioner.serving.errors import ServingError

    labels: dict[int | None, list[str]] = {}
    for label, configured in sorted(model.version_labels.items()):
        version: int | None
        with CaptionClient(url, model=model.name, label=label) as client:
            try:
                version = client.version()
            except ServingError as error:
                if error.code == "INVALID_ARGUMENT":
                    continue  # A reload has taken the label away.
                if error.code != "NOT_FOUND":
                    raise
                version = None if configured in available else configured
        labels.setdefault(version, []).append(label)
    return labels
