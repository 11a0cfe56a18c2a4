"""`captioner runs`, on a metadata store with the contexts that TFX's launcher makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2 as mlmd

from tfx_captioner.pipeline.cli import main
from tfx_captioner.pipeline.runs import (
    CACHED,
    UNFINISHED,
    execution_counts,
    latest_outputs,
    past_runs,
)

COMPLETE, WAS_CACHED = mlmd.Execution.COMPLETE, mlmd.Execution.CACHED
FAILED, RUNNING = mlmd.Execution.FAILED, mlmd.Execution.RUNNING
EVALUATOR = "CaptionEvaluator.cnn_lstm"
NAME = "sample"


class Recorder:
    """Writes runs into a store as TFX does: three contexts for each execution of a node."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True)
        config = mlmd.ConnectionConfig()
        config.sqlite.filename_uri = str(root / "metadata.db")
        self.root = root
        self.store = MetadataStore(config)
        self.types = {
            name: self.store.put_context_type(mlmd.ContextType(name=name))
            for name in ("pipeline", "pipeline_run", "node")
        }
        self.execution_type = self.store.put_execution_type(mlmd.ExecutionType(name="node"))
        self.artifact_type = self.store.put_artifact_type(mlmd.ArtifactType(name="Anything"))

    def run(self, run_id: str, **nodes: tuple[int, Mapping[str, int]]) -> None:
        """Records one run: node id, with `__` for a dot, to state and artifact ids by key."""
        for node, (state, artifacts) in nodes.items():
            contexts = [
                self.context("pipeline", NAME),
                self.context("pipeline_run", run_id),
                self.context("node", f"{NAME}.{node.replace('__', '.')}"),
            ]
            execution = mlmd.Execution(type_id=self.execution_type, last_known_state=state)
            events = []
            for key, artifact_id in artifacts.items():
                event = mlmd.Event(type=mlmd.Event.OUTPUT)
                event.path.steps.add(key=key)
                events.append((self.store.get_artifacts_by_id([artifact_id])[0], event))
            self.store.put_execution(execution, events, contexts)

    def artifact(self, uri: Path, **properties: str | int) -> int:
        artifact = mlmd.Artifact(type_id=self.artifact_type, uri=str(uri))
        for name, value in properties.items():
            kind = "int_value" if isinstance(value, int) else "string_value"
            setattr(artifact.custom_properties[name], kind, value)
        return int(self.store.put_artifacts([artifact])[0])

    def context(self, kind: str, name: str) -> mlmd.Context:
        found = self.store.get_context_by_type_and_name(kind, name)
        if found is None:
            self.store.put_contexts([mlmd.Context(type_id=self.types[kind], name=name)])
            found = self.store.get_context_by_type_and_name(kind, name)
        return found

    def evaluation(self, number: int, *, blessed: bool) -> int:
        folder = self.root / "artifacts" / EVALUATOR / "evaluation" / str(number)
        folder.mkdir(parents=True)
        reason = {"text": "bleu_4 is 0.2500 and misses 0.3.", "passed": blessed}
        verdict = {
            "model_name": "cnn_lstm",
            "split": "test",
            "split_fingerprint": "505a70009b567b90",
            "train_fingerprint": "8f3a12bc99887766",
            "scores": {"all images": {"bleu_4": 0.25, "cider_d": 1.5}},
            "verdict": {"blessed": blessed, "reasons": [reason]},
        }
        (folder / "verdict.json").write_text(json.dumps(verdict))
        return self.artifact(folder)


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """A finished run, the same from the cache, and one that was killed in its training."""
    monkeypatch.chdir(tmp_path)
    recorder = Recorder(Path("runs/sample"))
    good, bad = recorder.evaluation(1, blessed=True), recorder.evaluation(2, blessed=False)
    selection = recorder.root / "selection"
    selection.mkdir()
    (selection / "selection.json").write_text('{"champion": "cnn_lstm"}')
    chosen = recorder.artifact(selection)
    pushed = recorder.artifact(selection, pushed=1, pushed_destination="serving/captioner/17")
    model = recorder.artifact(selection)
    not_pushed = recorder.artifact(selection, pushed=0)
    for run_id, state in (("first", COMPLETE), ("again", WAS_CACHED)):
        recorder.run(
            run_id,
            Baseline__cnn_lstm=(COMPLETE, {}),
            Trainer__cnn_lstm=(state, {"model": model}),
            CaptionEvaluator__cnn_lstm=(state, {"evaluation": good}),
            ModelSelector=(state, {"blessing": chosen}),
            Pusher=(state, {"pushed_model": pushed}),
        )
    recorder.run("worse", CaptionEvaluator__cnn_lstm=(COMPLETE, {"evaluation": bad}))
    recorder.run("worse", Pusher=(FAILED, {"pushed_model": not_pushed}))
    recorder.run("killed", Trainer__cnn_lstm=(RUNNING, {}))
    return recorder


