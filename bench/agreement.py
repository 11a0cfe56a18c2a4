"""Every metric by ours and by pycocoevalcap 1.2, tokenizer and METEOR's program included.

    python -m bench.agreement --evaluation runs/flickr8k/artifacts/CaptionEvaluator.*/evaluation/*
    python -m bench.agreement --data /path/to/Flickr8k

Systems that need no model caption the test split of a data set: a random training caption, a person
(one reference of each image, the others left to compare with), and the same person against as many
of the others as chance leaves. `--evaluation` adds what models said, from what the CaptionEvaluator
wrote.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tfx_captioner.metrics import caption_files, meteor, statistics

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "flickr8k-mini"

References = Mapping[str, Sequence[str]]
Hypotheses = Mapping[str, str]


def systems_of(data: Path) -> Iterator[tuple[str, References, Hypotheses]]:
    """Name, references and captions of captioners that need no model."""
    from tfx_captioner.ingestion.config import IngestConfig
    from tfx_captioner.ingestion.readers.registry import choose_reader

    found = choose_reader(str(data)).read(str(data), IngestConfig())
    captions = {image: found.ordered_captions(image) for image in found.captions}
    train, test = (
        {image: captions[image] for image, split in found.splits.items() if split == wanted}
        for wanted in ("train", "test")
    )
    training = [text for texts in train.values() for text in texts]
    chance = random.Random(0)
    yield "random training caption", test, {image: chance.choice(training) for image in test}
    people = {image: texts for image, texts in test.items() if len(texts) > 1}
    said = {image: texts[0] for image, texts in people.items()}
    others = {image: texts[1:] for image, texts in people.items()}
    yield "a person", others, said
    some = {
        image: chance.sample(texts, chance.randint(1, len(texts)))
        for image, texts in others.items()
    }
    yield "a person, some references", some, said


def by_pycocoevalcap(references: References, hypotheses: Hypotheses) -> dict[str, float]:
    """Scores of the reference implementation by its own names."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenizer = PTBTokenizer()
    gts = tokenizer.tokenize({i: [{"caption": t} for t in ts] for i, ts in references.items()})
    res = tokenizer.tokenize({i: [{"caption": t}] for i, t in hypotheses.items()})
    bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
    scores = {f"Bleu_{order}": value for order, value in enumerate(bleu, 1)}
    if meteor.unavailable_reason() is None:
        scores["METEOR"] = Meteor().compute_score(gts, res)[0]
    scores["ROUGE_L"] = float(Rouge().compute_score(gts, res)[0])
    scores["CIDEr"] = float(Cider().compute_score(gts, res)[0])
    return scores


def agreement(name: str, references: References, hypotheses: Hypotheses) -> Table:
    """The table of one system."""
    theirs = by_pycocoevalcap(references, hypotheses)
    ours = statistics.score(references, hypotheses, with_meteor="METEOR" in theirs)
    counts = sorted({len(texts) for texts in references.values()})
    table = Table(
        name,
        "ours",
        "pycocoevalcap",
        "difference",
        title=f"{len(references)} images, {counts[0]} to {counts[-1]} references each",
    )
    for metric, field in statistics.FIELD_NAMES.items():
        if field in theirs:
            difference = abs(ours[metric] - theirs[field])
            values = (f"{ours[metric]:.15f}", f"{theirs[field]:.15f}", f"{difference:.1e}")
            table.add_row(field, *values)
    return table


def main() -> None:
    """Prints a table per system."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="data set, as for ingestion")
    parser.add_argument("--evaluation", type=Path, nargs="*", default=[], help="folders")
    arguments = parser.parse_args()
    console = Console()
    if arguments.data.is_dir():
        for system in systems_of(arguments.data):
            console.print(agreement(*system))
    else:
        console.print(f"Left out: {arguments.data} is not on this machine (--data).")
    for folder in arguments.evaluation:
        references = caption_files.read_references(folder / "references.json")
        hypotheses = caption_files.read_hypotheses(folder / "captions.json")
        console.print(agreement(folder.parent.parent.name, references, hypotheses))


if __name__ == "__main__":
    main()
