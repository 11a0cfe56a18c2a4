"""The whole pipeline on a tiny sample, run as a user runs it, with executions counted.

One folder and one metadata store, run after run: the first runs everything, the second nothing, an
edit of user code what depends on it, a killed run goes on where it was. The runs use a copy of the
code, so that it can be edited.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tfx_captioner.pipeline.local_runner import RunFolders
from tfx_captioner.pipeline.runs import NodeOutput, execution_counts, latest_outputs, open_store

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "tfx_captioner"
MODELS = ("cnn_lstm", "resnet_gru")
NAME = "sample"
MARK = "CAPTIONER_TEST_RUN"  # variable by which processes of a run are told
RESOLVERS = {"PreviousStatistics", *(f"Baseline.{model}" for model in MODELS)}
# Settings that make a run as short as it can be and still walk every road.
TINY = {
    "data.sample": "{train: 40, val: 8, test: 8}",
    "trainer.epochs": "1",
    "evaluator.thresholds": "{bleu_4: 0.0}",
    "evaluator.bootstrap.samples": "20",
    "serving_validator.max_latency_p95_ms": "60000",
    "decoding.max_length": "4",
}

pytestmark = pytest.mark.slow(reason="runs the whole pipeline several times, in processes")


@dataclass
class Project:
    """A copy of the code and one run root.

    Attributes:
      code: Folder of the copied rooms.
      folders: Where the runs keep what they make.
      settings: Overrides on top of `TINY`.
    """

    code: Path
    folders: RunFolders
    settings: dict[str, str] = field(default_factory=dict)

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(self.code), MARK: str(self.folders.root)}
        return subprocess.Popen(
            [*command],
            cwd=self.code,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def command(self) -> list[str]:
        settings = TINY | self.settings
        pairs = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        root = ["--run-root", str(self.folders.root)]
        return [sys.executable, "-m", "tfx_captioner.pipeline.cli", "run", NAME, *root, *pairs]

    def run(self) -> str:
        """Runs the pipeline to the end; returns what it printed."""
        process = self.start(self.command())
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        return output

    def processes(self) -> list[list[str]]:
        """Command lines of all processes that a run has started and that live."""
        lines = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == str(self.folders.root):
                    lines.append(process.cmdline())
        return lines

    def counts(self) -> dict[str, int]:
        """Executions that were not cached, by node, resolvers left out: they always run."""
        counts = execution_counts(open_store(self.folders.metadata), NAME)
        return {node: count for node, count in counts.items() if node not in RESOLVERS}

    def outputs(self) -> dict[str, dict[str, NodeOutput]]:
        return latest_outputs(open_store(self.folders.metadata), NAME)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("project")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / PACKAGE, folder / "code" / PACKAGE, ignore=ignored)
    yield Project(folder / "code", RunFolders(folder / "run"))
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def first_run(project: Project) -> str:
    return project.run()


def test_first_run_executes_every_node_once(project: Project, first_run: str) -> None:
    counts = project.counts()
    assert set(counts.values()) == {1}
    expected = {"ImportExampleGen", "StatisticsGen", "ExampleValidator", "DataGate", "Transform"}
    expected |= {"ModelSelector", "ServingValidator", "Pusher"}
    expected |= {"ReferenceScorer", "EvaluationReport"}
    per_model = ("Trainer", "Exporter", "CaptionGen", "CaptionScorer", "CaptionEvaluator", "Pusher")
    expected |= {f"{node}.{model}" for node in per_model for model in MODELS}
    assert set(counts) == expected | {"ImportSchemaGen"}


def test_it_pushes_the_champion_and_says_so(project: Project, first_run: str) -> None:
    pushed = project.outputs()["Pusher"]["pushed_model"]
    assert pushed.properties["pushed"] == 1
    model = Path(str(pushed.properties["pushed_destination"]))
    assert model.parent == project.folders.serving / "captioner"
    assert (model / "saved_model.pb").is_file()
    assert (model / "assets.extra" / "tf_serving_warmup_requests").is_file()
    assert "Pushed: " in first_run
    assert model.name in first_run
    for name in MODELS:
        assert f"Report of {name}: " in first_run


def test_evaluations_are_read_by_tfma_and_by_coco_tools(project: Project, first_run: str) -> None:
    import tensorflow_model_analysis as tfma

    for model in MODELS:
        evaluation = project.outputs()[f"CaptionEvaluator.{model}"]["evaluation"].uri
        metrics = tfma.load_eval_result(evaluation).get_metrics_for_all_slices()
        assert () in metrics
        captions = json.loads((Path(evaluation) / "captions.json").read_text())
        references = json.loads((Path(evaluation) / "references.json").read_text())
        assert len(captions) == 8
        assert {row["image_id"] for row in captions} == {row["id"] for row in references["images"]}
        pages = Path(project.outputs()["EvaluationReport"]["pages"].uri)
        assert (pages / model / "report.html").stat().st_size > 1000


@pytest.mark.parametrize(
    ("notebook", "shown"),
    [
        ("evaluation", ["data:image/svg+xml", "data:image/jpeg", "cider_d_train_idf", *MODELS]),
        (
            "data",
            [
                "data:image/svg+xml",
                "caption/text",
                "No anomalies found",
                "jensen shannon divergence",
            ],
        ),
    ],
)
def test_notebooks_show_a_finished_run(
    project: Project,
    first_run: str,
    notebook: str,
    shown: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nbformat = pytest.importorskip("nbformat", reason="needs the extra `notebooks`")
    client = pytest.importorskip("nbclient", reason="needs the extra `notebooks`")
    monkeypatch.setenv("CAPTIONER_RUN", str(project.folders.root))
    folder = ROOT / "notebooks"
    cells = nbformat.read(folder / f"{notebook}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in cells.cells), "committed with outputs"
    client.NotebookClient(
        cells, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    outputs = json.dumps([cell.get("outputs") for cell in cells.cells])
    assert [text for text in shown if text not in outputs] == []


def test_second_run_executes_nothing(project: Project, first_run: str) -> None:
    before = project.counts()
    versions = sorted(project.folders.serving.glob("*/*"))
    project.run()
    assert project.counts() == before
    assert sorted(project.folders.serving.glob("*/*")) == versions


def test_the_tfx_command_line_does_the_same_run(
    project: Project, first_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = project.counts()
    overrides = TINY | {"run_root": str(project.folders.root)}
    monkeypatch.setenv("CAPTIONER_SET", " ".join(f"'{k}={v}'" for k, v in overrides.items()))
    monkeypatch.setenv("HOME", str(tmp_path))  # the tfx command line keeps its state there
    monkeypatch.setenv("LOCAL_HOME", str(tmp_path / "local"))
    tfx = str(Path(sys.executable).with_name("tfx"))
    create = [
        "pipeline",
        "create",
        "--engine=local",
        "--pipeline-path=tfx_captioner/pipeline/local_runner.py",
    ]
    run = ["run", "create", "--engine=local", f"--pipeline-name={NAME}"]
    for arguments in (create, run):
        process = project.start([tfx, *arguments])
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
    assert project.counts() == before


def of_each_model(*nodes: str) -> set[str]:
    return {f"{node}.{model}" for node in nodes for model in MODELS}


DELIVERY = {"ModelSelector", "EvaluationReport", "ServingValidator", "Pusher"}
VERDICTS = DELIVERY | of_each_model("CaptionEvaluator", "Pusher")
SCORES = VERDICTS | of_each_model("CaptionScorer")


@dataclass(frozen=True)
class Edit:
    """What somebody edits, and which nodes run again.

    Attributes:
      nodes: Nodes that run again; all others stay cached.
      files: Files of the code, within the package, each with a line that is added to it.
      settings: Settings that are changed.
    """

    nodes: set[str]
    files: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)


CODE = "EDITED = True"
EDITS = {
    "a template and a chart of the report": Edit(
        {"EvaluationReport"},
        {
            "components/evaluation_report/templates/base.html.j2": "<!-- edited -->",
            "components/evaluation_report/charts.py": CODE,
        },
    ),
    "a rule of the blessing, and its code": Edit(
        VERDICTS,
        {"components/caption_evaluator/blessing.py": CODE},
        {"evaluator.change_thresholds": "{bleu_1: -0.9}"},
    ),
    "a metric that is no reward": Edit(SCORES | {"ReferenceScorer"}, {"metrics/rouge.py": CODE}),
    "the decoding": Edit(
        SCORES | of_each_model("Exporter", "CaptionGen"), settings={"decoding.beam_size": "2"}
    ),
    "a limit of the serving validator": Edit(
        {"ServingValidator", "Pusher"},
        settings={"serving_validator.max_latency_p95_ms": "50000"},
    ),
    "the choice of the champion": Edit(DELIVERY, {"components/model_selector/selection.py": CODE}),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_runs_again_what_depends_on_it_and_nothing_else(
    project: Project, first_run: str, name: str
) -> None:
    edit = EDITS[name]
    before = project.counts()
    for file, line in edit.files.items():
        path = project.code / PACKAGE / file
        path.write_text(f"{path.read_text()}\n{line}\n")
    project.settings |= edit.settings
    output = project.run()
    again = {node for node, count in project.counts().items() if count > before[node]}
    assert again == edit.nodes
    if name == "the decoding":
        # The model before is the baseline now, and was captioned and scored in its own run.
        assert output.count("captions of the baseline are those of its own run") == len(MODELS)
        assert output.count("statistics of the baseline are those of its own run") == len(MODELS)


def test_a_killed_run_goes_on_where_it_was(project: Project, first_run: str) -> None:
    """`kill -9` in the middle of the second model's training, after other code was edited."""
    project.settings["trainer.epochs"] = "6"
    project.settings["trainer.early_stopping_patience"] = "6"
    before = project.counts()
    process = project.start(project.command())
    assert process.stdout is not None
    seen = []
    training = False
    for line in process.stdout:
        seen.append(line)
        training |= "Trainer.resnet_gru" in line
        if training and "epoch 2" in line:
            break
    else:
        pytest.fail(f"the run ended before it could be killed:\n{''.join(seen)}")
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    killed = project.counts()
    assert killed["Trainer.cnn_lstm"] == before["Trainer.cnn_lstm"] + 1
    assert killed["Trainer.resnet_gru"] == before["Trainer.resnet_gru"]

    deadline = time.monotonic() + 30  # the kernel ends children a moment later
    while left := project.processes():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    output = project.run()
    after = project.counts()
    assert after["Trainer.cnn_lstm"] == killed["Trainer.cnn_lstm"]
    assert after["Transform"] == before["Transform"]
    # What had not run yet when the process was killed ran once.
    for node in {"Trainer.resnet_gru"} | of_each_model("Exporter", "CaptionEvaluator"):
        assert after[node] == killed[node] + 1 == before[node] + 1
    assert "epoch 1/" not in output.split("Trainer.resnet_gru")[1]
