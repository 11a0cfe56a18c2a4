"""The node: what is pushed, what is kept out and why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tensorflow as tf
from tfx.types import standard_artifacts

from tests.artifacts import make_artifact
from tfx_captioner.components.artifacts import MODEL_DIGEST, PUSHED_VERSION
from tfx_captioner.components.pushed_model.executor import Executor as PushedModelExecutor
from tfx_captioner.components.pusher.executor import Executor
from tfx_captioner.serving import versions

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "serving"))

import saved_models

Model, Pushed = standard_artifacts.Model, standard_artifacts.PushedModel


def _model(root: Path, word: str = "pushed") -> Model:
    """What the Exporter puts out."""
    saved_models.save_captioner(root, 1, word).rename(root / "Format-Serving")
    return make_artifact(Model, root)


def _blessing(root: Path, blessed: bool = True) -> standard_artifacts.ModelBlessing:
    blessing = make_artifact(standard_artifacts.ModelBlessing, root / "blessing")
    blessing.set_int_custom_property("blessed", int(blessed))
    return blessing


def _push(model: Model, base: Path, **inputs: object) -> Pushed:
    pushed = make_artifact(Pushed, Path(model.uri).with_name(f"pushed_of_{Path(model.uri).name}"))
    blessings = {"model_blessing": [_blessing(base)]} | {key: [one] for key, one in inputs.items()}
    Executor().Do(
        {"model": [model], **blessings},
        {"pushed_model": [pushed]},
        {"base_directory": str(base), "code_fingerprint": "0"},
    )
    return pushed


def test_a_blessed_model_is_pushed_and_kept(tmp_path: Path) -> None:
    model = _model(tmp_path / "model")
    pushed = _push(model, tmp_path / "base")
    path = Path(pushed.get_string_custom_property("pushed_destination"))
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_version") == path.name
    content = versions.content_of(f"{model.uri}/Format-Serving")
    assert versions.content_of(str(path)) == versions.content_of(pushed.uri) == content
    assert versions.read_manifest(str(path)) == content
    assert versions.whole_versions(str(tmp_path / "base")) == {int(path.name): str(path)}


def test_a_model_that_is_not_blessed_is_not_pushed(tmp_path: Path) -> None:
    base = tmp_path / "base"
    pushed = _push(_model(tmp_path / "model"), base, model_blessing=_blessing(base, blessed=False))
    assert pushed.get_int_custom_property("pushed") == 0
    assert not base.exists()


def test_another_model_than_was_served_on_trial_is_not_pushed(tmp_path: Path) -> None:
    model = _model(tmp_path / "model")
    infra = make_artifact(standard_artifacts.InfraBlessing, tmp_path / "infra")
    infra.set_int_custom_property("blessed", 1)
    digest = versions.digest_of(versions.content_of(f"{model.uri}/Format-Serving"))
    infra.set_string_custom_property(MODEL_DIGEST, digest)
    _push(model, tmp_path / "base", infra_blessing=infra)
    assert len(versions.numbered(str(tmp_path / "base"))) == 1
    with open(f"{model.uri}/Format-Serving/assets/word.txt", "a", encoding="utf-8") as file:
        file.write("!")
    with pytest.raises(ValueError, match=rf"must be the model that .*infra blesses.* {digest}"):
        _push(model, tmp_path / "base", infra_blessing=infra)
    assert len(versions.numbered(str(tmp_path / "base"))) == 1


@pytest.mark.parametrize("file", ["saved_model.pb", "assets/word.txt"])
def test_a_broken_model_takes_no_place(file: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    _push(_model(tmp_path / "good"), base)
    before = versions.numbered(str(base))
    model = _model(tmp_path / "model")
    path = Path(model.uri) / "Format-Serving" / file
    if file == "saved_model.pb":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        path.unlink()
    with pytest.raises(ValueError, match=r"Format-Serving (cannot be loaded|fails)"):
        _push(model, base)
    assert versions.numbered(str(base)) == before


class Another(saved_models.TinyCaptioner):
    """Gives whole numbers for scores."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def whole_scores(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        best = self.caption(image_bytes)
        return {"caption": best["caption"], "score": tf.cast(best["score"], tf.int32)}


def _save(root: Path, *left_out: str, **added: str) -> Model:
    """A captioner without some of the signatures, and with methods under other names."""
    root.mkdir()
    (root / "word.txt").write_text("another", encoding="utf-8")
    module = Another(root / "word.txt")
    methods = {
        "serving_default": "caption",
        "beams": "beams",
        "attention": "attention",
        "serving_examples": "examples",
    } | added
    signatures = {
        name: getattr(module, method) for name, method in methods.items() if name not in left_out
    }
    tf.saved_model.save(module, str(root / "Format-Serving"), signatures=signatures)
    return make_artifact(Model, root)


@pytest.mark.parametrize(
    ("left_out", "added", "message"),
    [
        (["attention"], {}, "must have the signature `attention`"),
        (
            [],
            {"serving_default": "whole_scores"},
            "`score` of `serving_default` .* must be float32",
        ),
    ],
)
def test_a_model_without_the_contract_s_signatures_is_not_pushed(
    left_out: list[str], added: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        _push(_save(tmp_path / "model", *left_out, **added), tmp_path / "base")
    assert not (tmp_path / "base").exists()


def test_what_clients_know_of_the_version_before_must_stay(tmp_path: Path) -> None:
    base = tmp_path / "base"
    _push(_model(tmp_path / "first"), base)
    _push(_save(tmp_path / "more", more="beams"), base)
    assert len(versions.whole_versions(str(base))) == 2, "more signatures are no harm"
    saved_models.save_broken(base, max(versions.numbered(str(base))) + 1)
    with pytest.raises(ValueError, match=r"must keep the signatures of .*: signature `more` is"):
        _push(_model(tmp_path / "less", "less"), base)
    assert len(versions.numbered(str(base))) == 3


def test_the_baseline_is_the_highest_version_that_is_whole(tmp_path: Path) -> None:
    """Where there are no resolvers: half a version, or a damaged one, is none."""
    base = tmp_path / "base"
    paths = []
    for name in ("good", "damaged", "half"):
        pushed = _push(_model(tmp_path / name, name), base)
        paths.append(Path(pushed.get_string_custom_property("pushed_destination")))
    damaged = paths[1] / "assets/word.txt"
    damaged.write_bytes(bytes(damaged.stat().st_size))
    (paths[2] / "assets/word.txt").unlink()
    model = make_artifact(Model, tmp_path / "baseline")
    PushedModelExecutor().Do({}, {"model": [model]}, {"base_directory": str(base)})
    assert model.get_int_custom_property(PUSHED_VERSION) == int(paths[0].name)
    assert Path(model.uri, "Format-Serving/assets/word.txt").read_text() == "good"
