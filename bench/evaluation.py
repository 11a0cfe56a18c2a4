"""The evaluation at scale: time and memory of its parts, on made-up captions.

    python -m bench.evaluation                                    # 400 images, 20,000 through Beam
    python -m bench.evaluation --images 400 100000 --hypotheses
    python -m bench.evaluation --images --hypotheses 10000 100000 1000000 --families cider_d

`--images` are whole evaluations as the CaptionEvaluator does them, from records to the report, but
for the captioning itself, which is the model's time, and METEOR, which is its program's time: some
10 ms per image and line. `--hypotheses` go through the combiners of the metrics on Beam.

Every measurement has a process of its own, with Beam's runner and its one worker inside, so that
its peak is the most that a worker can need.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from bench.synthetic import images

FAMILIES = ("bleu_4", "rouge_l", "cider_d", "distinct_2")
_SHARD = 2_000
_TRAINING_IMAGES = 6_000
# Different captions that go through Beam; more of them would take their time in the tokenizer.
_POOL = 60_000
_MIB = 1 << 20

# Part of the work to seconds, seconds of CPU and peak resident memory in MiB.
Measured = dict[str, tuple[float, float, float]]


class Meter:
    """Seconds, those of CPU, and peak resident memory of the parts of a process' work.

    On a machine that others use too, only the CPU's say what a part costs.
    """

    def __init__(self) -> None:
        self.parts: Measured = {}
        self._process = psutil.Process()

    @contextlib.contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        peak, done = [0], threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                peak[0] = max(peak[0], self._process.memory_info().rss)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        start, cpu = time.perf_counter(), time.process_time()
        yield
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        done.set()
        thread.join()
        memory = max(peak[0], self._process.memory_info().rss) / _MIB
        self.parts[part] = (seconds, cpu, memory)


def in_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of this module in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        return pool.submit(function, *arguments).result()


def through_beam(family: str, count: int) -> Measured:
    """Imports, and one family's combiner over many images: part to seconds and MiB."""
    meter = Meter()
    with meter("imports"):
        import apache_beam as beam
        import numpy as np
        from tensorflow_model_analysis.metrics import metric_util

        from tfx_captioner.components.caption_evaluator import tfma_metrics

    metric = {
        "bleu_4": tfma_metrics.CorpusBleu,
        "rouge_l": tfma_metrics.RougeL,
        "cider_d": tfma_metrics.CiderD,
        "distinct_2": lambda: tfma_metrics.CaptionDiversity("distinct_2"),
    }[family]()
    statistics, derived = metric.computations()

    def inputs(first: int) -> Iterator[object]:
        for hypothesis, references in images(min(_SHARD, count - first), first, _POOL):
            yield metric_util.to_standard_metric_inputs(
                {
                    "labels": np.array(references, object),
                    "predictions": np.array([hypothesis], object),
                    "example_weights": np.array([1.0]),
                }
            )

    with meter("combining"), beam.Pipeline(runner="FnApiRunner") as pipeline:
        _ = (
            pipeline
            | beam.Create(range(0, count, _SHARD))
            | beam.Reshuffle()
            | beam.FlatMap(inputs)
            | beam.CombineGlobally(statistics.combiner)
            | beam.Map(derived.result)
        )
    return meter.parts


def evaluation(count: int) -> Measured:
    """The parts of an evaluation but for the captioning: part to seconds and MiB."""
    meter = Meter()
    with meter("imports"):
        import apache_beam as beam

        from bench.records import examples_in
        from tfx_captioner.components.caption_evaluator import executor, judgement
        from tfx_captioner.components.caption_evaluator.baseline import NO_BASELINE
        from tfx_captioner.components.caption_evaluator.captioning import Captions
        from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
        from tfx_captioner.components.caption_evaluator.images import read_split, split_files
        from tfx_captioner.components.caption_evaluator.training import read_training_text
    config = EvaluatorConfig(thresholds={"bleu_4": 0.1}, meteor=False)
    with tempfile.TemporaryDirectory() as folder:
        examples = examples_in(folder)
        hypotheses = _write_records(folder, count)
        uri = f"{folder}/evaluation"
        Path(uri).mkdir()
        with meter("reading"):
            files = split_files([examples], "test")
            split = read_split(files)
            training = read_training_text([examples], uri)
        judged = judgement.Judged(config, split, training, Captions(hypotheses), NO_BASELINE, None)
        with meter("metrics (TFMA)"), beam.Pipeline(runner="FnApiRunner") as pipeline:
            judgement.score(pipeline, uri, judged)
        measured = judgement.measure(judged, [], meter)
        with meter("summary and report"):
            summary = judgement.summarize("model", uri, judged, measured, {})
            executor.write_outputs(uri, files, judged, measured, summary, None, None)
        size = Path(uri, "report.html").stat().st_size
    print(f"{count:,} images: report.html has {size / 1024:.0f} KiB")
    return meter.parts


def _write_records(folder: str, count: int) -> dict[str, str]:
    """Raw examples with small pictures and made-up captions; returns image id to hypothesis."""
    import tensorflow as tf

    from bench.records import Record, write_split

    pictures = [
        tf.io.encode_jpeg(tf.fill([48, 32 + 16 * (shade % 3), 3], tf.cast(shade, tf.uint8))).numpy()
        for shade in range(0, 256, 8)
    ]
    hypotheses = {}

    def records(split: str, size: int, seed: int) -> Iterator[Record]:
        for number, (hypothesis, references) in enumerate(images(size, seed)):
            image_id = f"{split}_{number}.jpg"
            if split == "test":
                hypotheses[image_id] = hypothesis
            yield Record(image_id, pictures[number % len(pictures)], "bench", references)

    for split, size, seed in (("train", _TRAINING_IMAGES, 1), ("test", count, 2)):
        write_split(folder, split, records(split, size, seed))
    return hypotheses


def _table(title: str, measured: Sequence[tuple[str, Measured]]) -> Table:
    table = Table(title, "part", title_justify="left")
    for heading in ("seconds", "of CPU", "peak memory, MiB"):
        table.add_column(heading, justify="right")
    for name, parts in measured:
        for part, (seconds, cpu, memory) in parts.items():
            table.add_row(name, part, f"{seconds:.1f}", f"{cpu:.1f}", f"{memory:.0f}")
            name = ""
        table.add_section()
    return table


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="*", default=[400])
    parser.add_argument("--hypotheses", type=int, nargs="*", default=[20_000])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    console = Console()
    for count in arguments.images:
        console.print(_table("images", [(f"{count:,}", in_process(evaluation, count))]))
    for family in arguments.families:
        for count in arguments.hypotheses:
            measured = in_process(through_beam, family, count)
            console.print(_table("hypotheses", [(f"{family} {count:,}", measured)]))


if __name__ == "__main__":
    main()
