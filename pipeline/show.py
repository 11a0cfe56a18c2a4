"""What a person is shown at the end of a run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfx_captioner.ingestion.scenes import COLOURS, SHAPES
from tfx_captioner.pipeline.configs import PipelineConfig
from tfx_captioner.pipeline.local_runner import RunFolders, shown
from tfx_captioner.pipeline.progress import NodeRun
from tfx_captioner.pipeline.runs import NodeOutput, latest_outputs, open_store

SHOWN_IMAGES = 6
_SCORES = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider_d")


def show_run(config: PipelineConfig, nodes: Sequence[NodeRun], log: Path, console: Console) -> int:
    """Prints times, scores, what was pushed, the reports, and captions of unseen images.

    Args:
      config: Settings of the run.
      nodes: How each node went.
      log: Log file of the run.
      console: Where to.

    Returns:
      Exit status: 0 when a model is being served, 1 when none was good enough to push.
    """
    folders = RunFolders(config.root)
    _write_summary(nodes, log)
    outputs = latest_outputs(open_store(folders.metadata), config.name)
    console.print(_node_table(nodes), soft_wrap=False)
    console.print(_score_table(config, outputs), soft_wrap=False)
    if config.data.source == "sample":
        _print_right_objects(console, config, folders, outputs)
    for name in config.models:
        report = Path(outputs["EvaluationReport"]["pages"].uri) / name / "report.html"
        console.print(f"Report of {name}: {shown(report)}", soft_wrap=True)
    pushed = outputs["Pusher"]["pushed_model"]
    if not pushed.properties.get("pushed"):
        console.print("[red]No model was good enough to be pushed;[/red] the reports say why.")
        return 1
    model = Path(str(pushed.properties["pushed_destination"]))
    console.print(f"Pushed: {_champion(outputs)} to {shown(model)}", soft_wrap=True)
    _show_captions(console, folders, model)
    return 0


def _write_summary(nodes: Sequence[NodeRun], log: Path) -> None:
    """Keeps the table of nodes beside the log, for machines."""
    rows = [vars(node) for node in nodes]
    log.with_suffix(".json").write_text(json.dumps(rows, indent=1), encoding="utf-8")


def _node_table(nodes: Sequence[NodeRun]) -> Table:
    table = Table("node", title="Nodes", title_justify="left")
    for heading in ("state", "seconds", "peak memory"):
        table.add_column(heading, justify="right")
    for node in nodes:
        table.add_row(
            node.node,
            "cached" if node.cached else "ran",
            f"{node.seconds:.1f}",
            f"{node.peak_bytes / 2**30:.2f} GiB",
        )
    table.add_section()
    table.add_row("all", "", f"{sum(node.seconds for node in nodes):.1f}", "")
    return table


def _score_table(config: PipelineConfig, outputs: Mapping[str, Mapping[str, NodeOutput]]) -> Table:
    from tfx_captioner.components.caption_evaluator.summary import read_summary
    from tfx_captioner.components.scores import OVERALL

    summaries = {
        name: read_summary(outputs[f"CaptionEvaluator.{name}"]["evaluation"].uri)
        for name in config.models
    }
    metrics = [
        metric
        for metric in _SCORES
        if any(metric in summary.scores[OVERALL] for summary in summaries.values())
    ]
    first = next(iter(summaries.values()))
    table = Table(
        "metric",
        title=(
            f"Scores x 100 on {first.image_count} images of the {config.evaluation.split} split; "
            f"language {first.language}, counted in {first.segmentation}"
        ),
        caption=f"Warning: {first.warning}" if first.warning else None,
        caption_justify="left",
        title_justify="left",
    )
    for name in summaries:
        table.add_column(name, justify="right")
    for metric in metrics:
        values = [summary.scores[OVERALL].get(metric) for summary in summaries.values()]
        table.add_row(metric, *("-" if value is None else f"{100 * value:.1f}" for value in values))
    table.add_section()
    verdicts = [summary.verdict.blessed for summary in summaries.values()]
    table.add_row("blessed", *("yes" if blessed else "no" for blessed in verdicts))
    return table


def _print_right_objects(
    console: Console,
    config: PipelineConfig,
    folders: RunFolders,
    outputs: Mapping[str, Mapping[str, NodeOutput]],
) -> None:
    """How often colour and shape of a scene's main object are right, for the sample knows them."""
    from tfx_captioner.components.caption_files import read_captions
    from tfx_captioner.ingestion.sample import load_scenes

    scenes = load_scenes(folders.sample)
    for name in config.models:
        captions = read_captions(outputs[f"CaptionEvaluator.{name}"]["evaluation"].uri)
        right = [
            names_main_object(caption, scenes[image].colour, scenes[image].shape)
            for image, caption in captions.items()
        ]
        console.print(
            f"{name} names colour and shape of the main object rightly in "
            f"{sum(right)} of {len(right)} scenes ({sum(right) / len(right):.1%})"
        )


def names_main_object(caption: str, colour: str, shape: str) -> bool:
    """Whether the first object of a caption, the main one, has this colour and shape."""
    objects = [
        (first, second)
        for first, second in itertools.pairwise(caption.lower().split())
        if first in COLOURS and second in SHAPES
    ]
    return objects[:1] == [(colour, shape)]


def _champion(outputs: Mapping[str, Mapping[str, NodeOutput]]) -> str:
    selection = Path(outputs["ModelSelector"]["blessing"].uri) / "selection.json"
    return str(json.loads(selection.read_text(encoding="utf-8"))["champion"])


def _show_captions(console: Console, folders: RunFolders, model: Path) -> None:
    """Asks the pushed SavedModel for captions of test images it has never seen."""
    from tfx_captioner.serving.saved_model import RefusedImage, SavedCaptioner

    images = _test_images(folders.records, SHOWN_IMAGES)
    captions = SavedCaptioner(str(model)).captions([encoded for _, encoded, _ in images])
    table = Table(
        "image", "caption", "score", "a person said", title="Unseen images", title_justify="left"
    )
    for (image_id, _, reference), answer in zip(images, captions, strict=True):
        caption, score = ("", "-") if isinstance(answer, RefusedImage) else answer
        shown_score = score if isinstance(score, str) else f"{score:.2f}"
        # What comes from data is text and never markup.
        table.add_row(*map(Text, (image_id, caption, shown_score, reference)))
    console.print(table, soft_wrap=False)


def _test_images(records: Path, count: int) -> list[tuple[str, bytes, str]]:
    """Id, encoded image and first reference of the first test records."""
    import tensorflow as tf

    files = sorted(str(path) for path in (records / "test").glob("*"))
    images = []
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP").take(count):
        feature = tf.train.Example.FromString(record.numpy()).features.feature
        image_id, encoded, reference = (
            feature[key].bytes_list.value[0]
            for key in ("image/id", "image/encoded", "caption/text")
        )
        images.append((image_id.decode(), encoded, reference.decode()))
    return images
