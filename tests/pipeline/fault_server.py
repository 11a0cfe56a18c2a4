"""Runs pipelines for `faults.py`, each in a fork of one process that has imported all of it.

A line of JSON on standard input asks for a run, one on standard output says how it ended. Starting
Python and importing TensorFlow, Beam and TFX takes ten times as long as what most nodes do.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import os
import pkgutil
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pipeline.faults import DATA, END, LAST_NODE, SNAPSHOT_IGNORED, Control

# A run that neither ends nor reaches its fault is stuck.
_LIMIT_SECONDS = 300.0


def main() -> int:
    """Answers requests until standard input ends."""
    control = Control(Path(os.environ["CAPTIONER_FAULT_CONTROL"]))
    _import_everything()
    others = threading.enumerate()[1:]
    assert not others, f"threads would be lost in each fork: {others}"
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        sys.stdout.flush()
        child = os.fork()
        if not child:
            return _run(request, control)
        print(json.dumps(_watch(child, control)), flush=True)
    return 0


def _import_everything() -> None:
    import tfx_captioner.components as components

    for module in pkgutil.walk_packages(components.__path__, f"{components.__name__}."):
        importlib.import_module(module.name)
    for name in (
        "tfx.v1",
        "tfx.components.transform.executor",
        "tfx.components.trainer.executor",
        "tfx.components.pusher.executor",
        "tfx.components.statistics_gen.executor",
        "tfx.components.example_validator.executor",
        "tfx.components.example_gen.import_example_gen.executor",
        "tfx_captioner.ingestion.job",
        "tfx_captioner.ingestion.sample",
        "tfx_captioner.models.trainer",
        "tfx_captioner.models.preprocessing",
        "tfx_captioner.pipeline.cli",
        "tfx_captioner.pipeline.local_runner",
        "tfx_captioner.pipeline.pipeline",
        "tfx_captioner.pipeline.show",
        "tfx_captioner.serving.saved_model",
    ):
        importlib.import_module(name)


def _watch(child: int, control: Control) -> dict[str, Any]:
    """Waits for a run; one that hangs is killed."""
    started = time.monotonic()
    while True:
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            break
        stuck = time.monotonic() - started > _LIMIT_SECONDS
        if control.hung or stuck:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            break
        time.sleep(0.02)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "seconds": round(time.monotonic() - started, 1),
        "left": _processes_left(child),
    }


def _processes_left(session: int) -> list[str]:
    """What still runs of a run that has ended, after a moment."""
    import psutil

    deadline = time.monotonic() + 5
    while True:
        left = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                mine = os.getsid(process.pid) == session
                mine |= process.environ().get("CAPTIONER_FAULT_RUN") == str(session)
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(" ".join(process.cmdline()))
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _run(request: dict[str, Any], control: Control) -> int:
    """What a fork does: `captioner run`, as a process of its own would."""
    os.setsid()
    os.environ["CAPTIONER_FAULT_RUN"] = str(os.getpid())
    sink = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(sink, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    from tfx_captioner.pipeline import cli, show
    from tfx_captioner.pipeline import pipeline as graph

    stages = _Stages(request, control)
    logging.getLogger("absl").addHandler(stages)
    if request["last"] != LAST_NODE:
        graph.create_pipeline = _up_to(request["last"], graph.create_pipeline)
        show.show_run = lambda *_: 0  # there is nothing to show yet
    try:
        with stages:
            return cli.main(["run", request["preset"], "--run-root", request["root"]])
    except Exception as error:  # at the end of a process of its own; a fork must not go on
        traceback.print_exception(error)
        return 1


def _up_to(last: str, create_pipeline: Callable[..., Any]) -> Callable[..., Any]:
    """Leaves off the nodes after one: they are cut short, not what is before them."""
    from tfx import v1 as tfx

    def cut(config: Any, locations: Any, metadata: Any) -> Any:
        whole = create_pipeline(config, locations, metadata)
        names = [node.id for node in whole.components]
        kept = whole.components[: names.index(last) + 1]
        for node in kept:
            node.downstream_nodes.intersection_update(kept)
        return tfx.dsl.Pipeline(
            pipeline_name=config.name,
            pipeline_root=locations.artifacts,
            components=kept,
            enable_cache=True,
            metadata_connection_config=metadata,
            beam_pipeline_args=None,  # the nodes have theirs, which are part of cache keys
        )

    return cut


class _Stages(logging.Handler):
    """Arms the fault when its stage begins; counts the calls of each stage where none is asked."""

    def __init__(self, request: dict[str, Any], control: Control) -> None:
        super().__init__(logging.INFO)
        self._request = request
        self._control = control
        self._stage = ""
        self._counts: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Takes the start of a node and the end of the last one from what TFX logs."""
        if record.msg == "Component %s is running.":
            node = str(record.args[0])
            if self._request["snapshots"]:
                target = Path(self._request["snapshots"], node)
                shutil.copytree(self._request["root"], target, ignore=SNAPSHOT_IGNORED)
            self._begin(node)
        elif record.msg == "Component %s is finished." and self._stage == self._request["last"]:
            self._begin(END)

    def _begin(self, stage: str) -> None:
        if self._request["counts"]:
            self._counts[self._stage] = self._control.count
            self._control.arm()
        elif stage == self._request["stage"]:
            self._control.arm()
        self._stage = stage

    def __enter__(self) -> None:
        self._begin(DATA)

    def __exit__(self, *_: object) -> None:
        self._begin("")
        if self._request["counts"]:
            Path(self._request["counts"]).write_text(json.dumps(self._counts))


if __name__ == "__main__":
    sys.exit(main())
