"""A process of a training on several replicas, which `test_distribution.py` starts.

    python replica_run.py FN_ARGS DEVICES

FN_ARGS is what `run_fn` takes, as JSON; DEVICES is how many the CPU is divided into. `TF_CONFIG`
says what other processes there are. Captions of the second stage are drawn with the same noise for
each image, so that they do not depend on which replica has it.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import tensorflow as tf

from tfx_captioner.models import trainer


def main() -> None:
    fn_args = SimpleNamespace(**json.loads(sys.argv[1]))
    devices = int(sys.argv[2])
    if devices > 1:
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0],
            [tf.config.LogicalDeviceConfiguration()] * devices,
        )
        names = [f"CPU:{number}" for number in range(devices)]
        trainer.choose_strategy = lambda: tf.distribute.MirroredStrategy(names)
    samples = fn_args.custom_config["run"]["trainer"]["self_critical"]["samples"]

    def draw(logits: tf.Tensor, _: int, seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        uniform = tf.random.stateless_uniform([samples, logits.shape[-1]], [1, seed[1]])
        noise = tf.tile(-tf.math.log(-tf.math.log(uniform)), [tf.shape(logits)[0] // samples, 1])
        return tf.argmax(logits + noise, axis=-1, output_type=dtype)[:, None]

    tf.random.stateless_categorical = draw
    trainer.run_fn(fn_args)


if __name__ == "__main__":
    main()
