"""Runs a script of this folder by a Python that has PyTorch, in turns with the bench that asks.

PyTorch is no dependency of this project; the bench goes on without it where it is not found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

VENV = Path(".tools/torch")
HOW_TO_GET_IT = f"python3.11 -m venv {VENV} && {VENV}/bin/pip install torch==2.13.0 numpy"


def find_torch(python: str | None) -> tuple[str | None, str]:
    """The interpreter that has PyTorch, or None, and which version, or why there is none.

    Args:
      python: What the user named, if any; else that of `VENV` is tried.
    """
    chosen = python or str(VENV / "bin/python")
    try:
        found = subprocess.run(
            [chosen, "-c", "import torch; print(torch.__version__)"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        reason = f"{chosen}: {error.strerror}"
    else:
        if found.returncode == 0:
            return chosen, found.stdout.strip()
        reason = f"{chosen}: {(found.stderr.strip().splitlines() or ['no answer'])[-1]}"
    return None, f"PyTorch left out ({reason}). To have it: {HOW_TO_GET_IT}"


class TorchProcess:
    """A script that answers each line of JSON on its standard input with one on its output.

    Args:
      python: Path that `find_torch` gave.
      module: Name of the script in this folder.
      folder: Where its inputs are written.
      settings: Sizes of the decoder and whatever else the script takes, JSON-able.
      arrays: Weights and data.
      threads: Threads it may use; 0 leaves that to PyTorch.
    """

    def __init__(
        self,
        python: str,
        module: str,
        folder: Path,
        settings: dict[str, Any],
        arrays: dict[str, np.ndarray],
        threads: int,
    ):
        path = folder / f"{module}.npz"
        np.savez(path, **arrays)
        self._process = subprocess.Popen(
            [python, "-m", f"bench.pytorch.{module}", str(path), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {}),
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        """The answer to a question.

        Raises:
          RuntimeError: The script ended; what it said is on the standard error.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"The PyTorch side ended with {process.wait()}.")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the script."""
        self._process.communicate()


def serve(answer: Callable[..., dict[str, Any]]) -> None:
    """Answers the questions of a `TorchProcess` until it has no more.

    Args:
      answer: A function from the fields of a question to those of its answer.
    """
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)
