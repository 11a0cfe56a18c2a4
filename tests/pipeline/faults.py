"""Makes a write of a run fail, runs again, and compares with a run that nothing disturbed.

`faults.c` is what makes a write fail, `fault_server.py` what runs pipelines quickly. A trial copies
a run root as it was before one stage (the data, a node, or the end after the last node), runs it
with one fault at a random write of that stage, and runs it once more without.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DATA, END, LAST_NODE = "data", "end", "Pusher"
RESOLVERS = {"PreviousStatistics", "Baseline.cnn_lstm"}
# What goes wrong, numbered as in faults.c. "full": the disk has no room from then on.
KINDS = {"enospc": 1, "full": 2, "eio": 3, "kill": 4, "hang": 5}
# One small model, on next to no data.
PRESET = """\
name: sample
models:
  cnn_lstm:
    encoder: {name: small_cnn, weights: null, trainable: true}
    decoder: {cell: lstm, units: 8, embedding_dim: 8, attention_heads: 2}
text: {min_word_count: 1}
data: {sample: {train: 16, val: 4, test: 4}}
trainer: {epochs: 1, batch_size: 8}
decoding: {max_length: 4}
evaluation: {meteor: false, gallery_size: 1}
evaluator:
  thresholds: {bleu_4: 0.0}
  bootstrap: {samples: 20}
