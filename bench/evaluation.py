"""The evaluation at scale: time and memory of its nodes, on made-up captions.

    python -m bench.evaluation                          # 400 images
    python -m bench.evaluation --images 400 100000
    python -m bench.evaluation --images 400 --meteor

Whole evaluations of one model, from records to pages, but for the captioning, which is the model's
time; METEOR, which is its program's time, only where it is asked for. Every size has a process of
its own, with Beam's runner and its one worker inside, so that its peak is the most that a worker
can need.
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

_TRAINING_IMAGES = 6_000
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


def evaluation(count: int, meteor: bool) -> Measured:
    """The nodes of an evaluation but for the captioning: node to seconds and MiB."""
    meter = Meter()
    with meter("imports"):
        from bench.nodes import Nodes
        from bench.records import examples_in
        from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
    with tempfile.TemporaryDirectory() as folder:
        examples = examples_in(folder)
        captions = _write_records(folder, count)
        nodes = Nodes(f"{folder}/nodes", examples, meteor=meteor, clock=meter)
        config = EvaluatorConfig(thresholds={"bleu_4": 0.1})
        _, pages = nodes.evaluate("model", captions, config)
        size = Path(pages, "model", "report.html").stat().st_size
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
        seconds, cpu, _ = map(sum, zip(*parts.values(), strict=True))
        table.add_row("", "all", f"{seconds:.1f}", f"{cpu:.1f}", "")
        table.add_section()
    return table


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="*", default=[400])
    parser.add_argument("--meteor", action="store_true", help="with METEOR, which needs Java")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    console = Console()
    for count in arguments.images:
        measured = in_process(evaluation, count, arguments.meteor)
        console.print(_table("images", [(f"{count:,}", measured)]))


if __name__ == "__main__":
    main()
