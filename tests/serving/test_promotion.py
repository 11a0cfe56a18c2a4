"""Labels and versions are moved without a moment in which nothing is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tfx_captioner.serving import config, messages
from tfx_captioner.serving.client import CaptionClient
from tfx_captioner.serving.errors import ServingError
from tfx_captioner.serving.promotion import PromotionError, carry_out, plan_promotion, plan_rollback
from tfx_captioner.serving.wire import ModelVersion


def _config(*versions: int, **labels: int) -> Any:
    """With versions: pinned to them; without: the newest two."""
    server = messages.ModelServerConfig()
    model = server.model_config_list.config.add(name="captioner", base_path="/captioner")
    if versions:
        model.model_version_policy.specific.versions.extend(versions)
    else:
        model.model_version_policy.latest.num_versions = 2
    model.version_labels.update(labels)
    return server


def _model(server: Any) -> Any:
    (model,) = server.model_config_list.config
    return model


def _pins(server: Any) -> list[int] | None:
    policy = _model(server).model_version_policy
    return list(policy.specific.versions) if policy.HasField("specific") else None


def test_promotion_moves_the_label_after_the_version_is_loaded() -> None:
    move = plan_promotion(_config(stable=1, canary=2), "captioner", [1, 2, 3], "stable")

    assert move.version == 3
    assert _pins(move.preparation) == [2, 3]
    assert dict(_model(move.preparation).version_labels) == {"stable": 1, "canary": 2}
    assert dict(_model(move.result).version_labels) == {"stable": 3, "canary": 2}
    assert _pins(move.result) is None


def test_promoting_an_old_version_keeps_the_newest_served() -> None:
    move = plan_promotion(_config(stable=4, canary=5), "captioner", [1, 2, 3, 4, 5], "stable", 2)

    assert _pins(move.preparation) == [2, 4, 5]
    assert _pins(move.result) == [2, 5]
    assert move.pinned


def test_rollback_serves_nothing_newer_until_the_newest_is_promoted() -> None:
    versions = [1, 2, 3]
    back = plan_rollback(_config(stable=3, canary=3), "captioner", versions)
    assert (back.version, _pins(back.result)) == (2, [2])
    assert dict(_model(back.result).version_labels) == {"stable": 2, "canary": 2}
    assert _pins(back.preparation) == [2, 3]

    further = plan_rollback(back.result, "captioner", versions)
    assert (further.version, _pins(further.result)) == (1, [1])

    forward = plan_promotion(further.result, "captioner", versions, "stable")
    assert (forward.version, _pins(forward.result)) == (3, [1, 3]), "canary still names version 1"
    both = plan_promotion(forward.result, "captioner", versions, "canary")
    assert _pins(both.result) is None


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (lambda c: plan_promotion(c, "captioner", [1, 2], "stable", 9), "no version 9 on disk"),
        (lambda c: plan_promotion(c, "captioner", [], "stable"), "On disk: none"),
        (lambda c: plan_promotion(c, "other", [1], "stable"), "No model `other` is configured"),
        (lambda c: plan_rollback(c, "captioner", [1]), "no version before 1 to go back to"),
        (lambda c: plan_rollback(c, "captioner", [1, 2], 9), "would serve nothing"),
    ],
)
def test_what_would_leave_nothing_served_is_refused(plan: Any, message: str) -> None:
    with pytest.raises(PromotionError, match=message):
        plan(_config(stable=1))


class FakeServer:
    """Remembers configurations; its versions never load."""

    def __init__(self, error: str) -> None:
        self.configs: list[Any] = []
        self._error = error

    def reload(self, config: Any, timeout: float) -> None:
        self.configs.append(config)

    def status(self, target: Any, timeout: float) -> list[ModelVersion]:
        return [ModelVersion(3, "END", self._error), ModelVersion(2, "AVAILABLE")]


def test_a_version_that_does_not_load_is_not_promoted() -> None:
    server = FakeServer("no such file")
    move = plan_promotion(_config(stable=2), "captioner", [2, 3], "stable")
    with pytest.raises(PromotionError, match="version 3 cannot be served: no such file"):
        carry_out(move, CaptionClient(transport=server), timeout=5)
    assert server.configs == [move.preparation, move.before]
    assert _pins(server.configs[0]) == [2, 3], "what was served before is still loaded"
    assert _pins(server.configs[1]) is None, "and what is pushed from now on will be"


def test_a_refused_configuration_is_told() -> None:
    class Refusing(FakeServer):
        def reload(self, config: Any, timeout: float) -> None:
            raise ServingError("PERMISSION_DENIED", "no")

    move = plan_promotion(_config(stable=2), "captioner", [2, 3], "stable")
    with pytest.raises(ServingError, match="PERMISSION_DENIED"):
        carry_out(move, CaptionClient(transport=Refusing("")), timeout=5)


def test_the_configuration_on_disk_is_kept_as_far_as_it_still_fits(tmp_path: Path) -> None:
    for version in (1, 2):
        _touch(tmp_path / "captioner" / str(version))
    config.write_all(tmp_path)
    written = config.read_models(tmp_path / config.MODELS_FILE)
    assert dict(_model(written).version_labels) == {"stable": 2, "canary": 2}
    assert _model(written).base_path == str(tmp_path / "captioner")

    back = plan_rollback(written, "captioner", [1, 2])
    config.write_models(back.result, tmp_path / config.MODELS_FILE)
    _touch(tmp_path / "captioner/3")
    _touch(tmp_path / "cnn_lstm/1")
    kept = {
        model.name: model for model in config.load_or_generate(tmp_path).model_config_list.config
    }
    assert list(kept["captioner"].model_version_policy.specific.versions) == [1]
    assert dict(kept["captioner"].version_labels) == {"stable": 1, "canary": 1}
    assert dict(kept["cnn_lstm"].version_labels) == {"stable": 1, "canary": 1}


@pytest.mark.parametrize(
    ("text", "metrics_path"),
    [
        ('prometheus_config { enable: true path: "/metrics" }', "/metrics"),
        ("prometheus_config { enable: true }", config.METRICS_PATH),
        ('prometheus_config { path: "/metrics" }', ""),
        ("# prometheus_config { enable: true }", ""),
    ],
)
def test_monitoring_is_what_its_file_says(text: str, metrics_path: str, tmp_path: Path) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    assert config.read_metrics_path(file) == metrics_path
    file.write_text("prometheus: yes")
    with pytest.raises(ValueError, match=r"no tensorflow\.serving\.MonitoringConfig"):
        config.read_metrics_path(file)


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no model"):
        config.generate(tmp_path)


def _touch(version: Path) -> None:
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()


def test_the_generated_files_are_what_tf_serving_reads(serving_dir: Path) -> None:
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    text = (serving_dir / config.MODELS_FILE).read_text(encoding="utf-8")
    official = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    names = {model.name for model in official.model_config_list.config}
    assert names == {"captioner", "cnn_lstm", "resnet_gru", "half_plus_two", "swapped"}