serving_validator: {max_latency_p95_ms: 60000, images: 2}
"""
SNAPSHOT_IGNORED = shutil.ignore_patterns(".lock")
# Stages, each with how often it is drawn. Training, and what starts a server or traces a graph,
# take most of a run and make few of its writes.
STAGES = {
    DATA: 6,
    END: 3,
    "ImportExampleGen": 2,
    "ImportSchemaGen": 1,
    "StatisticsGen": 2,
    "ExampleValidator": 1,
    "PreviousStatistics": 1,
    "DataGate": 2,
    "ReferenceScorer": 2,
    "Transform": 0.7,
    "Trainer.cnn_lstm": 0.7,
    "Exporter.cnn_lstm": 2,
    "Baseline.cnn_lstm": 1,
    "CaptionGen.cnn_lstm": 1,
    "CaptionScorer.cnn_lstm": 2,
    "CaptionEvaluator.cnn_lstm": 1,
    "ModelSelector": 2,
    "Pusher.cnn_lstm": 2,
    "EvaluationReport": 1,
    "ServingValidator": 0.3,
    "Pusher": 2,
}
# Files of outputs that differ from one undisturbed run to the next: they hold times, or are
# serialised in no fixed order.
VARYING = (
    "saved_model.pb",
    "fingerprint.pb",
    "keras_metadata.pb",
    ".html",
    "history.json",
    "training.json",
    "captioner.json",
    "transformed_examples",
    "cache/",
    "warmup_requests",
)


class Control:
    """The mapping by which `faults.c` is told what to do, and tells what it did."""

    _LAYOUT = struct.Struct("=qqiiiiii512s")

    def __init__(self, path: Path) -> None:
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), self._LAYOUT.size)

    @classmethod
    def create(cls, path: Path) -> Control:
        path.write_bytes(bytes(cls._LAYOUT.size))
        return cls(path)

    def _read(self) -> tuple[Any, ...]:
        return self._LAYOUT.unpack(self._map[:])

    def prepare(self, kind: int = 0, target: int = 0, logs: bool = False) -> None:
        """Sets what shall happen once it is armed; 0 as kind only counts."""
        self._map[:] = self._LAYOUT.pack(0, target, 0, kind, int(logs), 0, 0, 0, b"")

    def arm(self) -> None:
        """Lets counting begin, from 1."""
        self._map[:8] = bytes(8)
        self._map[16:20] = struct.pack("=i", 1)

    @property
    def count(self) -> int:
        """Calls since it was armed."""
        return int(self._read()[0])

    @property
    def hung(self) -> int:
        """Id of the process that hangs; 0 where none does."""
        return int(self._read()[6])

    @property
    def fired(self) -> str:
        """The call that went wrong, and its path; empty where none did."""
        return str(self._read()[8].rstrip(b"\0").decode())


@dataclass(frozen=True)
class Trial:
    """One fault.

    Attributes:
      kind: A key of `KINDS`.
      stage: Where it happens.
      target: At which write of the stage.
      cached: Whether the root is that of a finished run, all nodes of which are in the cache.
      logs: Whether writes of the log file are counted, and no others.
    """

    kind: str
    stage: str
    target: int
    cached: bool = False
    logs: bool = False


@dataclass
class Result:
    """How a trial ended.

    Attributes:
      trial: What was tried.
      fired: The call that went wrong; empty where the stage made fewer calls this time.
      status: Exit status of the disturbed run, negative for a signal.
      said: Its last line.
      wrong: What should not be; empty where all is well.
    """

    trial: Trial
    fired: str = ""
    status: int = 0
    said: str = ""
    wrong: list[str] = field(default_factory=list)


class Faults:
    """A run root, its states before each stage, and the process that runs it.

    Attributes:
      counts: Calls of each stage of a run that finds nothing in the cache.
      cached_counts: Calls of each stage of a run that finds all of it.
    """

    def __init__(self, folder: Path, last: str = LAST_NODE) -> None:
        """Runs the pipeline once, undisturbed.

        Args:
          folder: An empty folder.
          last: The node to end with.
        """
        self._folder = folder
        self._last = last
        self._root = folder / "run"
        self._snapshots = folder / "snapshots"
        self._output = folder / "output.txt"
        self._preset = folder / "sample.yaml"
        self._preset.write_text(PRESET, encoding="utf-8")
        library = folder / "faults.so"
        source = Path(__file__).with_name("faults.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        self._control = Control.create(folder / "control")
        with open(folder / "server.txt", "w", encoding="utf-8") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.pipeline.fault_server"],
                cwd=ROOT,
                env=os.environ
                | {
                    "PYTHONPATH": str(ROOT),
                    "LD_PRELOAD": str(library),
                    "CAPTIONER_FAULT_ROOT": str(self._root),
                    "CAPTIONER_FAULT_CONTROL": str(folder / "control"),
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._answer()
        self._snapshots.mkdir()
        (self._snapshots / DATA).mkdir()
        self.counts = self._count(self._snapshots)
        shutil.copytree(self._root, self._snapshots / END, ignore=SNAPSHOT_IGNORED)
        self._expected = self.state()
        self.cached_counts = self._count(None)
        self.nodes = [stage for stage in self.counts if stage not in (DATA, END)]

    def close(self) -> None:
        """Ends the process."""
        assert self._server.stdin is not None
        self._server.stdin.close()
        self._server.wait(timeout=60)

    def _answer(self) -> dict[str, Any]:
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, (self._folder / "server.txt").read_text()
        return dict(json.loads(line))

    def _run(self, **request: Any) -> dict[str, Any]:
        request = {"stage": "", "snapshots": "", "counts": ""} | request
        request |= {
            "root": str(self._root),
            "preset": str(self._preset),
            "output": str(self._output),
        }
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def _count(self, snapshots: Path | None) -> dict[str, int]:
        self._control.prepare()
        counts = self._folder / "counts.json"
        answer = self._run(counts=str(counts), snapshots=str(snapshots or ""), last=self._last)
        assert answer["status"] == 0, self._output.read_text()
        found = json.loads(counts.read_text())
        return {stage: count for stage, count in found.items() if stage}

    def random_trial(self, draw: random.Random, stages: Mapping[str, float]) -> Trial:
        """Draws a trial.

        Args:
          draw: Where chance comes from.
          stages: Weight of each stage.
        """
        known = {stage: weight for stage, weight in stages.items() if stage in self.counts}
        stage = draw.choices(list(known), list(known.values()))[0]
        cached = draw.random() < 0.15
        counts = self.cached_counts if cached else self.counts
        logs = draw.random() < 0.1
        target = draw.randint(1, 12 if logs else max(counts[stage], 1))
        return Trial(draw.choice(list(KINDS)), stage, target, cached, logs)

    def attempt(self, trial: Trial) -> Result:
        """Makes one fault, runs again, and compares."""
        stage = trial.stage
        # What a run has to do after the stage, it does not do twice.
        last = self._last if trial.cached or stage == END else stage
        if last == DATA:
            last = self.nodes[0]
        before = self._snapshots / (END if trial.cached else last if stage == END else stage)
        if self._root.exists():
            shutil.rmtree(self._root)
        if before.name != DATA:
            shutil.copytree(before, self._root)
        self._control.prepare(KINDS[trial.kind], trial.target, trial.logs)
        disturbed = self._run(stage=stage, last=last)
        result = Result(trial, self._control.fired, disturbed["status"])
        text = self._output.read_text(errors="replace")
        result.said = text.strip().rpartition("\n")[2][:300]
        if result.fired:
            result.wrong += self._wrong_end(trial, disturbed, text)
        self._control.prepare()
        again = self._run(last=last)
        text = self._output.read_text(errors="replace")
        if again["status"] != 0:
            result.wrong.append(f"the next run ended with {again['status']}: {text[-600:]}")
        else:
            with _named(result.wrong):
                nodes = self.nodes[: self.nodes.index(last) + 1]
                result.wrong += _differences(self._expected, self.state(), nodes)
        return result

    @staticmethod
    def _wrong_end(trial: Trial, answer: Mapping[str, Any], text: str) -> list[str]:
        wrong = [f"a process was left: {line}" for line in answer["left"]]
        killed = trial.kind in ("kill", "hang")
        if "Traceback" in text:
            wrong.append(f"a traceback on the screen: {text[-1500:]}")
        elif answer["status"] < 0 and not killed:
            wrong.append(f"ended by signal {-answer['status']}: {text[-600:]}")
        elif answer["status"] > 0 and "\ncaptioner: " not in f"\n{text}":
            wrong.append(f"ended with {answer['status']} and no message: {text[-600:]}")
        return wrong

    def state(self) -> dict[str, Any]:
        """All of a finished run root that an undisturbed run makes the same, by a readable key."""
        from tfx_captioner.pipeline.runs import (
            execution_counts,
            latest_outputs,
            open_store,
            past_runs,
        )

        store = open_store(self._root / "metadata.db")
        found: dict[str, Any] = {}
        for node, count in execution_counts(store, "sample").items():
            if node not in RESOLVERS:
                found[f"{node} ran times"] = count
        last = past_runs(store)[-1]
        for node, execution in last.nodes.items():
            found[f"{node} state"] = {"cached": "ran"}.get(execution.state, execution.state)
        for node, outputs in latest_outputs(store, "sample").items():
            for key, output in outputs.items():
                for name, digest in _digests(Path(output.uri)).items():
                    found[f"{node} {key} {name}"] = digest
        for name, digest in _digests(self._root / "data").items():
            found[f"data {name}"] = digest
        for model in sorted(self._root.glob("serving/*")):
            versions = sorted(model.iterdir())
            found[f"Pusher of {model.name} versions"] = len(versions)
            for version in versions:
                files = sorted(str(path.relative_to(version)) for path in version.rglob("*"))
                found[f"Pusher of {model.name} files"] = files
        for folder in ("", "data", "checkpoints"):
            names = {path.name for path in (self._root / folder).glob("*")}
            found[f"names in {folder}/"] = sorted(names - {"checkpoints", "serving"})
        return found


def _digests(folder: Path) -> dict[str, str]:
    """Digest by path of a folder's files; of those that vary, whether they are there."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "tfevents" not in path.name:  # its name has a time in it
            varies = any(part in str(path) for part in VARYING) or path.name == ".inputs.json"
            digest = "there" if varies else hashlib.sha256(path.read_bytes()).hexdigest()
            digests[str(path.relative_to(folder))] = digest
    return digests


