"""The time of the caption metrics against pycocoevalcap 1.2.

    python -m bench.metrics                 # 1,000 images x 5 references
    python -m bench.metrics --images 5000

METEOR is left out: it is the same program on both sides. The tokenizer's share counts for both.
`bench.agreement` compares the scores, `bench.evaluation` measures ours at scale.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.synthetic import REFERENCES, captions
from tfx_captioner.metrics import ptb
from tfx_captioner.metrics.bleu import BleuStatistics, bleu_scores
from tfx_captioner.metrics.cider import CiderCorpus
from tfx_captioner.metrics.rouge import RougeStatistics


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

    raw_references = list(captions(images * REFERENCES, seed=1))
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
    table.title = f"{images:,} images x {REFERENCES} references"
    return table


def _summed(statistics: Any, data: Iterable[tuple[str, list[str]]]) -> Any:
    for hypothesis, references in data:
        statistics.add(hypothesis, references)
    return statistics


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000, help="images to score")
    arguments = parser.parse_args()
    Console().print(compare(arguments.images))


if __name__ == "__main__":
    main()
