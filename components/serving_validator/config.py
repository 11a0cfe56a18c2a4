"""Typed settings of the ServingValidator."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from tfx_captioner.models.data_config import STRICT, Positive

Milliseconds = Annotated[float, Field(gt=0)]
MiB = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, config=STRICT)
class ServingValidatorConfig:
    """Limits a served model must keep, and what it is asked.

    A model is blessed against explicit limits only: with neither a latency nor a memory limit,
    the configuration is refused.

    Attributes:
      max_latency_p95_ms: Largest 95th percentile of the latency of one image over gRPC, in
        milliseconds; None for no limit.
      max_memory_mb: Largest resident memory of the server after all requests, in MiB; None for no
        limit.
      images: Real images of the eval split that are asked.
      split: Split of the examples they are taken from.
      server: "binary" for `tensorflow_model_server`, "local" for the local model server, "auto"
        for the binary where one is on the PATH and the local server elsewhere.
      max_loading_seconds: How long a server may take to start and to load the model.
      score_tolerance: Largest difference between a served number (score or attention) and the one
        the SavedModel gives when called directly.
    """

    max_latency_p95_ms: Milliseconds | None = None
    max_memory_mb: MiB | None = None
    images: Positive = 8
    split: str = "test"
    server: Literal["auto", "binary", "local"] = "auto"
    max_loading_seconds: Annotated[float, Field(gt=0)] = 180.0
    score_tolerance: Annotated[float, Field(gt=0)] = 1e-3

    def __post_init__(self) -> None:
        if self.max_latency_p95_ms is None and self.max_memory_mb is None:
            raise ValueError(
                "The serving validator has nothing to hold a model against. "
                "Set `max_latency_p95_ms` or `max_memory_mb`, or both."
            )
