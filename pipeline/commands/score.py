"""`captioner score`: the field's scores for any system's captions, outside the pipeline."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfx_captioner.pipeline.errors import UserError

HELP = "Score captions against references: BLEU, METEOR, ROUGE-L, CIDEr, SPICE."
EXAMPLES = """\
examples:
  captioner score --references Flickr8k.token.txt --hypotheses mine.txt --subset
  captioner score --references dataset_flickr8k.json --split test --hypotheses captions.jsonl
  captioner score --references captions_val2014.json --hypotheses results.json --json scores.json
  captioner score --references coco-cn.json --hypotheses results.json --language zh

References are COCO annotations, Karpathy's JSON, {id: [caption, ...]} as JSON, a CSV file with the
header image,caption, or Flickr's token form (file#number<TAB>caption). Hypotheses are COCO results,
{id: caption} as JSON, the JSON lines of `captioner caption`, such a CSV file, or token lines.
The numbers equal those of pycocoevalcap 1.2. In Chinese, Japanese, Thai, Lao, Khmer and Burmese, by
--language, a character is a word; METEOR and SPICE have English only.

--spice fetches 388 MB once per machine, from Maven Central or the mirror that CAPTIONER_MAVEN_URL
names, into ~/.cache/tfx-captioner/spice or $CAPTIONER_CACHE/spice: Stanford CoreNLP 3.6.0, a
separate program under the GNU GPL that is not part of tfx-captioner, and what it needs on a Java of
today. It takes up to 4 GB of memory, ten seconds, and about ten more per hundred images. It needs
`java` on the PATH, 11 or later.
"""
_ONE_IMAGE = (
    "CIDEr of one image is 0 by definition: its document frequencies are those of the scored "
    "references, and no word of a single image is rarer than another."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "--references", type=Path, required=True, metavar="FILE", help="all captions of each image"
    )
    parser.add_argument(
        "--hypotheses", type=Path, required=True, metavar="FILE", help="one caption per image"
    )
    parser.add_argument(
        "--split", metavar="NAME", help="score this split of Karpathy's JSON, such as test"
    )
    parser.add_argument(
        "--subset", action="store_true", help="score only the images that have a hypothesis"
    )
    parser.add_argument(
        "--language",
        default="en",
        metavar="CODE",
        help="ISO 639-1 code of the captions' language, which decides what a word is; default en",
    )
    parser.add_argument(
        "--json", type=Path, metavar="OUT", help="also write the scores here, in full precision"
    )
    parser.add_argument(
        "--no-meteor", action="store_true", help="leave METEOR out: it needs Java and takes time"
    )
    parser.add_argument(
        "--spice",
        action="store_true",
        help="compute SPICE too: it takes longest and needs Java and 388 MB, see below",
    )


def run(arguments: argparse.Namespace) -> int:
    """Prints the scores and, if asked to, writes them."""
    from tfx_captioner.metrics import languages, meteor
    from tfx_captioner.metrics.references import TokenizedReferences
    from tfx_captioner.metrics.statistics import FIELD_NAMES, image_statistics

    language = arguments.language
    try:
        segmentation = languages.segmentation(language)
    except ValueError as error:
        raise UserError(f"--language: {error}") from error
    references, hypotheses = _read(arguments)
    reason: str | None = "left out by --no-meteor"
    if not arguments.no_meteor:
        reason = meteor.unavailable_reason(language)
    no_spice = _prepare_spice(language) if arguments.spice else None
    statistics = image_statistics(
        TokenizedReferences.of(references, language=language),
        hypotheses,
        with_meteor=reason is None,
        with_spice=arguments.spice and no_spice is None,
    )
    captions = itertools.chain(hypotheses.values(), *references.values())
    warning = languages.warning(language, captions)
    reasons = {
        "METEOR": reason or statistics.meteor_failure,
        "SPICE": no_spice or statistics.spice_failure,
    }
    corpus = statistics.corpus()
    scores = {field: corpus[name] for name, field in FIELD_NAMES.items() if name in corpus}
    report = {
        **scores,
        "language": language,
        "segmentation": segmentation,
        "images": len(references),
        "references": sum(map(len, references.values())),
        "unavailable": {name: reason for name, reason in reasons.items() if reason},
        "warnings": [f"{warning}, by --language."] if warning else [],
        "notes": [_ONE_IMAGE] if len(references) == 1 else [],
    }
    _print(scores, report)
    if arguments.json:
        try:
            arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"{arguments.json} cannot be written: {error.strerror}.") from error
    return 0


def _prepare_spice(language: str) -> str | None:
    """Fetches what SPICE needs; why it is not available, or None if it is."""
    from rich.console import Console

    from tfx_captioner import spice_jars
    from tfx_captioner.metrics import spice

    try:
        spice.check_language(language)
        spice.check_program()
        console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        spice_jars.fetch(console.print)
    except (spice.SpiceUnavailableError, spice_jars.SpiceJarsError) as error:
        return str(error)
    return spice.unavailable_reason(language)


def _read(arguments: argparse.Namespace) -> tuple[dict[str, list[str]], dict[str, str]]:
    """References and hypotheses of the same images."""
    from tfx_captioner.metrics import caption_files
    from tfx_captioner.metrics.references import check_images

    try:
        references = caption_files.read_references(arguments.references, arguments.split)
        hypotheses = caption_files.read_hypotheses(arguments.hypotheses)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(str(error)) from error
    if arguments.subset:
        references = {i: texts for i, texts in references.items() if i in hypotheses}
    try:
        check_images(references, hypotheses)
    except ValueError as error:
        hint = ""
        if references.keys() > hypotheses.keys():
            hint = " --subset scores only the images that have one, --split only those of a split."
        raise UserError(f"{arguments.hypotheses}: {error}{hint}") from error
    return references, hypotheses


def _print(scores: Mapping[str, float], report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("metric")
    table.add_column("score x 100", justify="right")
    for name, value in scores.items():
        table.add_row(name, f"{100 * value:.2f}")
    for name in report["unavailable"]:
        table.add_row(name, "not available")
    # Reasons name images: no id is markup.
    console = Console(highlight=False, markup=False, emoji=False)
    for warning in report["warnings"]:
        console.print(f"WARNING: {warning}", style="bold red")
    console.print(
        f"{report['images']:,} images, {report['references']:,} references; "
        f"language {report['language']}, counted in {report['segmentation']}"
    )
    console.print(table)
    for name, reason in report["unavailable"].items():
        console.print(f"{name} is not available: {reason}.")
    for note in report["notes"]:
        console.print(f"Note: {note}")
