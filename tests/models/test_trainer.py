"""`run_fn`: training, resuming, stopping."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import tensorflow as tf

from tfx_captioner.components.image_featurizer.featurizing import Featurizer, Shard
from tfx_captioner.models.captioner import Captioner
from tfx_captioner.models.data import CaptionData
from tfx_captioner.models.data_config import EncoderConfig, parse
from tfx_captioner.models.encoders import EncoderWeightsError, build_encoder
from tfx_captioner.models.progress import NonFiniteLossError
from tfx_captioner.models.trainer import run_fn
from tfx_captioner.models.vocabulary import load_vocabulary
from tfx_captioner.models.weights import load_trained


class _InterruptedError(Exception):
    """Stands for whatever ends a process."""


def _weights(model_dir: str) -> list[np.ndarray]:
    weights: list[np.ndarray] = []
    with h5py.File(f"{model_dir}/captioner.weights.h5") as file:
        file.visititems(
            lambda _, item: weights.append(item[()]) if hasattr(item, "dtype") else None
        )
    assert weights
    return weights


def _history(fn_args: SimpleNamespace) -> dict[str, Any]:
    return json.loads(Path(fn_args.model_run_dir, "history.json").read_text(encoding="utf-8"))


def test_trains_writes_weights_and_leaves_no_checkpoint(
    fn_args: SimpleNamespace,
    picture: Callable[[str, str], bytes],
    load_exported: Callable[[str], Callable],
) -> None:
    settings = fn_args.custom_config["run"]["trainer"]
    settings.update(epochs=40, early_stopping_patience=40, batch_size=24)
    run_fn(fn_args)

    history = _history(fn_args)
    assert history["history"][-1]["loss"] < 0.5 * history["history"][0]["loss"]
    assert [entry["epoch"] for entry in history["history"]] == list(range(1, 41))
    facts = {"val_loss", "val_cider_d", "seconds", "captions_per_second"}
    assert facts <= set(history["history"][0])
    # Two captions per picture, of which the generated one is one: half of ten, and a little.
    assert history["history"][history["best_epoch"] - 1]["val_cider_d"] > 4.0
    assert not list(Path(fn_args.custom_config["run"]["checkpoint_root"]).glob("*"))
    assert list(Path(fn_args.model_run_dir).glob("events.out.tfevents.*"))

    folder = Path(fn_args.serving_model_dir)
    assert {path.name for path in folder.iterdir()} == {"captioner.weights.h5", "training.json"}
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    assert training["run"]["trainer"]["learning_rate"] == settings["learning_rate"]
    assert training["encoder"] == {"name": "small_cnn", "input_size": 32, "weights_sha256": ""}
    assert training["vocabulary"]["size"] == 4 + 9
    best = history["history"][history["best_epoch"] - 1]
    assert training["training"].items() >= {"best_epoch": history["best_epoch"], **best}.items()

    captioner = load_exported(fn_args.serving_model_dir)
    [(red, score), (blue, _)] = captioner([picture("red", "bright"), picture("blue", "dark")])
    assert "bright red" in red
    assert "dark blue" in blue
    assert score < 0


@pytest.mark.slow(reason="VGG16, the smallest encoder with a stage of its own, and its export")
def test_an_encoder_trained_from_a_stage_on_is_exported_whole(
    fn_args: SimpleNamespace,
    transformed: Path,
    picture: Callable[[str, str], bytes],
    load_exported: Callable[[str], Callable],
    tmp_path: Path,
) -> None:
    weights = tmp_path / "vgg16.weights.h5"
    build_encoder(EncoderConfig("vgg16", None, input_size=32)).model.save_weights(weights)
    run = fn_args.custom_config["run"]
    run["model"]["encoder"] = {
        "name": "vgg16",
        "weights": str(weights),
        "trainable": True,
        "trainable_from": "block5_conv3",
        "input_size": 32,
    }
    run["trainer"]["encoder_learning_rate_factor"] = 0.1
    featurizer = Featurizer(parse(EncoderConfig, run["model"]["encoder"]), batch_size=24)
    files = {split: str(tmp_path / split) for split in ("train", "val")}
    for split, target in files.items():
        [source] = (transformed / f"Split-{split}").iterdir()
        featurizer.featurize(Shard(split, str(source), target, str(tmp_path / "partial")))
    fn_args.train_files, fn_args.eval_files = [files["train"]], [files["val"]]
    run_fn(fn_args)

    [(caption, score)] = load_exported(fn_args.serving_model_dir)([picture("red", "bright")])
    assert caption
    assert score < 0
    # The stage alone is written, the rest is built again: of the encoder, both are there.
    vocabulary = load_vocabulary(fn_args.transform_graph_path)
    encoder = load_trained(fn_args.serving_model_dir, vocabulary).encoder.model
    moved = {
        weight.path.split("/")[-2]
        for weight, before in zip(encoder.weights, featurizer.encoder.model.weights, strict=True)
        if not np.array_equal(weight, before)
    }
    assert moved == {"block5_conv3"}
    written = Path(fn_args.serving_model_dir, "captioner.weights.h5").stat().st_size
    assert written < weights.stat().st_size / 2


def test_a_train_split_without_images_of_the_target_is_an_error(fn_args: SimpleNamespace) -> None:
    # All pictures of these examples are of one source.
    fn_args.custom_config["run"]["trainer"]["source_mix"] = {"auxiliary": ["test"]}
    with pytest.raises(ValueError, match=r"must leave images of another source.*test, which"):
        run_fn(fn_args)


def test_repeatable_words_that_are_all_unknown_are_an_error(fn_args: SimpleNamespace) -> None:
    decoding = fn_args.custom_config["run"]["trainer"]["validation_decoding"]
    decoding["repeatable_words"] = "a,the,on"
    message = (
        r"`trainer.validation_decoding.repeatable_words`.*with spaces between"
        r".*Received: 'a,the,on'"
    )
    with pytest.raises(ValueError, match=message):
        run_fn(fn_args)


def test_a_frozen_encoder_without_weights_is_an_error(fn_args: SimpleNamespace) -> None:
    fn_args.custom_config["run"]["model"]["encoder"]["trainable"] = False
    with pytest.raises(EncoderWeightsError, match=r"small_cnn must be given.*Received: None"):
        run_fn(fn_args)


def test_tensorboard_shows_scores_captions_and_attention(fn_args: SimpleNamespace) -> None:
    fn_args.custom_config["run"]["trainer"]["epochs"] = 2
    run_fn(fn_args)
    [events] = Path(fn_args.model_run_dir).glob("events.out.tfevents.*")
    shown: dict[tuple[str, int], np.ndarray] = {}
    for record in tf.data.TFRecordDataset(str(events)).as_numpy_iterator():
        event = tf.compat.v1.Event.FromString(record)
        for value in event.summary.value:
            shown[value.tag, event.step] = tf.make_ndarray(value.tensor)
    for entry in _history(fn_args)["history"]:
        step = entry["epoch"]
        for name in ("loss", "val_loss", "val_cider_d"):
            assert shown[f"training/{name}", step] == pytest.approx(entry[name])
        # Of the first four pictures of the validation split, with what people said of them.
        _, _, *rows = shown["samples/captions", step].item().decode().splitlines()
        assert len(rows) == 4
        assert rows[0].endswith("| a dark red square<br>the square is dark red |")
        width, height, *pictures = shown["samples/attention", step]
        assert len(pictures) == 4
        # A grid for each of the eight words and the end.
        assert tf.io.decode_png(pictures[0]).shape == (int(height), int(width), 1)
        assert int(width) == 9 * (int(height) + 4)


def test_matmul_dtype_auto_is_measured_and_recorded(fn_args: SimpleNamespace) -> None:
    fn_args.custom_config["run"]["trainer"].update(epochs=1, matmul_dtype="auto")
    run_fn(fn_args)
    recorded = json.loads(Path(fn_args.serving_model_dir, "training.json").read_text())["training"]
    assert recorded["matmul_dtype"] in ("float32", "bfloat16")
    assert _history(fn_args)["matmul_dtype"] == recorded["matmul_dtype"]


@pytest.mark.parametrize("stage", ["teacher forcing", "self-critical", "automatic dtype"])
def test_resumes_to_the_very_same_weights(
    fn_args: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    run = fn_args.custom_config["run"]
    run["model"]["decoder"]["dropout"] = 0.2
    run["trainer"]["ema_momentum"] = 0.5
    if stage == "self-critical":
        run["trainer"].update(epochs=1, self_critical={"epochs": 3, "samples": 2})
    else:
        run["trainer"]["scheduled_sampling"] = 0.5
    measured = iter([("bfloat16", 2.0), ("bfloat16", 2.0), ("float32", 1.0)])
    if stage == "automatic dtype":
        # On a busy machine a second measurement may say otherwise; the first one stays.
        run["trainer"]["matmul_dtype"] = "auto"
        monkeypatch.setattr("tfx_captioner.models.training.fastest_dtype", lambda: next(measured))
    run_fn(fn_args)
    uninterrupted = _weights(fn_args.serving_model_dir)

    whole_epoch = CaptionData.epoch

    def epoch(self: CaptionData, batch_size: int, shuffle: Any = None) -> Any:
        data = whole_epoch(self, batch_size, shuffle)
        if shuffle is None or shuffle[1] != 2:
            return data

        def breaks_after_two() -> Any:
            yield from data.take(2)
            raise _InterruptedError

        return breaks_after_two()

    with monkeypatch.context() as patch:
        patch.setattr(CaptionData, "epoch", epoch)
        with pytest.raises(_InterruptedError):
            run_fn(fn_args)
    # A new execution writes elsewhere.
    fn_args.model_run_dir = str(tmp_path / "again")
    fn_args.serving_model_dir = str(tmp_path / "again" / "model")
    run_fn(fn_args)

    assert len(_history(fn_args)["history"]) == 4
    resumed = _weights(fn_args.serving_model_dir)
    for one, other in zip(uninterrupted, resumed, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow(reason="three processes that each start TensorFlow: a real kill, no simulation")
def test_killed_and_started_again_ends_with_the_same_weights(
    fn_args: SimpleNamespace, tmp_path: Path
) -> None:
    fn_args.custom_config["run"]["trainer"]["epochs"] = 15
    fn_args.custom_config["run"]["trainer"]["early_stopping_patience"] = 15
    checkpoint_root = tmp_path / "checkpoints"

    def start(name: str) -> subprocess.Popen:
        args = {
            **vars(fn_args),
            "serving_model_dir": str(tmp_path / name / "model"),
            "model_run_dir": str(tmp_path / name / "run"),
        }
        code = (
            "import json, sys, types; from tfx_captioner.models.trainer import run_fn; "
            "run_fn(types.SimpleNamespace(**json.loads(sys.argv[1])))"
        )
        return subprocess.Popen([sys.executable, "-c", code, json.dumps(args)])

    assert start("whole").wait() == 0
    killed = start("killed")
    deadline = time.monotonic() + 300
    while not list(checkpoint_root.glob("*/ckpt-4*")):
        assert killed.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed" / "model").exists()
    assert start("again").wait() == 0
    for one, other in zip(
        _weights(str(tmp_path / "whole" / "model")),
        _weights(str(tmp_path / "again" / "model")),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_other_settings_do_not_resume(
    fn_args: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_epoch = CaptionData.epoch

    def epoch(self: CaptionData, batch_size: int, shuffle: Any = None) -> Any:
        if shuffle is not None and shuffle[1] == 1:
            raise _InterruptedError
        return whole_epoch(self, batch_size, shuffle)

    monkeypatch.setattr(CaptionData, "epoch", epoch)
    for rate in (0.01, 0.02):
        fn_args.custom_config["run"]["trainer"]["learning_rate"] = rate
        with pytest.raises(_InterruptedError):
            run_fn(fn_args)
    root = Path(fn_args.custom_config["run"]["checkpoint_root"])
    assert len(list(root.iterdir())) == 2


def test_early_stopping_keeps_the_best_epoch(fn_args: SimpleNamespace) -> None:
    settings = fn_args.custom_config["run"]["trainer"]
    # Far too high a rate after the warm-up: what was learned is lost.
    settings.update(epochs=30, learning_rate=3.0, warmup_epochs=4, early_stopping_patience=2)
    run_fn(fn_args)
    history = _history(fn_args)
    ranks = [(entry["val_cider_d"], -entry["val_loss"]) for entry in history["history"]]
    assert len(ranks) < 30
    assert history["best_epoch"] == 1 + ranks.index(max(ranks))
    assert len(ranks) == history["best_epoch"] + 2


def test_what_is_written_is_the_moving_average(
    fn_args: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The last epoch counts as the best.
    monkeypatch.setattr("tfx_captioner.models.progress._rank", lambda entry: entry["epoch"])
    settings = fn_args.custom_config["run"]["trainer"]
    settings.update(batch_size=1000, learning_rate=0.01, warmup_epochs=0)
    trained: list[list[np.ndarray]] = []
    for epochs, momentum in ((1, 0.0), (2, 0.0), (2, 0.9)):
        settings.update(epochs=epochs, ema_momentum=momentum)
        run_fn(fn_args)
        trained.append(_weights(fn_args.serving_model_dir))
    first_step, second_step, average = trained
    moved = 0
    for one, two, mean in zip(first_step, second_step, average, strict=True):
        if np.abs(one.astype(float) - two).max() > 1e-3 and not np.allclose(mean, two):
            np.testing.assert_allclose(mean, 0.9 * one + 0.1 * two, atol=1e-6)
            moved += 1
    assert moved > 10


@pytest.mark.parametrize("stage", ["teacher forcing", "self-critical"])
def test_nan_stops_with_a_clear_error_and_keeps_the_checkpoint(
    fn_args: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    if stage == "self-critical":
        settings = fn_args.custom_config["run"]["trainer"]
        settings.update(epochs=1, self_critical={"epochs": 2, "samples": 2})
    cross_entropy = Captioner.cross_entropy
    counter = tf.Variable(0)

    def poisoned(self: Captioner, batch: Any, *args: Any, **kwargs: Any) -> Any:
        loss, tokens = cross_entropy(self, batch, *args, **kwargs)
        # NaN from the seventh training step on, which is in the second epoch. Weights stay finite,
        # and so do rewards and validation loss.
        if kwargs.get("training"):
            loss = tf.where(counter.assign_add(1) > 6, float("nan"), loss)
        return loss, tokens

    monkeypatch.setattr(Captioner, "cross_entropy", poisoned)
    message = r"loss is nan at step .* of epoch 2.*learning_rate"
    with pytest.raises(NonFiniteLossError, match=message):
        run_fn(fn_args)
    [checkpoint] = Path(fn_args.custom_config["run"]["checkpoint_root"]).glob("*/ckpt-*.index")
    assert checkpoint.name == "ckpt-1.index"
    assert not Path(fn_args.serving_model_dir).exists()
