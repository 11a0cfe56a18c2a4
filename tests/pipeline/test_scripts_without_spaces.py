"""Real photographs with captions in a script without spaces, from a folder to a served caption.

The captions of Flickr8k are translated by a rule: each English word is one or two Chinese
characters, always the same, with nothing between them. It is no Chinese, but it looks the same to
all that does not read it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tfx_captioner.components.caption_evaluator.summary import EvaluationSummary, read_summary
from tfx_captioner.components.caption_files import read_captions, read_references
from tfx_captioner.components.reference_scorer.summary import read_references_summary
from tfx_captioner.components.scores import HUMAN, OVERALL
from tfx_captioner.components.statistics_files import read_statistics
from tfx_captioner.metrics import scripts
from tfx_captioner.metrics.statistics import score
from tfx_captioner.pipeline.local_runner import RunFolders
from tfx_captioner.pipeline.runs import NodeOutput, latest_outputs, open_store
from tfx_captioner.serving import config, launcher

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
FLICKR8K = DATA / "flickr8k"
SIZES = {"train": 140, "dev": 30, "test": 30}
PRESET = """\
name: unspaced
models:
  resnet_gru:
    encoder: {name: small_cnn, weights: null, trainable: true, input_size: 32}
    decoder: {cell: gru, units: 32, embedding_dim: 32, attention_heads: 1}
text: {language: zh, max_caption_length: 32}
trainer: {epochs: 2, batch_size: 32, learning_rate: 0.01, warmup_epochs: 0.0, ema_momentum: 0.0}
decoding: {min_length: 4, max_length: 10}
evaluator: {thresholds: {bleu_1: 0.01, rouge_l: 0.01}, bootstrap: {samples: 20}}
serving_validator: {max_latency_p95_ms: 60000, max_memory_mb: 8192}
evaluation:
  gallery_size: 2
  slices: [people, outdoor, brightness, caption_length, dogs]
  word_slices: {dogs: [DOG]}
"""

pytestmark = [
    pytest.mark.slow(reason="runs the whole pipeline on photographs"),
    pytest.mark.shared_data,
]


def translate(caption: str) -> str:
    """One or two characters for each word, without spaces."""
    return "".join(map(_characters, caption.lower().split())).replace("。。", "。")


def _characters(word: str) -> str:
    if not word.isalpha():
        return "。" if word == "." else ""
    number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
    characters = chr(0x4E00 + number % 2000) + chr(0x5600 + number // 2000 % 2000)
    return characters if len(word) > 4 else characters[0]


@dataclass(frozen=True)
class Run:
    """What the run left.

    Attributes:
      folders: Its folders.
      outputs: Outputs of its nodes.
      printed: What it printed.
      summary: Verdict on its model.
    """

    folders: RunFolders
    outputs: dict[str, dict[str, NodeOutput]]
    printed: str
    summary: EvaluationSummary

    @property
    def evaluation(self) -> str:
        """Folder of the evaluation."""
        return str(self.outputs["CaptionEvaluator.resnet_gru"]["evaluation"].uri)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of each split of Flickr8k in its own layout, with translated captions."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "Images").mkdir()
    chosen = set()
    for split, size in SIZES.items():
        file = f"Flickr_8k.{split}Images.txt"
        names = (FLICKR8K / file).read_text(encoding="utf-8").split()[:size]
        (folder / file).write_text("\n".join(names), encoding="utf-8")
        for name in names:
            # The rest of the photographs is in the smaller data set.
            places = (DATA / form / "Images" / name for form in ("flickr8k", "flickr8k-mini"))
            (folder / "Images" / name).symlink_to(next(path for path in places if path.is_file()))
        chosen |= set(names)
    lines = (FLICKR8K / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines()
    captions = (line.split("\t") for line in lines)
    translated = [f"{key}\t{translate(caption)}" for key, caption in captions if key[:-2] in chosen]
    assert len(translated) == 5 * sum(SIZES.values())
    (folder / "Flickr8k.token.txt").write_text("\n".join(translated) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    preset = folder / "unspaced.yaml"
    preset.write_text(PRESET.replace("DOG", translate("dog")), encoding="utf-8")
    folders = RunFolders(folder / "root")
    done = _command("run", preset, "--data", photographs, "--run-root", folders.root)
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = latest_outputs(open_store(folders.metadata), "unspaced")
    uri = outputs["CaptionEvaluator.resnet_gru"]["evaluation"].uri
    return Run(folders, outputs, done.stdout, read_summary(uri))


def _command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tfx_captioner.pipeline.cli", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=900
    )


def test_every_character_is_a_word_of_the_vocabulary(run: Run) -> None:
    uri = Path(run.outputs["Transform"]["transform_graph"].uri)
    words = (uri / "transform_fn" / "assets" / "caption_vocabulary").read_text("utf-8").split()
    assert len(words) > 300
    assert all(len(word) == 1 and scripts.is_unspaced(word) for word in words)
    assert translate("dog") in words


def test_scores_are_of_characters_and_say_so(run: Run) -> None:
    scores = run.summary.scores[OVERALL]
    assert (run.summary.language, run.summary.segmentation) == ("zh", "characters")
    assert run.summary.verdict.blessed
    assert scores["bleu_1"] > 0.1
    assert scores["rouge_l"] > 0.1
    assert run.summary.context[HUMAN][OVERALL]["bleu_1"] > 0.3
    assert read_statistics(run.evaluation).language == "zh"
    assert "language zh, counted in characters" in " ".join(run.printed.split())
    report = Path(run.outputs["EvaluationReport"]["pages"].uri) / "resnet_gru" / "report.html"
    assert "counted in characters" in report.read_text(encoding="utf-8")


def test_what_is_english_is_not_available_and_the_rest_is(run: Run) -> None:
    assert "English alone" in run.summary.unavailable["meteor"]
    assert {"dangling_captions", "slice people", "slice outdoor"} <= set(run.summary.unavailable)
    assert {"dogs: yes", "dogs: no"} <= set(run.summary.scores)
    assert not any(name.startswith("people") for name in run.summary.scores)
    assert read_references_summary(run.outputs["ReferenceScorer"]["references"].uri).warning == ""


def test_references_against_themselves_score_1(run: Run) -> None:
    references = read_references(run.evaluation)
    scores = score(
        references,
        {image_id: texts[0] for image_id, texts in references.items()},
        with_meteor=False,
        language="zh",
    )
    for metric in ("bleu_1", "bleu_4", "rouge_l"):
        assert scores[metric] == pytest.approx(1.0)


@pytest.fixture(scope="module")
def server(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of the local server with the pushed models."""
    config.write_all(run.folders.serving)
    endpoint = launcher.free_endpoint()
    argv = launcher.command("local", run.folders.serving, endpoint)
    log = tmp_path_factory.mktemp("log") / "server.log"
    with launcher.running(argv, endpoint, log) as process:
        process.wait_until_available(config.find_models(run.folders.serving), timeout=240)
        yield endpoint.rest_url


def test_what_is_served_is_what_was_scored(run: Run, photographs: Path, server: str) -> None:
    captions = read_captions(run.evaluation)
    names = sorted(captions)[:3]
    done = _command(
        "caption", *(photographs / "Images" / name for name in names), "--server", server
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line)["caption"] for line in done.stdout.splitlines()]
    assert answers == [captions[name] for name in names]
    for caption in answers:
        assert len(caption) >= 4
        assert " " not in caption
        assert scripts.is_unspaced(caption)
