"""The caption metrics against pycocoevalcap 1.2, and through Beam at scale.

    python bench/metrics.py                          # 1,000 images x 5 references
    python bench/metrics.py --hypotheses 1000000     # and that many images through Beam

Captions are made up from a vocabulary with the frequencies of real ones. METEOR is left out: it is
the same program on both sides. The tokenizer's share counts for both.
"""

from __future__ import annotations

import argparse
import functools
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from components.caption_evaluator.metrics import ptb
from components.caption_evaluator.metrics.bleu import BleuStatistics, bleu_scores
from components.caption_evaluator.metrics.cider import CiderCorpus
from components.caption_evaluator.metrics.rouge import RougeStatistics

_VOCABULARY = 9_000
_REFERENCES = 5


@functools.lru_cache(maxsize=1)
def _vocabulary() -> tuple[list[str], np.ndarray]:
    """Words, and the upper bounds of their shares of a Zipf distribution."""
    generator = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    lengths = generator.integers(2, 9, _VOCABULARY)
    words = ["".join(generator.choice(letters, length)) for length in lengths]
    words[::50] = [f"{word}-{word}" for word in words[::50]]
    words[25::50] = [f"{word}," for word in words[25::50]]
    frequency = 1.0 / np.arange(3, _VOCABULARY + 3)
    return words, np.cumsum(frequency / frequency.sum())


def captions(count: int, seed: int) -> Iterator[str]:
    """Made-up captions of 6 to 16 words, with a comma or a hyphen here and there."""
    generator = np.random.default_rng(seed)
    words, bounds = _vocabulary()
    for _ in range(count):
        drawn = np.searchsorted(bounds, generator.random(generator.integers(6, 17)))
        yield " ".join(words[min(index, _VOCABULARY - 1)] for index in drawn) + " ."


def measured(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of a call."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def compare(images: int) -> Table:
    """Times ours and pycocoevalcap's metrics on the same captions, ours tokenised anew."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    raw_references = list(captions(images * _REFERENCES, seed=1))
    raw_hypotheses = list(captions(images, seed=2))
    groups = [raw_references[start::images] for start in range(images)]

    def reference_tokens() -> tuple[dict, dict]:
        tokenizer = PTBTokenizer()
        return (
            tokenizer.tokenize({i: [{"caption": c} for c in g] for i, g in enumerate(groups)}),
            tokenizer.tokenize({i: [{"caption": c}] for i, c in enumerate(raw_hypotheses)}),
        )

    def our_tokens() -> list[tuple[str, list[str]]]:
        return [
            (ptb.tokenize(hypothesis), [ptb.tokenize(text) for text in group])
            for hypothesis, group in zip(raw_hypotheses, groups, strict=True)
        ]

    ours_seconds, data = measured(our_tokens)
    theirs_seconds, tokens = measured(reference_tokens)
    rows = [("tokenisation", ours_seconds, theirs_seconds, None)]
    for name, statistics, value, scorer in (
        ("Bleu_4", BleuStatistics, lambda s: bleu_scores(s)[3], Bleu(4)),
        ("ROUGE_L", RougeStatistics, RougeStatistics.mean, Rouge()),
        ("CIDEr", CiderCorpus, CiderCorpus.mean, Cider()),
    ):
        ours_seconds, ours = measured(lambda s=statistics, v=value: v(_summed(s(), data)))
        options = {"verbose": 0} if name == "Bleu_4" else {}
        theirs_seconds, (theirs, _) = measured(
            lambda s=scorer, o=options: s.compute_score(*tokens, **o)
        )
        difference = abs(ours - (theirs[3] if name == "Bleu_4" else theirs))
        rows.append((name, ours_seconds, theirs_seconds, difference))
    rows.append(("together", sum(r[1] for r in rows), sum(r[2] for r in rows), None))

    table = Table("", "ours, s", "pycocoevalcap, s", "ratio", "difference of scores")
    for name, ours_seconds, theirs_seconds, difference in rows:
        shown = "" if difference is None else f"{difference:.1e}"
        ratio = f"{ours_seconds / theirs_seconds:.2f}"
        table.add_row(name, f"{ours_seconds:.3f}", f"{theirs_seconds:.3f}", ratio, shown)
    table.title = f"{images:,} images x {_REFERENCES} references"
    return table


def _summed(statistics: Any, data: Iterable[tuple[str, list[str]]]) -> Any:
    for hypothesis, references in data:
        statistics.add(hypothesis, references)
    return statistics


def through_beam(images: int, baseline: int) -> Table:
    """Runs the combiners of all families on Beam's DirectRunner; memory as a ratio of two sizes."""
    import apache_beam as beam
    from tensorflow_model_analysis.metrics import metric_util

    from components.caption_evaluator.metrics import tfma_metrics

    metrics = {
        "bleu_4": tfma_metrics.CorpusBleu(),
        "rouge_l": tfma_metrics.RougeL(),
        "cider_d": tfma_metrics.CiderD(),
        "distinct_2": tfma_metrics.CaptionDiversity("distinct_2"),
    }
    shard = 2_000

    def inputs(first: int) -> Iterator[object]:
        size = min(shard, count - first)
        references = captions(size * _REFERENCES, seed=first)
        for hypothesis in captions(size, seed=first + 1):
            extracts = {
                "labels": np.array([next(references) for _ in range(_REFERENCES)], object),
                "predictions": np.array([hypothesis], object),
                "example_weights": np.array([1.0]),
            }
            yield metric_util.to_standard_metric_inputs(extracts)

    table = Table("images", "seconds", "peak memory, MiB", "memory, ratio")
    first_peak = None
    for count in (baseline, images):
        start = time.perf_counter()
        with beam.Pipeline() as pipeline:
            elements = (
                pipeline
                | beam.Create(range(0, count, shard))
                | beam.Reshuffle()
                | beam.FlatMap(inputs)
            )
            for name, metric in metrics.items():
                statistics, derived = metric.computations()
                _ = (
                    elements
                    | f"sum {name}" >> beam.CombineGlobally(statistics.combiner)
                    | f"value {name}" >> beam.Map(derived.result)
                    | f"show {name}" >> beam.Map(lambda result: print(*result.values()))
                )
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        first_peak = first_peak or peak
        table.add_row(f"{count:,}", f"{seconds:.0f}", f"{peak:.0f}", f"{peak / first_peak:.2f}")
    return table


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000, help="for the comparison")
    parser.add_argument("--hypotheses", type=int, default=20_000, help="images through Beam")
    arguments = parser.parse_args()
    console = Console()
    console.print(compare(arguments.images))
    console.print(through_beam(arguments.hypotheses, baseline=arguments.hypotheses // 10))


if __name__ == "__main__":
    main()
