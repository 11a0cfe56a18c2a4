"""The node: what comes out, what the Pusher does with it, and that Kubeflow can compile it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tfx.components.pusher.executor import Executor as PusherExecutor
from tfx.components.util import model_utils
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration import pipeline as tfx_pipeline
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner
from tfx.types import standard_artifacts

from tests.artifacts import make_artifact
from tfx_captioner.components.caption_evaluator.blessing import (
    Baseline,
    BaselineStatus,
    Reason,
    Verdict,
)
from tfx_captioner.components.caption_evaluator.summary import EvaluationSummary, write_summary
from tfx_captioner.components.model_selector.component import ModelSelector
from tfx_captioner.components.model_selector.executor import Executor


def candidate(
    root: Path,
    name: str,
    *,
    blessed: bool,
    bleu_4: float | None,
    split: str = "same",
    segmentation: str = "characters",
) -> dict[str, list[Any]]:
    """The artifacts of one candidate, as its trainer and evaluator would leave them."""
    model = make_artifact(standard_artifacts.Model, root / name / "model", artifact_id=len(name))
    saved_model = root / name / "model" / "Format-Serving" / "saved_model.pb"
    saved_model.parent.mkdir(parents=True)
    saved_model.write_text(name)
    evaluation = make_artifact(standard_artifacts.ModelEvaluation, root / name / "evaluation")
    summary = EvaluationSummary(
        model_name=name,
        split="test",
        split_fingerprint=split,
        image_count=1,
        verdict=Verdict(blessed, (Reason("bleu_4 was looked at.", blessed),)),
        baseline=Baseline(BaselineStatus.NONE),
        scores={"all images": {"bleu_4": bleu_4}},
        segmentation=segmentation,
    )
    write_summary(evaluation.uri, summary)
    blessing = make_artifact(standard_artifacts.ModelBlessing, root / name / "blessing")
    blessing.set_int_custom_property("blessed", int(blessed))
    return {
        f"model_{name}": [model],
        f"evaluation_{name}": [evaluation],
        f"blessing_{name}": [blessing],
    }


def choose(
    root: Path, *candidates: dict[str, list[Any]], metric: str = "bleu_4"
) -> tuple[standard_artifacts.Model, standard_artifacts.ModelBlessing]:
    model = make_artifact(standard_artifacts.Model, root / "champion" / "model")
    blessing = make_artifact(standard_artifacts.ModelBlessing, root / "champion" / "blessing")
    inputs = {key: value for each in candidates for key, value in each.items()}
    names = [key.removeprefix("model_") for key in inputs if key.startswith("model_")]
    Executor().Do(
        inputs,
        {"model": [model], "blessing": [blessing]},
        {"metric": metric, "candidates": ",".join(names), "code_fingerprint": "0"},
    )
    return model, blessing


def test_the_better_blessed_one_comes_out_with_its_layout(tmp_path: Path) -> None:
    model, blessing = choose(
        tmp_path,
        candidate(tmp_path, "cnn_lstm", blessed=True, bleu_4=0.2),
        candidate(tmp_path, "resnet_gru", blessed=True, bleu_4=0.3),
        candidate(tmp_path, "unblessed", blessed=False, bleu_4=0.9),
    )
    assert (Path(model.uri) / "Format-Serving" / "saved_model.pb").read_text() == "resnet_gru"
    assert model_utils.is_model_blessed(blessing)
    assert blessing.get_int_custom_property("current_model_id") == len("resnet_gru")
    selection = json.loads((Path(blessing.uri) / "selection.json").read_text())
    assert selection["champion"] == "resnet_gru"
    assert selection["blessed"] is True
    assert [entry["score"] for entry in selection["candidates"]] == [0.2, 0.3, 0.9]


@pytest.mark.parametrize("blessed", [True, False])
def test_the_stock_pusher_pushes_a_blessed_champion_only(tmp_path: Path, blessed: bool) -> None:
    model, blessing = choose(tmp_path, candidate(tmp_path, "a", blessed=blessed, bleu_4=0.2))
    pushed = make_artifact(standard_artifacts.PushedModel, tmp_path / "pushed")
    destination = {"filesystem": {"base_directory": str(tmp_path / "serving")}}
    PusherExecutor().Do(
        {"model": [model], "model_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {"push_destination": json.dumps(destination)},
    )
    assert bool(list((tmp_path / "serving").glob("*/saved_model.pb"))) is blessed


@pytest.mark.parametrize("other", [{"split": "other"}, {"segmentation": "words"}])
def test_other_images_or_words_cannot_be_compared(tmp_path: Path, other: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="scored on different images, references or words"):
        choose(
            tmp_path,
            candidate(tmp_path, "a", blessed=True, bleu_4=0.2),
            candidate(tmp_path, "b", blessed=True, bleu_4=0.3, **other),
        )


def test_unknown_metric_names_those_computed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"computed for a: bleu_4\. Received: 'cider_d'"):
        choose(tmp_path, candidate(tmp_path, "a", blessed=True, bleu_4=0.2), metric="cider_d")


def importers(name: str) -> list[Importer]:
    kinds = {
        "model": standard_artifacts.Model,
        "evaluation": standard_artifacts.ModelEvaluation,
        "blessing": standard_artifacts.ModelBlessing,
    }
    return [
        Importer(source_uri=f"/{name}/{role}", artifact_type=kind).with_id(f"{role}_of_{name}")
        for role, kind in kinds.items()
    ]


def test_kubeflow_compiles_named_candidates(tmp_path: Path) -> None:
    nodes = {name: importers(name) for name in ("cnn_lstm", "resnet_gru")}
    selector = ModelSelector(
        candidates={
            name: tuple(node.outputs["result"] for node in group) for name, group in nodes.items()
        },
        metric="bleu_4",
        code_fingerprint="0",
    )
    pipeline = tfx_pipeline.Pipeline(
        pipeline_name="selection",
        pipeline_root="/pipeline",
        components=[*(node for group in nodes.values() for node in group), selector],
    )
    out = tmp_path / "pipeline.json"
    kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        config=kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(default_image="image"),
        output_filename=str(out),
    ).run(pipeline)
    task = json.loads(out.read_text())["pipelineSpec"]["root"]["dag"]["tasks"]["ModelSelector"]
    assert set(task["inputs"]["artifacts"]) >= {"model_cnn_lstm", "blessing_resnet_gru"}


@pytest.mark.parametrize("names", [[], ["resnet-gru"]])
def test_names_must_fit_an_input(names: list[str]) -> None:
    channels = tuple(node.outputs["result"] for node in importers("x"))
    with pytest.raises(ValueError, match="Received"):
        ModelSelector(
            candidates=dict.fromkeys(names, channels), metric="bleu_4", code_fingerprint="0"
        )
