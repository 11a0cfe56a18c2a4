"""Captions of a split, hostile images among them, and where the baseline's come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from tests.artifacts import make_artifact
from tests.components.walls import FAIR, GOOD, Bench, png
from tfx_captioner.components.artifacts import MODEL_ID, PUSHED_VERSION, SPLIT_FINGERPRINT
from tfx_captioner.components.caption_files import read_captions, read_generation
from tfx_captioner.serving.saved_model import UnusableModelError


def test_captions_are_in_the_format_of_coco(bench: Bench) -> None:
    model = bench.model("good")
    artifact = bench.captions(model)["captions"]
    rows = json.loads((Path(artifact.uri) / "captions.json").read_text())
    assert {tuple(row) for row in rows} == {("image_id", "caption")}
    assert read_captions(artifact.uri)["blue.png"] == GOOD[png("blue")]
    assert artifact.get_int_custom_property(MODEL_ID) == model.id
    generation = read_generation(artifact.uri)
    assert generation.model_uri == model.uri
    assert generation.split == "test"
    assert artifact.get_string_custom_property(SPLIT_FINGERPRINT) == generation.split_fingerprint


def test_a_refused_image_is_named_and_its_neighbours_are_answered(bench: Bench) -> None:
    artifact = bench.captions(bench.model("good"))["captions"]
    # The test model has no words for no bytes either.
    assert read_generation(artifact.uri).refused == ("nothing.jpg", "refused.png")
    captions = read_captions(artifact.uri)
    assert captions["refused.png"] == ""
    assert captions["red.png"] == GOOD[png("red")]


def test_without_a_baseline_there_are_no_captions_of_it(bench: Bench) -> None:
    model = bench.model("good")
    for baseline in (None, model):
        artifact = bench.captions(model, baseline_model=baseline)["baseline_captions"]
        assert not read_generation(artifact.uri).has_captions
        assert read_generation(artifact.uri).model_uri == ""


def test_where_nothing_was_pushed_there_is_no_baseline(bench: Bench) -> None:
    empty = make_artifact(standard_artifacts.Model, bench.root / "empty")
    empty.set_int_custom_property(PUSHED_VERSION, 0)
    artifact = bench.captions(bench.model("good"), baseline_model=empty)["baseline_captions"]
    assert read_generation(artifact.uri).model_uri == ""


def test_captions_of_the_baseline_are_generated_where_there_are_none(bench: Bench) -> None:
    fair = bench.model("fair")
    artifact = bench.captions(bench.model("good"), baseline_model=fair)["baseline_captions"]
    assert read_captions(artifact.uri)["red.png"] == FAIR[png("red")]
    assert artifact.get_int_custom_property(MODEL_ID) == fair.id


def test_captions_of_the_baseline_are_taken_from_its_own_run(bench: Bench) -> None:
    fair = bench.model("fair")
    earlier = bench.captions(fair)["captions"]
    path = Path(earlier.uri) / "captions.json"
    path.write_text(path.read_text().replace(FAIR[png("red")], "as it was said then"))
    artifact = bench.captions(bench.model("good"), baseline_model=fair, earlier_captions=[earlier])[
        "baseline_captions"
    ]
    assert read_captions(artifact.uri)["red.png"] == "as it was said then"


def test_captions_of_other_images_are_not_taken(bench: Bench) -> None:
    fair = bench.model("fair")
    other = bench.captions(fair, split="train")["captions"]
    artifact = bench.captions(bench.model("good"), baseline_model=fair, earlier_captions=[other])[
        "baseline_captions"
    ]
    assert read_captions(artifact.uri)["red.png"] == FAIR[png("red")]


def test_a_baseline_that_cannot_be_loaded_is_told(bench: Bench) -> None:
    gone = make_artifact(standard_artifacts.Model, bench.root / "gone")
    artifact = bench.captions(bench.model("good"), baseline_model=gone)["baseline_captions"]
    generation = read_generation(artifact.uri)
    assert not generation.has_captions
    assert "cannot be loaded" in generation.failure


def test_model_without_the_signature_is_named(bench: Bench) -> None:
    folder = bench.root / "other"
    tf.saved_model.save(tf.Module(), str(folder / "Format-Serving"))
    with pytest.raises(UnusableModelError, match="must have the signature `serving_default`"):
        bench.captions(make_artifact(standard_artifacts.Model, folder))


def test_unknown_split_names_those_there_are(bench: Bench) -> None:
    with pytest.raises(ValueError, match=r"one of train, test\. Received: 'eval'"):
        bench.captions(bench.model("good"), split="eval")