def test_past_runs_are_told_apart(recorder: Recorder) -> None:
    runs = {run.run_id: run for run in past_runs(recorder.store)}
    assert list(runs) == ["first", "again", "worse", "killed"]
    assert runs["again"].nodes["Trainer.cnn_lstm"].state == CACHED
    assert runs["killed"].nodes["Trainer.cnn_lstm"].state == UNFINISHED
    first = runs["first"].nodes["Pusher"].outputs["pushed_model"]
    assert first.properties == {"pushed": 1, "pushed_destination": "serving/captioner/17"}


def test_latest_outputs_and_counts_leave_out_what_did_not_finish(recorder: Recorder) -> None:
    outputs = latest_outputs(recorder.store, NAME)
    assert outputs[EVALUATOR]["evaluation"].uri.endswith("evaluation/2")
    assert outputs["Pusher"]["pushed_model"].properties["pushed"] == 1
    assert execution_counts(recorder.store, NAME) == {
        "Baseline.cnn_lstm": 2,
        "Trainer.cnn_lstm": 1,
        EVALUATOR: 2,
        "ModelSelector": 1,
        "Pusher": 1,
    }


def test_command_prints_scores_verdicts_and_what_was_pushed(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs"]) == 0
    _, first, again, worse, killed = capsys.readouterr().out.split("\n\n")
    assert "complete" in first
    for shown in ("cnn_lstm", "25.0", "150.0", "8f3a12 505a70", "captioner/17"):
        assert shown in first
    assert "not blessed" not in first
    assert "all cached" in again
    assert "failed at Pusher" in worse
    assert "not blessed" in worse
    assert "cnn_lstm: bleu_4 is 0.2500 and misses 0.3." in worse
    assert "was pushed" not in worse
    assert "stopped at Trainer.cnn_lstm" in killed


def test_command_says_what_can_no_longer_be_served(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["runs"])
    assert "was pushed to captioner/17 (no longer there as a whole)" in capsys.readouterr().out
    Path("serving/captioner/17").mkdir(parents=True)
    Path("serving/captioner/17/saved_model.pb").touch()
    main(["runs"])
    assert "no longer there" not in capsys.readouterr().out


def test_command_writes_json_in_full(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", str(recorder.root), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in rows] == ["first", "again", "worse", "killed"]
    model = rows[0]["models"]["cnn_lstm"]
    assert model["scores"] == {"bleu_4": 0.25, "cider_d": 1.5}
    assert model["data"] == {"train": "8f3a12bc99887766", "test": "505a70009b567b90"}
    assert model["pushed"] == ["serving/captioner/17"]
    assert rows[3]["models"] == {}


def test_an_evaluation_that_was_deleted_leaves_the_run_in_the_list(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    for verdict in recorder.root.rglob("verdict.json"):
        verdict.unlink()
    assert main(["runs"]) == 0
    assert "none" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "said"), [([], "No run was found"), (["x"], "x/metadata")])
def test_without_a_run_it_says_what_makes_one(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "captioner run" in error