def _differences(
    expected: Mapping[str, Any], found: Mapping[str, Any], nodes: list[str]
) -> list[str]:
    """What differs, among what belongs to the nodes that were run and to no node."""
    wrong = []
    for key in sorted({*expected, *found}):
        node = key.partition(" ")[0]
        if node in nodes or node in ("data", "names"):
            old, new = expected.get(key), found.get(key)
            if key == "names in /":
                old, new = (
                    sorted({*(names or ())} - {"metadata.db.backup"}) for names in (old, new)
                )
            if old != new:
                wrong.append(f"{key}: {old} became {new}")
    return wrong


@contextlib.contextmanager
def _named(wrong: list[str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever it is, it is what the trial found
        wrong.append(f"the run root cannot be read: {error!r}")


def table(results: Iterable[Result]) -> str:
    """How many points were tried, by stage and kind, and how many ended wrong."""
    tried = Counter((r.trial.stage, r.trial.kind) for r in results if r.fired)
    wrong = Counter(r.trial.stage for r in results if r.wrong)
    lines = [f"{'stage':26}" + "".join(f"{kind:>8}" for kind in (*KINDS, "all", "wrong"))]
    for stage in STAGES:
        counts = [tried[stage, kind] for kind in KINDS]
        lines.append(
            f"{stage:26}" + "".join(f"{n:8}" for n in (*counts, sum(counts), wrong[stage]))
        )
    counts = [sum(tried[stage, kind] for stage in STAGES) for kind in KINDS]
    lines.append(f"{'all':26}" + "".join(f"{n:8}" for n in (*counts, sum(counts), wrong.total())))
    return "\n".join(lines)


def main() -> None:
    """Tries random faults until time is up; a line of JSON for each.

    python -m tests.pipeline.faults FOLDER SEED COUNT SECONDS [LAST_NODE]
    """
    import time

    folder, seed, count, seconds = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    folder.mkdir(parents=True)
    faults = Faults(folder.absolute(), *sys.argv[5:6])
    print(json.dumps({"counts": faults.counts, "cached": faults.cached_counts}), flush=True)
    draw = random.Random(seed)
    results = []
    began = time.monotonic()
    for _ in range(count):
        if time.monotonic() - began > seconds:
            break
        start = time.monotonic()
        result = faults.attempt(faults.random_trial(draw, STAGES))
        results.append(result)
        row = asdict(result) | {"seconds": round(time.monotonic() - start, 1)}
        print(json.dumps(row), flush=True)
    faults.close()
    print(table(results), file=sys.stderr)


if __name__ == "__main__":
    main()
