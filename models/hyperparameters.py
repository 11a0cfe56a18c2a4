"""Hyper-parameters that a search found, put over the settings of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tfx_captioner.models.config import DecoderConfig, RunConfig, TrainerConfig


def with_hyperparameters(run: RunConfig, hyperparameters: Mapping[str, Any]) -> RunConfig:
    """Settings of a run with hyper-parameters over them.

    Args:
      run: The settings.
      hyperparameters: A `keras_tuner.HyperParameters` as plain data, which is what TFX's Tuner
        writes and its Trainer reads. Names are keys of the trainer and of the decoder, such as
        `trainer.learning_rate` and `decoder.dropout`.

    Raises:
      ValueError: A name is none of these keys, or a value is not allowed there.
    """
    sections: dict[str, TrainerConfig | DecoderConfig]
    sections = {"trainer": run.trainer, "decoder": run.model.decoder}
    allowed = {
        f"{name}.{field.name}"
        for name, section in sections.items()
        for field in dataclasses.fields(section)
    }
    changes: dict[str, dict[str, Any]] = {name: {} for name in sections}
    for key, value in hyperparameters["values"].items():
        if key not in allowed:
            raise ValueError(
                f"A hyper-parameter must be one of {', '.join(sorted(allowed))}. Received: {key!r}."
            )
        section, field = key.split(".")
        changes[section][field] = value
    decoder = dataclasses.replace(run.model.decoder, **changes["decoder"])
    return dataclasses.replace(
        run,
        trainer=dataclasses.replace(run.trainer, **changes["trainer"]),
        model=dataclasses.replace(run.model, decoder=decoder),
    )
