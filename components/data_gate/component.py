"""DataGate: stops a run on bad data before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import standard_artifacts
from tfx.types.channel import BaseChannel, Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from tfx_captioner.components.artifacts import DataApproval
from tfx_captioner.components.data_gate.executor import Executor


class DataGateSpec(ComponentSpec):
    """Contract of the DataGate."""

    PARAMETERS = {
        "drift": ExecutionParameter(type=str),
        "code_fingerprint": ExecutionParameter(type=str),
    }
    INPUTS = {
        "anomalies": ChannelParameter(type=standard_artifacts.ExampleAnomalies),
        "statistics": ChannelParameter(type=standard_artifacts.ExampleStatistics),
        "schema": ChannelParameter(type=standard_artifacts.Schema),
        "previous_statistics": ChannelParameter(
            type=standard_artifacts.ExampleStatistics, optional=True
        ),
    }
    OUTPUTS = {"approval": ChannelParameter(type=DataApproval)}


class DataGate(BaseComponent):
    """Fails the run when ExampleValidator found anomalies, or data drifted from the last approved.

    TFX's ExampleValidator writes anomalies and succeeds; without a gate, training goes on.

    Outputs:
      approval: `tfx_captioner.DataApproval`; nodes that must wait for it depend on this node.

    Example:

    ```python
    gate = DataGate(
        anomalies=validator.outputs["anomalies"],
        statistics=statistics.outputs["statistics"],
        schema=schema.outputs["schema"],
        drift={"caption/text": 0.1},
        code_fingerprint=code_fingerprint("tfx_captioner.components.data_gate.executor"),
    )
    transform.add_upstream_node(gate)
    ```
    """

    SPEC_CLASS = DataGateSpec
    EXECUTOR_SPEC = ExecutorClassSpec(Executor)

    def __init__(
        self,
        *,
        anomalies: BaseChannel,
        statistics: BaseChannel,
        schema: BaseChannel,
        drift: Mapping[str, float],
        code_fingerprint: str,
        previous_statistics: BaseChannel | None = None,
    ) -> None:
        """Builds the node.

        Args:
          anomalies: ExampleAnomalies of the ExampleValidator.
          statistics: ExampleStatistics the anomalies were found in.
          schema: Schema the data was held against.
          drift: Feature name to the largest distance allowed to the train split approved
            before.
          code_fingerprint: Hash of the executor's code, part of the cache key.
          previous_statistics: Approved ExampleStatistics of an earlier run; may resolve to none.
        """
        super().__init__(
            DataGateSpec(
                anomalies=anomalies,
                statistics=statistics,
                schema=schema,
                previous_statistics=previous_statistics,
                drift=json.dumps(dict(drift), sort_keys=True),
                code_fingerprint=code_fingerprint,
                approval=Channel(type=DataApproval),
            )
        )
