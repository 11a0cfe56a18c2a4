"""The Exporter: node, executor, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner
from tfx.orchestration.pipeline import Pipeline
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from tests.artifacts import make_artifact
from tfx_captioner.components.exporter.component import Exporter
from tfx_captioner.components.exporter.executor import Executor
from tfx_captioner.models.captioner import build_captioner
from tfx_captioner.models.config import DecodingConfig, RunConfig
from tfx_captioner.models.data_config import parse, to_plain
from tfx_captioner.models.encoders import build_encoder
from tfx_captioner.models.vocabulary import load_vocabulary
from tfx_captioner.models.weights import TrainedModel, save_trained
from tfx_captioner.serving.saved_model import SavedCaptioner

WORDS = ("a", "dog", "cat", "runs", "sits", "on", "grass")
RUN = {
    "model_name": "tiny",
    "model": {
        "encoder": {"name": "small_cnn", "weights": None, "trainable": True, "input_size": 32},
        "decoder": {"units": 8, "embedding_dim": 6, "attention_heads": 2},
    },
    "text": {},
    "trainer": {},
    "code_fingerprint": "0123",
    "checkpoint_root": "",
}
JPEG = tf.io.encode_jpeg(tf.zeros((40, 50, 3), tf.uint8)).numpy()


def _transform_graph(folder: Path, words: tuple[str, ...] = WORDS) -> Path:
    assets = folder / "transform_fn" / "assets"
    assets.mkdir(parents=True)
    (assets / "caption_vocabulary").write_text("\n".join(words) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a Trainer leaves in `model`, and the Transform in `graph`."""
    folder = tmp_path_factory.mktemp("trained")
    vocabulary = load_vocabulary(str(_transform_graph(folder / "graph")))
    run = parse(RunConfig, RUN)
    encoder = build_encoder(run.model.encoder)
    captioner = build_captioner(run.model, encoder, vocabulary.size)
    model = TrainedModel(run, encoder, captioner, {"val_cider_d": 0.25})
    save_trained(path_utils.serving_model_dir(str(folder / "model")), model, vocabulary)
    return folder


def _inputs(trained: Path, graph: Path | None = None) -> dict[str, list[Any]]:
    graph = graph or trained / "graph"
    return {
        "weights": [make_artifact(standard_artifacts.Model, trained / "model")],
        "transform_graph": [make_artifact(standard_artifacts.TransformGraph, graph, artifact_id=2)],
    }


def _properties(**decoding: Any) -> dict[str, str]:
    return {
        "decoding": json.dumps(to_plain(DecodingConfig(**decoding))),
        "code_fingerprint": "",
    }


def _export(inputs: dict[str, list[Any]], folder: Path, **decoding: Any) -> Path:
    output = make_artifact(standard_artifacts.Model, folder, artifact_id=3)
    Executor().Do(inputs, {"model": [output]}, _properties(**decoding))
    return Path(path_utils.serving_model_path(output.uri))


def test_weights_and_decoding_become_a_saved_model(trained: Path, tmp_path: Path) -> None:
    folder = _export(_inputs(trained), tmp_path / "one", max_length=3, min_length=3)
    [(caption, score)] = SavedCaptioner(str(folder)).captions([JPEG])
    assert len(caption.split()) == 3
    assert set(caption.split()) <= set(WORDS)
    assert score < 0
    extra = folder / "assets.extra"
    assert (extra / "tf_serving_warmup_requests").is_file()
    metadata = json.loads((extra / "captioner.json").read_text(encoding="utf-8"))
    assert metadata["model_name"] == "tiny"
    assert metadata["model"]["encoder"]["name"] == "small_cnn"
    assert metadata["vocabulary_size"] == 4 + len(WORDS)
    assert metadata["decoding"]["max_length"] == 3
    assert metadata["code_fingerprint"] == "0123"
    assert metadata["training"] == {"val_cider_d": 0.25}
    # The same weights, decoded otherwise.
    folder = _export(_inputs(trained), tmp_path / "other", max_length=5, min_length=5)
    [(caption, _)] = SavedCaptioner(str(folder)).captions([JPEG])
    assert len(caption.split()) == 5


