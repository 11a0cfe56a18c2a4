"""What past runs left in the metadata store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from tfx_captioner.pipeline import metadata_file
from tfx_captioner.pipeline.errors import UserError

RAN, CACHED, FAILED, UNFINISHED = "ran", "cached", "failed", "unfinished"
_STATES = {
    mlmd.Execution.COMPLETE: RAN,
    mlmd.Execution.CACHED: CACHED,
    mlmd.Execution.FAILED: FAILED,
    mlmd.Execution.CANCELED: FAILED,
}


@dataclass(frozen=True)
class NodeOutput:
    """One artifact a node put out.

    Attributes:
      uri: Where it lies.
      properties: Its custom properties, plain values.
    """

    uri: str
    properties: dict[str, str | int | float]


@dataclass(frozen=True)
class NodeExecution:
    """One time that a node came up in a run.

    Attributes:
      state: `RAN`, `CACHED`, `FAILED`, or `UNFINISHED` where a run was killed or is going on.
      outputs: What it put out, or found in the cache, by output key.
    """

    state: str
    outputs: Mapping[str, NodeOutput]


@dataclass(frozen=True)
class PastRun:
    """One run of a pipeline.

    Attributes:
      run_id: TFX's name of it, the time it began.
      pipeline: Name of the pipeline.
      began: Milliseconds since 1970.
      ended: The same, of the last thing that is known of it.
      nodes: Executions by node id, in the order they came up.
    """

    run_id: str
    pipeline: str
    began: int
    ended: int
    nodes: Mapping[str, NodeExecution]


def open_store(database: Path) -> MetadataStore:
    """Opens the SQLite metadata store of a run root.

    Raises:
      UserError: There is none, or it is damaged or locked.
    """
    if not database.exists():
        raise UserError(f"No run was found: {database} does not exist. `captioner run` makes one.")
    metadata_file.check(database)
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(database)
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READONLY
    return MetadataStore(config)


def past_runs(store: MetadataStore) -> list[PastRun]:
    """All runs that a store knows of, the earliest first."""
    runs = []
    for name in [context.name for context in store.get_contexts_by_type("pipeline")]:
        node_of = {
            execution.id: node
            for node, executions in _node_executions(store, name).items()
            for execution in executions
        }
        for run in store.get_contexts_by_type("pipeline_run"):
            executions = [
                execution
                for execution in store.get_executions_by_context(run.id)
                if execution.id in node_of
            ]
            if executions:
                runs.append(_past_run(store, run, name, executions, node_of))
    return sorted(runs, key=lambda run: run.began)


def latest_outputs(store: MetadataStore, pipeline_name: str) -> dict[str, dict[str, NodeOutput]]:
    """The outputs of each node's last finished execution, by node id and output key.

    Args:
      store: Metadata store.
      pipeline_name: Name of the pipeline in it.
    """
    last = {}
    for node, executions in _node_executions(store, pipeline_name).items():
        done = [execution.id for execution in executions if _state(execution) in (RAN, CACHED)]
        if done:
            last[node] = max(done)
    outputs = _outputs(store, last.values())
    return {node: outputs[execution_id] for node, execution_id in last.items()}


def execution_counts(store: MetadataStore, pipeline_name: str) -> dict[str, int]:
    """How often each node really ran, cached executions not counted, by node id."""
    return {
        node: sum(_state(execution) == RAN for execution in executions)
        for node, executions in _node_executions(store, pipeline_name).items()
    }


def _node_executions(store: MetadataStore, pipeline_name: str) -> dict[str, list[mlmd.Execution]]:
    prefix = f"{pipeline_name}."
    return {
        context.name.removeprefix(prefix): store.get_executions_by_context(context.id)
        for context in store.get_contexts_by_type("node")
        if context.name.startswith(prefix)
    }


def _past_run(
    store: MetadataStore,
    run: mlmd.Context,
    pipeline: str,
    executions: Iterable[mlmd.Execution],
    node_of: Mapping[int, str],
) -> PastRun:
    executions = sorted(executions, key=lambda execution: execution.id)
    outputs = _outputs(store, [execution.id for execution in executions])
    return PastRun(
        run_id=run.name,
        pipeline=pipeline,
        began=run.create_time_since_epoch,
        ended=max(execution.last_update_time_since_epoch for execution in executions),
        # A node that a killed run left unfinished comes up again: the later one counts.
        nodes={
            node_of[execution.id]: NodeExecution(_state(execution), outputs[execution.id])
            for execution in executions
        },
    )


def _state(execution: mlmd.Execution) -> str:
    return _STATES.get(execution.last_known_state, UNFINISHED)


def _outputs(
    store: MetadataStore, execution_ids: Iterable[int]
) -> dict[int, dict[str, NodeOutput]]:
    """The artifacts of executions, by execution and output key."""
    found: dict[int, dict[str, NodeOutput]] = {number: {} for number in execution_ids}
    events = [
        event
        for event in store.get_events_by_execution_ids(list(found))
        if event.type == mlmd.Event.OUTPUT
    ]
    artifacts = {
        artifact.id: NodeOutput(artifact.uri, _plain(artifact.custom_properties))
        for artifact in store.get_artifacts_by_id(list({event.artifact_id for event in events}))
    }
    for event in events:
        found[event.execution_id][event.path.steps[0].key] = artifacts[event.artifact_id]
    return found


def _plain(properties: Mapping[str, mlmd.Value]) -> dict[str, str | int | float]:
    kinds = ("string_value", "int_value", "double_value")
    return {
        name: getattr(value, value.WhichOneof("value"))
        for name, value in properties.items()
        if value.WhichOneof("value") in kinds
    }
