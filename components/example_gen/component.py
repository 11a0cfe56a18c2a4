"""ExampleGen: TFX's ImportExampleGen, which reads no damaged records."""

from __future__ import annotations

from tfx import v1 as tfx
from tfx.dsl.components.base import executor_spec

from tfx_captioner.components.example_gen.executor import Executor


class ExampleGen(tfx.components.ImportExampleGen):
    """Imports ingested TFRecords after their checksums were looked at.

    Inputs, outputs and execution properties are those of ImportExampleGen. The folder of records
    must have been written by `captioner ingest`.
    """

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)
