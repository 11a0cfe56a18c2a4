"""`tuner_fn`: the search as TFX runs it, its space, and what ends it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras_tuner
import pytest
from tfx.components.trainer.executor import GenericExecutor
from tfx.components.tuner.executor import Executor
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import Artifact, standard_artifacts

from tfx_captioner.models.config import RunConfig, TrainerConfig, TunerConfig
from tfx_captioner.models.data import CaptionData
from tfx_captioner.models.data_config import parse
from tfx_captioner.models.hyperparameters import with_hyperparameters
from tfx_captioner.models.progress import NonFiniteLossError, Progress
from tfx_captioner.models.tuner import CaptionerTuner, search_space, tuner_fn


class _InterruptedError(Exception):
    """Stands for whatever ends a process."""


@pytest.fixture
def fn_args(fn_args: SimpleNamespace) -> SimpleNamespace:
    """What TFX hands to `tuner_fn`, for a search of a moment."""
    custom_config = fn_args.custom_config
    custom_config["tuner"] = {"trials": 2, "epochs": 2}
    custom_config["run"]["model"]["decoder"].update(units=8, embedding_dim=8)
    custom_config["run"]["trainer"]["self_critical"] = {"epochs": 1, "samples": 2}
    return fn_args


@pytest.fixture
def run(fn_args: SimpleNamespace) -> RunConfig:
    return parse(RunConfig, fn_args.custom_config["run"])


def _search(fn_args: SimpleNamespace) -> CaptionerTuner:
    """As `tfx.components.tuner.executor` does."""
    tuner, fit_kwargs = tuner_fn(fn_args)
    tuner.search(**fit_kwargs)
    return tuner


def _trials(tuner: CaptionerTuner) -> list[tuple[dict[str, Any], float]]:
    # By id: a search that goes on finds its trials in the order in which the disk lists them.
    trials = [trial for _, trial in sorted(tuner.oracle.trials.items())]
    return [(trial.hyperparameters.values, trial.score) for trial in trials]


def _artifact(kind: type[Artifact], uri: Path) -> list[Artifact]:
    uri.mkdir(parents=True, exist_ok=True)
    artifact = kind()
    artifact.uri = str(uri)
    return [artifact]


@pytest.mark.slow(reason="both executors of TFX; a search of two trainings, and a training")
def test_tfx_s_trainer_takes_what_its_tuner_found(
    fn_args: SimpleNamespace, transformed: Path, tmp_path: Path
) -> None:
    examples = _artifact(standard_artifacts.Examples, transformed)
    examples[0].split_names = '["train", "val"]'
    inputs = {
        "examples": examples,
        "transform_graph": _artifact(standard_artifacts.TransformGraph, transformed / "graph"),
    }
    found = _artifact(standard_artifacts.HyperParameters, tmp_path / "best")
    results = _artifact(standard_artifacts.TunerResults, tmp_path / "results")
    properties = {
        "train_args": '{"splits": ["train"]}',
        "eval_args": '{"splits": ["val"]}',
        "custom_config": json.dumps(fn_args.custom_config),
    }

    def execute(kind: type[BaseExecutor], inputs: Any, outputs: Any, function: str) -> None:
        context = BaseExecutor.Context(tmp_dir=str(tmp_path / "working"), unique_id="1")
        name = function.rpartition(".")[2]
        kind(context).Do(inputs, outputs, properties | {name: function})

    outputs = {"best_hyperparameters": found, "tuner_results": results}
    execute(Executor, inputs, outputs, "tfx_captioner.models.tuner.tuner_fn")
    rows = json.loads((tmp_path / "results" / "tuner_results.json").read_text(encoding="utf-8"))
    best = max(rows, key=lambda row: row["score"])
    assert len(rows) == 2
    # Neither the search nor one of its trainings is left behind.
    assert not list((tmp_path / "checkpoints").iterdir())

    outputs = {
        "model": _artifact(standard_artifacts.Model, tmp_path / "model"),
        "model_run": _artifact(standard_artifacts.ModelRun, tmp_path / "model_run"),
    }
    execute(
        GenericExecutor,
        inputs | {"hyperparameters": found},
        outputs,
        "tfx_captioner.models.trainer.run_fn",
    )
    [training] = (tmp_path / "model").rglob("training.json")
    decoder = json.loads(training.read_text(encoding="utf-8"))["run"]["model"]["decoder"]
    for name in ("units", "dropout", "concepts"):
        assert decoder[name] == best[f"decoder.{name}"]
    history = json.loads((tmp_path / "model_run" / "history.json").read_text(encoding="utf-8"))
    warmed_up, *_, last = history["history"]
    assert warmed_up["learning_rate"] == pytest.approx(best["trainer.learning_rate"], rel=1e-3)
    # The search had fewer epochs, and none by reward.
    assert last["epoch"] == 5
    assert "reward" in last


@pytest.mark.slow(reason="four trainings that each trace their graphs")
def test_an_interrupted_search_goes_on_where_it_was(
    fn_args: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninterrupted = _trials(_search(fn_args))
    whole_epoch = CaptionData.epoch
    begun: list[int] = []

    def epoch(self: CaptionData, batch_size: int, shuffle: Any = None) -> Any:
        if shuffle is not None:
            begun.append(shuffle[1])
            if len(begun) == 4:
                raise _InterruptedError
        return whole_epoch(self, batch_size, shuffle)

    monkeypatch.setattr(CaptionData, "epoch", epoch)
    with pytest.raises(keras_tuner.errors.FatalRuntimeError, match=r"Trial 1, with .*units"):
        _search(fn_args)
    resumed = _trials(_search(fn_args))
    # Two trials of two epochs, the last one begun twice.
    assert begun == [0, 1, 0, 1, 1]
    assert resumed == uninterrupted


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[TrainerConfig], float]], None]:
    """Puts a training in place that only has a score, or an error."""

    def put(score: Callable[[TrainerConfig], float]) -> None:
        class Training:
            def __init__(self, captioner: Any, trainer: TrainerConfig, *args: Any, **_: Any):
                self.trainer = trainer
                self.checkpoint = SimpleNamespace(remove=lambda: None)

            def run(self) -> Progress:
                value = score(self.trainer)
                return Progress([{"val_cider_d": value, "val_loss": 1.0}], best_epoch=1)

        monkeypatch.setattr("tfx_captioner.models.tuner.CaptionerTraining", Training)

    return put


@pytest.mark.parametrize("better", [True, False])
def test_a_search_never_ends_below_the_defaults(
    fn_args: SimpleNamespace, pretend: Callable[..., None], run: RunConfig, better: bool
) -> None:
    fn_args.custom_config["tuner"] = {"trials": 4, "hyperparameters": ["trainer.learning_rate"]}
    default = run.trainer.learning_rate
    pretend(lambda trainer: abs(math.log(trainer.learning_rate / default)) * (1 if better else -1))
    tuner = _search(fn_args)
    tuner.results_summary()
    rates = [values["trainer.learning_rate"] for values, _ in _trials(tuner)]
    assert rates[0] == default
    assert len(set(rates)) == 4
    assert all(default / 4 <= rate <= default * 4 for rate in rates)
    [best] = tuner.get_best_hyperparameters()
    assert (best.get("trainer.learning_rate") != default) is better


def test_a_loss_that_is_not_finite_ends_a_trial_and_not_the_search(
    fn_args: SimpleNamespace, pretend: Callable[..., None], run: RunConfig
) -> None:
    def score(trainer: TrainerConfig) -> float:
        if trainer.learning_rate == run.trainer.learning_rate:
            raise NonFiniteLossError("The loss is nan.")
        return 0.5

    pretend(score)
    tuner = _search(fn_args)
    assert [trial.status for trial in tuner.oracle.trials.values()] == ["FAILED", "COMPLETED"]
    [best] = tuner.get_best_hyperparameters()
    assert best.get("trainer.learning_rate") != run.trainer.learning_rate


def test_a_search_whose_trials_all_fail_is_an_error(
    fn_args: SimpleNamespace, pretend: Callable[..., None]
) -> None:
    def score(trainer: TrainerConfig) -> float:
        raise NonFiniteLossError("The loss is nan.")

    pretend(score)
    with pytest.raises(RuntimeError, match=r"(?s)All 2 trials .*The loss is nan"):
        _search(fn_args)


@pytest.mark.parametrize(("units", "heads"), [(8, 2), (6, 2), (9, 3), (1, 1)])
def test_whatever_is_drawn_is_allowed(run: RunConfig, units: int, heads: int) -> None:
    base = {"decoder.units": units, "decoder.attention_heads": heads, "decoder.dropout": 0.8}
    run = with_hyperparameters(run, {"values": base})
    space = search_space(run, TunerConfig(trials=2))
    assert set(space.values) == set(TunerConfig().hyperparameters)
    assert with_hyperparameters(run, space.get_config()) == run
    for dimension in space.space:
        for share in (0.0, 0.3, 0.999):
            drawn = {"values": {dimension.name: dimension.prob_to_value(share)}}
            decoder = with_hyperparameters(run, drawn).model.decoder
            assert decoder.units % decoder.attention_heads == 0


@pytest.mark.parametrize("name", ["units", "decoder.unit", "encoder.name", "trainer.a.b"])
def test_an_unknown_hyperparameter_names_those_there_are(run: RunConfig, name: str) -> None:
    with pytest.raises(ValueError, match=rf"decoder\.units.*trainer\.seed.*Received: '{name}'"):
        with_hyperparameters(run, {"values": {name: 1}})


def test_a_value_that_is_not_allowed_names_its_key(run: RunConfig) -> None:
    with pytest.raises(ValueError, match=r"(?s)dropout.*less than 1"):
        with_hyperparameters(run, {"values": {"decoder.dropout": 1.5}})
