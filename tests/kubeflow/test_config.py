"""Settings of a cluster: what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfx_captioner.kubeflow.config import load_settings, match_nodes, settings_names
from tfx_captioner.pipeline.errors import UserError


@pytest.mark.parametrize("name", ["kubeflow", "vertex"])
def test_settings_of_the_package_are_valid(name: str) -> None:
    assert name in settings_names()
    assert load_settings(name).backend == name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"image": "registry/captioner"}, r"`image`.*Received: 'registry/captioner'"),
        ({"image": "registry/captioner:latest"}, "must not be tagged `latest`.*captioner:latest"),
        ({"images": {"*": "registry/gpu:latest"}}, "must not be tagged `latest`.*gpu:latest"),
        ({"pipeline_root": "/tmp/runs"}, r"`pipeline_root`.*'/tmp/runs'"),
        ({"volume_claim": None}, "`records`, `serving`, `checkpoints` is a folder"),
        ({"backend": "vertex"}, "Vertex AI needs a gs:// `pipeline_root`"),
        ({"imgae": "a:1"}, r"`imgae` is not a key.*Allowed: image, pipeline_root"),
        ({"resources": {"*": {"cpu": 0}}}, r"`resources.*cpu`.*Received: 0 \(kubeflow.yaml\)"),
    ],
)
def test_a_wrong_setting_is_explained(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_settings("kubeflow", values)


def test_a_missing_file_is_explained() -> None:
    with pytest.raises(UserError, match=r"one of kubeflow, vertex or the path.*'nowhere\.yaml'"):
        load_settings("nowhere.yaml")


def test_a_file_needs_what_has_no_default(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("backend: kubeflow\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"`image` must be given.*\(cluster\.yaml\)"):
        load_settings(str(path))


def test_the_last_matching_pattern_wins() -> None:
    nodes = ["Trainer.a", "Trainer.b", "Transform"]
    matched = match_nodes({"*": 1, "Trainer.*": 2, "Trainer.b": 3}, nodes, "resources")
    assert matched == {"Trainer.a": 2, "Trainer.b": 3, "Transform": 1}


def test_a_pattern_may_match_nothing_but_a_name_may_not() -> None:
    assert match_nodes({"ImageFeaturizer.*": 1}, ["Transform"], "resources") == {}
    with pytest.raises(UserError, match=r"`resources` must name nodes.*Transform.*'Trainer'"):
        match_nodes({"Trainer": 1}, ["Transform"], "resources")
