"""Captions are counted once, and not again where the baseline's own run counted them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.components.walls import CAPTIONERS, COLOURS, Bench, png, references
from tfx_captioner.components.caption_files import Generation, write_generation
from tfx_captioner.components.statistics_files import STATISTICS_FILE, read_statistics
from tfx_captioner.metrics.statistics import score


def test_statistics_add_up_to_the_scores_of_the_captions(bench: Bench) -> None:
    captions = bench.captions(bench.model("fair"))
    made = bench.statistics(references=bench.references(), **captions)
    statistics = read_statistics(made["statistics"].uri)
    texts = {f"{colour}.png": CAPTIONERS["fair"][png(colour)] for colour in COLOURS}
    texts |= {"refused.png": "", "silent.png": ""}
    known = {f"{colour}.png": references(colour) for colour in COLOURS}
    known |= dict.fromkeys(("refused.png", "silent.png"), references("red"))
    expected = score(known, texts, with_meteor=False)
    assert {name: statistics.corpus()[name] for name in expected} == expected


def test_without_a_baseline_there_is_no_file(bench: Bench) -> None:
    captions = bench.captions(bench.model("good"))
    made = bench.statistics(references=bench.references(), **captions)
    assert not (Path(made["baseline_statistics"].uri) / STATISTICS_FILE).exists()


def test_statistics_of_the_baseline_are_taken_from_its_own_run(bench: Bench) -> None:
    known = bench.references()
    fair = bench.captions(bench.model("fair"))
    earlier = bench.statistics(references=known, **fair)["statistics"]
    # Recognised when it comes out again.
    marked = Path(earlier.uri) / STATISTICS_FILE
    content = marked.read_bytes() + b"marked"
    marked.write_bytes(content)
    good = bench.captions(
        bench.model("good"), baseline_model=bench.model("fair"), earlier_captions=fair["captions"]
    )
    made = bench.statistics(references=known, earlier_statistics=earlier, **good)
    assert (Path(made["baseline_statistics"].uri) / STATISTICS_FILE).read_bytes() == content
    other_slices = bench.references(slices='["people"]')
    made = bench.statistics(references=other_slices, earlier_statistics=earlier, **good)
    counted = read_statistics(made["baseline_statistics"].uri)
    assert np.isfinite(counted.cider_d).all()
    assert set(counted.slices) == {"people"}


def test_captions_of_other_references_are_refused(bench: Bench) -> None:
    captions = bench.captions(bench.model("good"))
    write_generation(captions["captions"].uri, Generation("test", "other", model_uri="model"))
    with pytest.raises(ValueError, match=r"`captions` must be of the images .* Received: other"):
        bench.statistics(references=bench.references(), **captions)
