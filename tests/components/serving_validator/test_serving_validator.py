"""The ServingValidator, from outside: artifacts in, a blessing out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.dsl.components.common.importer import Importer
from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner
from tfx.orchestration.pipeline import Pipeline
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.channel_utils import as_channel

from tfx_captioner.components.pusher.executor import Executor as PusherExecutor
from tfx_captioner.components.serving_validator import executor, probes
from tfx_captioner.components.serving_validator.component import ServingValidator
from tfx_captioner.components.serving_validator.config import ServingValidatorConfig
from tfx_captioner.components.serving_validator.executor import Executor
from tfx_captioner.serving.client import Caption, read_captions

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "serving"))

import saved_models

GENEROUS = ServingValidatorConfig(
    max_latency_p95_ms=60_000, max_memory_mb=16_384, images=3, server="local"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> standard_artifacts.Model:
    """A Trainer's output."""
    root = tmp_path_factory.mktemp("model")
    saved_models.save_captioner(root / "pushed", 1)
    (root / "pushed/1").rename(root / "Format-Serving")
    artifact = standard_artifacts.Model()
    artifact.uri = str(root)
    artifact.id = 1
    return artifact


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> standard_artifacts.Examples:
    """Raw examples: a JPEG and a PNG in split `test`, nothing usable in split `empty`."""
    root = tmp_path_factory.mktemp("examples")
    _write_split(root / "Split-test", [
        saved_models.image(saved_models.RED, size=64, form="JPEG"),
        saved_models.image(saved_models.GREEN, size=48),
    ])  # fmt: skip
    _write_split(root / "Split-empty", [])
    artifact = standard_artifacts.Examples()
    artifact.uri = str(root)
    artifact.id = 2
    artifact.split_names = artifact_utils.encode_split_names(["test", "empty"])
    return artifact


def _write_split(folder: Path, images: list[bytes]) -> None:
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "data-00000-of-00001.gz"), "GZIP") as writer:
        for image in images:
            example = tf.train.Example()
            example.features.feature["image/encoded"].bytes_list.value.append(image)
            writer.write(example.SerializeToString())


def _run(
    model: standard_artifacts.Model,
    examples: standard_artifacts.Examples,
    config: ServingValidatorConfig,
    folder: Path,
) -> standard_artifacts.InfraBlessing:
    node = ServingValidator(
        model=as_channel([model]), examples=as_channel([examples]), config=config,
        code_fingerprint="0",
    )  # fmt: skip
    blessing = standard_artifacts.InfraBlessing()
    blessing.uri = str(folder / "blessing")
    blessing.id = 3
    Executor().Do(
        {"model": [model], "examples": [examples]}, {"blessing": [blessing]}, node.exec_properties
    )
    return blessing


def _document(blessing: standard_artifacts.InfraBlessing) -> dict:
    return json.loads((Path(blessing.uri) / "validation.json").read_text(encoding="utf-8"))


@pytest.mark.slow(reason="starts a server, asks it some eighty times")
def test_a_good_model_is_blessed_and_pusher_pushes_it(model, examples, tmp_path: Path) -> None:
    blessing = _run(model, examples, GENEROUS, tmp_path)

    document = _document(blessing)
    assert document["reasons"] == []
    assert document["measured"]["images"] == 2
    assert document["measured"]["latency_p95_ms"] > 0
    assert blessing.get_int_custom_property("blessed") == 1
    assert (Path(blessing.uri) / "INFRA_BLESSED").is_file()
    assert "Running gRPC ModelServer" in (Path(blessing.uri) / "server.log").read_text()

    pushed = standard_artifacts.PushedModel()
    pushed.uri = str(tmp_path / "pushed")
    PusherExecutor().Do(
        {"model": [model], "infra_blessing": [blessing]},
        {"pushed_model": [pushed]},
        {"base_directory": str(tmp_path / "serving")},
    )
    assert pushed.get_int_custom_property("pushed") == 1
    assert len(list((tmp_path / "serving").glob("*/saved_model.pb"))) == 1


@pytest.mark.slow(reason="starts a server")
def test_limits_that_are_not_kept_are_named(model, examples, tmp_path: Path) -> None:
    config = ServingValidatorConfig(
        max_latency_p95_ms=0.001, max_memory_mb=1, images=1, server="local"
    )
    blessing = _run(model, examples, config, tmp_path)

    reasons = _document(blessing)["reasons"]
    assert len(reasons) == 2
    assert "above `max_latency_p95_ms` 0.001" in reasons[0]
    assert "above `max_memory_mb` 1" in reasons[1]
    assert "max_memory_mb" in blessing.get_string_custom_property("reasons")
    assert blessing.get_int_custom_property("blessed") == 0
    assert (Path(blessing.uri) / "INFRA_NOT_BLESSED").is_file()
    assert not (Path(blessing.uri) / "INFRA_BLESSED").exists()


