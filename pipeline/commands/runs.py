"""`captioner runs`: what was run, what came of it, and what was pushed."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfx_captioner.pipeline.errors import UserError
from tfx_captioner.pipeline.evaluations import RUNS, read_verdict

if TYPE_CHECKING:
    from rich.console import Console

    from tfx_captioner.pipeline.runs import PastRun

HELP = "List past runs: data, scores, verdict, what was pushed."
EXAMPLES = """\
examples:
  captioner runs                       all runs under runs/
  captioner runs runs/flickr8k         those of one run root
  captioner runs --json | jq '.[-1].models'

`data` are fingerprints of the captions of the train split and of the evaluated one: scores compare
where the second is equal.
"""

_METRICS = {"bleu_4": "BLEU-4", "meteor": "METEOR", "rouge_l": "ROUGE-L", "cider_d": "CIDEr-D"}
_EVALUATOR, _PUSHER, _SELECTOR = "CaptionEvaluator.", "Pusher", "ModelSelector"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "root", nargs="?", type=Path, metavar="RUN", help="run root (default: all under runs/)"
    )
    parser.add_argument("--json", action="store_true", help="full precision, for machines")


def run(arguments: argparse.Namespace) -> int:
    """Prints a table for each run root, the latest run last."""
    from tfx_captioner.pipeline.local_runner import RunFolders
    from tfx_captioner.pipeline.runs import open_store, past_runs

    if arguments.root:
        roots = [arguments.root]
    else:
        roots = sorted(root for root in RUNS.glob("*") if RunFolders(root).metadata.is_file())
        if not roots:
            raise UserError(f"No run was found under {RUNS.absolute()}. `captioner run` makes one.")
    listed = {
        root: [_facts(past) for past in past_runs(open_store(RunFolders(root).metadata))]
        for root in roots
    }
    if arguments.json:
        rows = [{"root": str(root)} | facts for root, runs in listed.items() for facts in runs]
        print(json.dumps(rows, indent=1))
        return 0

    from rich.console import Console

    console = Console(highlight=False)
    for root, runs in listed.items():
        console.rule(str(root), align="left", style="dim")
        for facts in runs:
            _show(console, facts)
    return 0


def _facts(past: PastRun) -> dict[str, Any]:
    """One run as plain data."""
    champion = _champion(past)
    return {
        "run": past.run_id,
        "pipeline": past.pipeline,
        "began": past.began / 1000,
        "seconds": (past.ended - past.began) / 1000,
        "state": _state(past),
        "models": {
            node.removeprefix(_EVALUATOR): _model(past, node, champion)
            for node in past.nodes
            if node.startswith(_EVALUATOR)
        },
    }


def _state(past: PastRun) -> str:
    from tfx_captioner.pipeline.runs import FAILED, RAN, UNFINISHED

    states = {node: execution.state for node, execution in past.nodes.items()}
    for state, words in ((FAILED, "failed at"), (UNFINISHED, "stopped at")):
        nodes = [node for node, found in states.items() if found == state]
        if nodes:
            return f"{words} {', '.join(nodes)}"
    # Resolvers have no artifacts of their own and run every time.
    ran = [node for node, found in states.items() if found == RAN and past.nodes[node].outputs]
    return "complete" if ran else "all cached"


def _model(past: PastRun, node: str, champion: str | None) -> dict[str, Any]:
    """What came of one model: data, scores, verdict (None without an evaluation), pushes."""
    name = node.removeprefix(_EVALUATOR)
    pushed = _pushed(past, f"{_PUSHER}.{name}")
    if name == champion:
        pushed += _pushed(past, _PUSHER)
    evaluation = past.nodes[node].outputs.get("evaluation")
    try:
        verdict = read_verdict(Path(evaluation.uri)) if evaluation else None
    except FileNotFoundError:
        verdict = None
    if verdict is None:
        return {"data": {}, "scores": {}, "blessed": None, "reasons": [], "pushed": pushed}
    return {
        "data": {
            "train": verdict.get("train_fingerprint", ""),
            verdict["split"]: verdict["split_fingerprint"],
        },
        "scores": verdict["scores"]["all images"],
        "blessed": verdict["verdict"]["blessed"],
        "reasons": [
            reason["text"] for reason in verdict["verdict"]["reasons"] if reason["passed"] is False
        ],
        "pushed": pushed,
    }


def _champion(past: PastRun) -> str | None:
    blessing = past.nodes[_SELECTOR].outputs.get("blessing") if _SELECTOR in past.nodes else None
    if blessing is None:
        return None
    try:
        selection = json.loads(Path(blessing.uri, "selection.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    champion: str | None = selection["champion"]
    return champion


def _pushed(past: PastRun, node: str) -> list[str]:
    """Where a Pusher of the run put the model: nowhere, or one place."""
    execution = past.nodes.get(node)
    artifact = execution.outputs.get("pushed_model") if execution else None
    if artifact is None or not artifact.properties.get("pushed"):
        return []
    return [str(artifact.properties["pushed_destination"])]


def _show(console: Console, facts: dict[str, Any]) -> None:
    """A run: when and how, a table of its models, and where it pushed them."""
    from rich.table import Table

    began = time.strftime("%Y-%m-%d %H:%M", time.localtime(facts["began"]))
    console.print(f"\n{began}  {facts['state']}, {facts['seconds']:.0f} s", style="bold")
    if not facts["models"]:
        return
    table = Table("model", box=None, padding=(0, 3, 0, 0))
    for heading in _METRICS.values():
        table.add_column(heading, justify="right")
    table.add_column("data", no_wrap=True)
    table.add_column("verdict")
    for name, model in facts["models"].items():
        scores = [model["scores"].get(metric) for metric in _METRICS]
        verdict = {True: "blessed", False: "not blessed", None: "none"}[model["blessed"]]
        table.add_row(
            name,
            *("-" if score is None else f"{100 * score:.1f}" for score in scores),
            " ".join(fingerprint[:6] or "-" for fingerprint in model["data"].values()),
            verdict,
        )
    console.print(table)
    for name, model in facts["models"].items():
        for reason in model["reasons"]:
            console.print(f"{name}: {reason}")
        places = [_place(destination) for destination in model["pushed"]]
        if places:
            console.print(f"{name} was pushed to {', '.join(places)}")


def _place(destination: str) -> str:
    """Name and version of what was pushed, and whether it still can be served."""
    from tfx_captioner.serving.versions import is_whole

    place = "/".join(Path(destination).parts[-2:])
    return place if is_whole(destination) else f"{place} (no longer there as a whole)"
