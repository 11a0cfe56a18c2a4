"""Verdicts on real scores: a worse captioner, an equal one and a better one than the baseline.

    python -m bench.verdicts --data /path/to/Flickr8k
    python -m bench.verdicts --data /path/to/Flickr8k --out /tmp/verdicts   # keeps the reports

The photographs and references are those of the data set's test split. The captioners are people
who err: each caption is one of the image's references, the others left to compare with, and a share
of the images gets the caption of another image. The baseline errs on 30 % of the images, the worse
one on 40 %, the better one on 20 %; the equal one errs as often as the baseline, on others. From
captions to the pages everything is done as in the pipeline.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "flickr8k-mini"
# Captioner to the share of images on which it errs, and the seed that says on which.
CAPTIONERS = {"worse": (0.4, 1), "equal": (0.3, 2), "better": (0.2, 3)}
BASELINE = (0.3, 1)
RULES = {
    "thresholds": {"bleu_4": 0.1},
    "change_thresholds": {"bleu_4": -0.02},
    "not_significantly_worse": ("cider_d",),
}


def erring(captions: Mapping[str, str], share: float, seed: int) -> dict[str, str]:
    """Captions of which a share is those of other images.

    Args:
      captions: Image id to caption.
      share: Share of the images that get another one's.
      seed: Seeds which ones.
    """
    chance = random.Random(seed)
    chosen = chance.sample(sorted(captions), round(share * len(captions)))
    others = dict(zip(chosen, [*chosen[1:], *chosen[:1]], strict=True))
    return {image: captions[others.get(image, image)] for image in captions}


def write_data(data: Path, folder: str) -> dict[str, str]:
    """Writes records whose references leave one person out; returns what that person said."""
    from bench.records import Record, write_split
    from tfx_captioner.ingestion.config import IngestConfig
    from tfx_captioner.ingestion.readers.registry import choose_reader

    found = choose_reader(str(data)).read(str(data), IngestConfig())
    said = {}
    for split in ("train", "test"):
        records = []
        for image in sorted(found.captions):
            texts = found.ordered_captions(image)
            if found.splits[image] != split or len(texts) < 2:
                continue
            if split == "test":
                said[image] = texts.pop(0)
            encoded = Path(data, found.paths[image]).read_bytes()
            records.append(Record(image, encoded, "flickr8k", texts))
        write_split(folder, split, records)
    return said


def main() -> None:
    """Prints the verdicts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="data set, as for ingestion")
    parser.add_argument("--out", type=Path, help="folder for the evaluations (default: none kept)")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from bench.nodes import Nodes
    from bench.records import examples_in
    from tfx_captioner.components.caption_evaluator.config import EvaluatorConfig
    from tfx_captioner.components.caption_evaluator.summary import read_summary

    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder, "out")
        said = write_data(arguments.data, folder)
        baseline = erring(said, *BASELINE)
        # METEOR is the same program for all, and takes longer than the rest together.
        nodes = Nodes(str(out), examples_in(folder), meteor=False)
        config = EvaluatorConfig(**RULES)
        for name, how in CAPTIONERS.items():
            uri, pages = nodes.evaluate(name, erring(said, *how), config, baseline)
            verdict = read_summary(uri).verdict
            console.print(f"{name}: {'blessed' if verdict.blessed else 'not blessed'}")
            if arguments.out:
                console.print(f"  {pages}", soft_wrap=True, markup=False)
            for reason in verdict.reasons:
                console.print(f"  {reason.text}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
