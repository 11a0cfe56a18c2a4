"""Fingerprint of the user code behind a dotted path.

TFX's cache knows a node's inputs and execution properties, but not the code behind
`run_fn="tfx_captioner.models.trainer.run_fn"`. The fingerprint goes into the execution properties,
so that an edit of code a node runs invalidates that node, and one of other code does not.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import tfx_captioner

PACKAGE = tfx_captioner.__name__
# Rooms whose code runs inside nodes. `pipeline` is left out: it only wires the nodes.
ROOMS = ("components", "ingestion", "metrics", "models", "schema", "serving")
_ROOT = Path(tfx_captioner.__file__).parents[1]


class _RoomFinder(ModuleFinder):
    """Finds modules of the rooms alone: where they are installed, TensorFlow lies beside them."""

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:
        is_top_level = path is None
        is_room = parent is not None and parent.__name__ == PACKAGE
        if (is_top_level and name != PACKAGE) or (is_room and name not in ROOMS):
            raise ImportError(name)
        return super().find_module(name, path, parent)


@functools.cache
def code_fingerprint(*modules: str, root: Path = _ROOT) -> str:
    """Hash of modules and of all of this project's modules they import, also inside functions.

    The syntax trees are hashed, so comments, docstrings and layout do not count; so are the
    `templates/` beside a module that is reached.

    Args:
      modules: Dotted names, such as `models.trainer`.
      root: Folder that holds the package.

    Raises:
      ImportError: A module is not in this project.
    """
    finder = _RoomFinder(path=[str(root)])
    for module in modules:
        finder.import_hook(module)
        # `import_hook("a.b.c")` of a missing attribute would pass silently otherwise.
        if module not in finder.modules:
            raise ImportError(f"{module} is not a module of {root}.")
    digest = hashlib.sha256()
    for name, reached in sorted(finder.modules.items()):
        source = getattr(reached, "__file__", None)
        if not source:
            continue
        path = Path(source)
        digest.update(f"{name}\n{_code(path)}\n".encode())
        for template in sorted((path.parent / "templates").glob("*")):
            digest.update(template.read_bytes())
    return digest.hexdigest()[:16]


def _code(path: Path) -> str:
    """What a module does: its syntax tree without docstrings."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)