@pytest.mark.parametrize("words", [WORDS[:-1], tuple(reversed(WORDS))])
def test_another_vocabulary_than_the_training_s_is_an_error(
    trained: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    inputs = _inputs(trained, _transform_graph(tmp_path / "graph", words))
    with pytest.raises(ValueError, match="The vocabulary must be that of the training in"):
        _export(inputs, tmp_path / "model")


def test_repeatable_words_that_are_all_unknown_are_an_error(trained: Path, tmp_path: Path) -> None:
    message = r"`decoding\.repeatable_words`.*with spaces between.*Received: 'a,the,on'"
    with pytest.raises(ValueError, match=message):
        _export(_inputs(trained), tmp_path / "model", repeatable_words="a,the,on")
    assert not (tmp_path / "model").exists()


def test_a_model_that_is_exported_already_is_an_error(trained: Path, tmp_path: Path) -> None:
    _export(_inputs(trained), tmp_path / "model", max_length=3)
    inputs = _inputs(trained)
    inputs["weights"][0].uri = str(tmp_path / "model")
    with pytest.raises(ValueError, match=r"must hold training\.json and captioner\.weights\.h5"):
        _export(inputs, tmp_path / "again")


@pytest.mark.slow(reason="a process of its own, as an orchestrator starts it")
def test_it_works_in_a_process_that_trained_nothing(trained: Path, tmp_path: Path) -> None:
    code = f"""
import json
from pathlib import Path
from tfx.types import standard_artifacts
from tests.artifacts import make_artifact
from tfx_captioner.components.exporter.executor import Executor
Executor().Do(
    {{
        "weights": [make_artifact(standard_artifacts.Model, Path({str(trained / "model")!r}))],
        "transform_graph": [
            make_artifact(standard_artifacts.TransformGraph, Path({str(trained / "graph")!r}))
        ],
    }},
    {{"model": [make_artifact(standard_artifacts.Model, Path({str(tmp_path / "model")!r}))]}},
    {_properties(max_length=4)!r},
)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    here = _export(_inputs(trained), tmp_path / "here", max_length=4)
    there = path_utils.serving_model_path(str(tmp_path / "model"))
    [(expected, score)] = SavedCaptioner(str(here)).captions([JPEG])
    [(caption, other)] = SavedCaptioner(there).captions([JPEG])
    assert caption == expected
    assert other == pytest.approx(score, rel=1e-6)


def test_it_compiles_for_kubeflow(tmp_path: Path) -> None:
    weights = Importer("weights", artifact_type=standard_artifacts.Model).with_id("Weights")
    graph = Importer("graph", artifact_type=standard_artifacts.TransformGraph).with_id("Graph")
    node = Exporter(
        weights=weights.outputs["result"],
        transform_graph=graph.outputs["result"],
        decoding=DecodingConfig(beam_size=5),
        code_fingerprint="0",
    ).with_id("Exporter.tiny")
    pipeline = Pipeline("exporter", str(tmp_path / "root"), components=[weights, graph, node])
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(default_image="image"),
        output_dir=str(tmp_path),
        output_filename="pipeline.json",
    )
    compiled = runner.run(pipeline, write_out=True)

    executors = compiled["pipelineSpec"]["deploymentSpec"]["executors"]
    container = executors["Exporter.tiny_executor"]["container"]
    assert "tfx_captioner.components.exporter.executor.Executor" in container["args"]
    tasks = compiled["pipelineSpec"]["root"]["dag"]["tasks"]
    decoding = tasks["Exporter.tiny"]["inputs"]["parameters"]["decoding"]
    assert '"beam_size": 5' in str(decoding)
