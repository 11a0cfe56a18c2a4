"""What past runs left in the metadata store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from pipeline.errors import UserError

_DONE = (mlmd.Execution.COMPLETE, mlmd.Execution.CACHED)


@dataclass(frozen=True)
class NodeOutput:
    """One artifact a node put out.

    Attributes:
      uri: Where it lies.
      properties: Its custom properties, plain values.
    """

    uri: str
    properties: dict[str, str | int | float]


def open_store(database: Path) -> MetadataStore:
    """Opens the SQLite metadata store of a run root.

    Raises:
      UserError: There is none.
    """
    if not database.is_file():
        raise UserError(f"No run was found: {database} does not exist. `captioner run` makes one.")
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = str(database)
    config.sqlite.connection_mode = mlmd.SqliteMetadataSourceConfig.READONLY
    return MetadataStore(config)


def latest_outputs(store: MetadataStore, pipeline_name: str) -> dict[str, dict[str, NodeOutput]]:
    """The outputs of each node's last finished execution, by node id and output key.

    Args:
      store: Metadata store.
      pipeline_name: Name of the pipeline in it.
    """
    outputs: dict[str, dict[str, NodeOutput]] = {}
    prefix = f"{pipeline_name}."
    for context in store.get_contexts_by_type("node"):
        if not context.name.startswith(prefix):
            continue
        done = [
            execution
            for execution in store.get_executions_by_context(context.id)
            if execution.last_known_state in _DONE
        ]
        if done:
            last = max(done, key=lambda execution: execution.id)
            outputs[context.name.removeprefix(prefix)] = _outputs(store, last.id)
    return outputs


def execution_counts(store: MetadataStore, pipeline_name: str) -> dict[str, int]:
    """How often each node really ran, cached executions not counted, by node id."""
    prefix = f"{pipeline_name}."
    return {
        context.name.removeprefix(prefix): sum(
            execution.last_known_state == mlmd.Execution.COMPLETE
            for execution in store.get_executions_by_context(context.id)
        )
        for context in store.get_contexts_by_type("node")
        if context.name.startswith(prefix)
    }


def _outputs(store: MetadataStore, execution_id: int) -> dict[str, NodeOutput]:
    keys = {
        event.artifact_id: event.path.steps[0].key
        for event in store.get_events_by_execution_ids([execution_id])
        if event.type == mlmd.Event.OUTPUT
    }
    return {
        keys[artifact.id]: NodeOutput(
            artifact.uri,
            {
                name: getattr(value, value.WhichOneof("value"))
                for name, value in artifact.custom_properties.items()
                if value.WhichOneof("value") in ("string_value", "int_value", "double_value")
            },
        )
        for artifact in store.get_artifacts_by_id(list(keys))
    }
