"""Replicas: the same training, whatever their number."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfx_captioner.models.data import CaptionData
from tfx_captioner.models.distribution import Replicas, SummingAdamW, _part

# Sums over two halves of a batch round otherwise than those over the whole. Measured: 1.5e-6.
TOLERANCE = 1e-5
_CLIPPED = """
import json
import keras
import tensorflow as tf
from tfx_captioner.models.distribution import Replicas, SummingAdamW
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
replicas = Replicas(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
with replicas.scope():
    weights = keras.Variable([0.0, 0.0])
    optimizer = SummingAdamW(global_clipnorm=1.0, beta_1=0.5)
    optimizer.build([weights])
gradients = [tf.constant([3.0, 0.0]), tf.constant([0.0, 4.0])]
apply = lambda gradient: optimizer.apply([gradient], [weights])
tf.function(lambda: replicas.run(apply, gradients), autograph=False)()
[momentum] = [value for value in optimizer.variables if "momentum" in value.path]
print(json.dumps(momentum.numpy().tolist()))
"""


def _data() -> CaptionData:
    """Five images with one to three captions."""
    token_ids = np.zeros([10, 6], np.int32)
    for row, words in zip(token_ids, (1, 4, 2, 3, 1, 1, 2, 3, 2, 1), strict=True):
        row[: words + 2] = [1, *range(4, 4 + words), 2]
    inputs = np.arange(5, dtype=np.float16)[:, None, None]
    return CaptionData(inputs, token_ids, np.array([0, 1, 3, 6, 8, 10]))


@pytest.mark.parametrize("replicas", [2, 3, 7])
def test_parts_are_whole_images_with_their_captions(replicas: int) -> None:
    data = _data()
    [batch] = data.epoch(10)
    parts = [_part(batch, replica, replicas) for replica in range(replicas)]
    np.testing.assert_array_equal(tf.concat([part["images"] for part in parts], 0), range(5))
    for part in parts:
        images = part["images"].numpy()
        if not len(images):  # a stand-in, without a word
            assert len(part["inputs"]) == 1
            np.testing.assert_array_equal(part["token_ids"], [[0, 0]])
            np.testing.assert_array_equal(part["image_index"], [0])
            continue
        np.testing.assert_array_equal(part["inputs"][:, 0, 0], images)
        captions = [data.references(image) for image in images]
        width = part["token_ids"].shape[1]
        np.testing.assert_array_equal(part["token_ids"], np.concatenate(captions)[:, :width])
        assert part["token_ids"].numpy()[:, -1].any()
        np.testing.assert_array_equal(
            part["image_index"], np.repeat(range(len(images)), [len(rows) for rows in captions])
        )


def test_one_replica_takes_batches_as_they_are() -> None:
    replicas = Replicas()
    assert (replicas.count, replicas.local, replicas.is_chief) == (1, [0], True)
    [[part]] = replicas.parts(_data().epoch(10))
    assert len(part["images"]) == 5
    np.testing.assert_array_equal(replicas.total([1.5, 2.0]), [1.5, 2.0])


def test_gradients_are_added_up_before_they_are_clipped() -> None:
    # Devices can be divided only before TensorFlow is in use, so in a process of its own.
    result = subprocess.run(
        [sys.executable, "-c", _CLIPPED], check=True, capture_output=True, text=True
    )
    # The sum, (3, 4), has norm 5 and is clipped to 1. The momentum is half of it.
    np.testing.assert_allclose(json.loads(result.stdout), [0.3, 0.4], rtol=1e-5)


def test_scaled_steps_are_smaller_by_their_factor() -> None:
    variables = [keras.Variable([1.0, 2.0]) for _ in range(2)]
    optimizer = SummingAdamW(0.1, weight_decay=0.0)
    optimizer.build(variables)
    optimizer.scale_steps(variables[1:], 0.25)
    optimizer.apply([tf.constant([3.0, -4.0])] * 2, variables)
    fast, slow = (variable.numpy() - [1.0, 2.0] for variable in variables)
    np.testing.assert_allclose(fast, [-0.1, 0.1], rtol=1e-4)
    np.testing.assert_allclose(slow, 0.25 * fast, rtol=1e-4)


def _start(
    fn_args: SimpleNamespace, folder: Path, devices: int = 1, **environment: str
) -> subprocess.Popen:
    """Starts a process whose training writes into a folder of its own."""
    run = {**fn_args.custom_config["run"], "checkpoint_root": str(folder / "checkpoints")}
    args = {
        **vars(fn_args),
        "custom_config": {"run": run},
        "serving_model_dir": str(folder / "model"),
        "model_run_dir": str(folder / "run"),
    }
    script = Path(__file__).with_name("replica_run.py")
    command = [sys.executable, str(script), json.dumps(args), str(devices)]
    return subprocess.Popen(command, env={**os.environ, **environment})


def _succeed(*processes: subprocess.Popen) -> None:
    try:
        for process in processes:
            assert process.wait() == 0
    finally:
        for process in processes:
            process.kill()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _history(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "run" / "history.json").read_text(encoding="utf-8"))["history"]


@pytest.mark.slow(reason="four processes that each start TensorFlow: only so are there workers")
def test_two_devices_and_two_processes_train_as_one_does(
    fn_args: SimpleNamespace,
    tmp_path: Path,
    picture: Callable[[str, str], bytes],
    load_exported: Callable[[str], Callable],
) -> None:
    run = fn_args.custom_config["run"]
    run["model"]["decoder"].update(units=8, embedding_dim=8, concepts=0.1)
    # 24 images in batches of 5, so that halves are not equal and a last batch has 4.
    run["trainer"].update(
        epochs=2,
        batch_size=10,
        learning_rate=0.002,
        gradient_clip_norm=1.0,
        label_smoothing=0.1,
        ema_momentum=0.5,
        self_critical={
            "epochs": 1,
            "samples": 2,
            "learning_rate": 0.001,
            "cross_entropy_share": 0.5,
        },
    )
    _succeed(_start(fn_args, tmp_path / "one"), _start(fn_args, tmp_path / "devices", devices=2))
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    _succeed(
        *(
            _start(
                fn_args,
                tmp_path / f"worker-{index}",
                TF_CONFIG=json.dumps(
                    {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
                ),
            )
            for index in range(2)
        )
    )

    one = _history(tmp_path / "one")
    for name in ("devices", "worker-0"):
        other = _history(tmp_path / name)
        assert len(other) == len(one) == 3
        for value in ("loss", "reward", "val_loss", "val_cider_d"):
            np.testing.assert_allclose(
                [entry[value] for entry in other if value in entry],
                [entry[value] for entry in one if value in entry],
                rtol=TOLERANCE,
                err_msg=f"{value} of {name}",
            )
        image = picture("red", "bright")
        [(_, expected)] = load_exported(str(tmp_path / "one" / "model"))([image])
        [(_, score)] = load_exported(str(tmp_path / name / "model"))([image])
        np.testing.assert_allclose(score, expected, rtol=TOLERANCE)
        [_] = (tmp_path / name / "run").glob("events.out.tfevents.*")
    # What is written once is written by the chief.
    assert not [path for path in (tmp_path / "worker-1").rglob("*") if path.is_file()]
