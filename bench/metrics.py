"""The time of the caption metrics against pycocoevalcap 1.2.

    python -m bench.metrics                 # 1,000 images x 5 references
    python -m bench.metrics --images 5000

METEOR is left out: it is the same program on both sides. The tokenizer's share counts for both.
`bench.agreement` compares the scores, `bench.evaluation` measures ours at scale.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.synthetic import REFERENCES, captions
from tfx_captioner.metrics import ptb
from tfx_captioner.metrics.references import TokenizedReferences
from tfx_captioner.metrics.statistics import FIELD_NAMES, image_statistics


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

    def our_tokens() -> TokenizedReferences:
        return TokenizedReferences.of({str(i): group for i, group in enumerate(groups)})

    ours, references = measured(our_tokens)
    hypotheses = {str(i): text for i, text in enumerate(raw_hypotheses)}
    tokenised, tokens_of = measured(lambda: {text: ptb.tokenize(text) for text in raw_hypotheses})
    theirs, tokens = measured(reference_tokens)
    table = Table("", "ours, s", "pycocoevalcap, s", "ratio", "difference of scores")

    def add(name: str, ours: float, theirs: float, difference: str = "") -> None:
        table.add_row(name, f"{ours:.3f}", f"{theirs:.3f}", f"{ours / theirs:.2f}", difference)

    add("tokenisation", ours + tokenised, theirs)
    scored, statistics = measured(
        lambda: image_statistics(
            references, hypotheses, with_meteor=False, tokenize=tokens_of.__getitem__
        )
    )
    scores = statistics.corpus()
    their_scores, their_seconds = {}, 0.0
    for names, scorer, options in (
        (("bleu_1", "bleu_2", "bleu_3", "bleu_4"), Bleu(4), {"verbose": 0}),
        (("rouge_l",), Rouge(), {}),
        (("cider_d",), Cider(), {}),
    ):
        seconds, (values, _) = measured(lambda s=scorer, o=options: s.compute_score(*tokens, **o))
        their_seconds += seconds
        their_scores |= dict(zip(names, np.atleast_1d(values).tolist(), strict=True))
    worst = max(abs(scores[name] - value) for name, value in their_scores.items())
    names = ", ".join(FIELD_NAMES[name] for name in their_scores)
    add(names, scored, their_seconds, f"{worst:.1e}")
    add("together", ours + tokenised + scored, theirs + their_seconds)
    table.title = f"{images:,} images x {REFERENCES} references"
    return table


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000, help="images to score")
    arguments = parser.parse_args()
    Console().print(compare(arguments.images))


if __name__ == "__main__":
    main()