@pytest.mark.slow(reason="starts a server")
def test_a_model_that_does_not_load_is_not_blessed(examples, tmp_path: Path) -> None:
    broken = saved_models.save_broken(tmp_path / "broken", 1)
    broken.rename(tmp_path / "broken/Format-Serving")
    model = standard_artifacts.Model()
    model.uri = str(tmp_path / "broken")

    blessing = _run(model, examples, GENEROUS, tmp_path)

    (reason,) = _document(blessing)["reasons"]
    assert "The server ended with status 1" in reason
    assert blessing.get_int_custom_property("blessed") == 0


def test_wrong_answers_are_found(model, examples) -> None:
    """The comparison with the SavedModel called directly is not an empty one."""
    two = executor.read_examples(examples, "test", 2)
    direct = probes.call_directly(Path(model.uri) / "Format-Serving", two)
    captions = read_captions(probes._as_answer(direct["serving_examples"]))
    assert probes._compare("here", captions, captions, 1e-3) == []

    wrong = [
        Caption("another", captions[0].score),
        Caption(captions[1].text, captions[1].score - 1),
    ]
    reasons = probes._compare("here", wrong, captions, 1e-3)
    assert "'another', called directly 'a v1 scene in red'" in reasons[0]
    assert "the tolerance is 0.001" in reasons[1]

    beams = probes._as_answer(direct["beams"]).outputs
    assert probes._compare_outputs("here", beams, direct["beams"], 1e-3) == []
    cut = {alias: rows[:1] for alias, rows in beams.items()}
    reasons = probes._compare_outputs("here", cut, direct["beams"], 1e-3)
    assert "`captions` has shape (1, 2), called directly (2, 2)" in reasons[0]
    low = {**beams, "scores": [[-9.0, -9.0], [-9.0, -9.0]]}
    (reason,) = probes._compare_outputs("here", low, direct["beams"], 1e-3)
    assert reason.startswith("here: `scores` is up to 8.")


class OnlyCaptions(tf.Module):
    """Forgets the scores."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def caption(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"caption": image_bytes}


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (
            ["serving_default", "beams"],
            "`serving_default` of .* must map image_bytes to caption, score. It maps .* to caption",
        ),
        (["beams"], "must have the signature `serving_default`. It has: beams"),
    ],
)
def test_a_model_of_another_form_is_told_in_words(
    names: list[str], reason: str, examples, tmp_path: Path
) -> None:
    module = OnlyCaptions()
    signatures = dict.fromkeys(names, module.caption)
    tf.saved_model.save(module, str(tmp_path), signatures=signatures)
    with pytest.raises(probes.WrongFormError, match=reason):
        probes.call_directly(tmp_path, executor.read_examples(examples, "test", 2))


@pytest.mark.parametrize(
    ("split", "message"),
    [("val", "no split `val`, only test, empty"), ("empty", "holds no `image/encoded`")],
)
def test_examples_without_images_are_an_error(
    split: str, message: str, model, examples, tmp_path: Path
) -> None:
    config = ServingValidatorConfig(max_memory_mb=1, split=split, server="local")
    with pytest.raises(ValueError, match=message):
        _run(model, examples, config, tmp_path)


def test_without_limits_there_is_no_configuration() -> None:
    with pytest.raises(ValueError, match="nothing to hold a model against"):
        ServingValidatorConfig()


def test_it_compiles_for_kubeflow(tmp_path: Path) -> None:
    model = Importer("model", artifact_type=standard_artifacts.Model).with_id("Model")
    examples = Importer("examples", artifact_type=standard_artifacts.Examples).with_id("Examples")
    node = ServingValidator(
        model=model.outputs["result"],
        examples=examples.outputs["result"],
        config=GENEROUS,
        code_fingerprint="0",
    )
    pipeline = Pipeline("validator", str(tmp_path / "root"), components=[model, examples, node])
    runner = kubeflow_v2_dag_runner.KubeflowV2DagRunner(
        kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(default_image="image"),
        output_dir=str(tmp_path),
        output_filename="pipeline.json",
    )
    compiled = runner.run(pipeline, write_out=True)

    executors = compiled["pipelineSpec"]["deploymentSpec"]["executors"]
    container = executors["ServingValidator_executor"]["container"]
    assert "tfx_captioner.components.serving_validator.executor.Executor" in container["args"]
