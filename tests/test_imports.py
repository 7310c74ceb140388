"""pytest tests/test_imports.py - dependencies point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUNS_A_TEACHER = ("pipeline.teacher", "pipeline.caching")  # the rooms


def imports_of(path: Path) -> set[str]:
    """Modules that a file names in an import, at any depth of nesting."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def reachable(module: str) -> set[str]:
    """Our modules that a module imports, directly or not."""
    seen: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        folder = ROOT / name.replace(".", "/")
        path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        if name in seen or not path.exists():
            continue
        seen.add(name)
        todo.extend(each for each in imports_of(path) if each.startswith(("pipeline", "stages")))
    return seen


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline").rglob("*.py")), ids=str)
def test_the_machinery_knows_no_command_line(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports_of(path)}
    assert not roots & {"click", "rich", "stages"}
    calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
    assert not [call for call in calls if isinstance(call, ast.Name) and call.id == "print"]


def test_stage_two_never_imports_what_runs_a_teacher() -> None:
    assert not [name for name in reachable("stages.student") if name.startswith(RUNS_A_TEACHER)]
    assert reachable("stages.cache") >= {"pipeline.teacher.forward", "pipeline.caching.build"}


@pytest.mark.parametrize("path", sorted((ROOT / "pipeline" / "store").glob("*.py")), ids=str)
def test_the_store_knows_no_models(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports_of(path)}
    at_the_edge = {"torch"} if path.name == "split.py" else set()  # tensors for other programs
    assert not roots & ({"torch", "transformers", "accelerate"} - at_the_edge)
    ours = {name for name in imports_of(path) if name.startswith("pipeline.")}
    allowed = ("digests", "errors", "files", "locks", "progress", "store")
    assert all(name.split(".")[1] in allowed for name in ours), ours


def test_losses_know_no_files() -> None:
    assert not reachable("pipeline.losses") & {"pipeline.files", "pipeline.store.reader"}


@pytest.mark.parametrize(
    "module", ["stages.data", "stages.teacher", "stages.cache", "stages.student"]
)
def test_help_needs_no_heavy_library(module: str) -> None:
    heavy = ("torch", "transformers", "zarr", "pyarrow", "numpy", "datasets")
    more = ("hashlib", "pipeline.store.manifest")  # a fifth of what is left
    code = f"import {module}, sys; print([m for m in {heavy + more} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "[]"
