"""Comparing needs no torch: every module of the room is imported without it, whatever is asked of it later."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import lossgap.comparison

ROOM = Path(lossgap.comparison.__file__).parent
ROOMS_WITH_TORCH = (
    "torch",
    "lossgap.training",
    "lossgap.evaluation",
    "lossgap.gpt",
    "lossgap.attribution",
    "lossgap.parity",
)


def names_of(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_module_names_what_needs_torch() -> None:
    wrong = {
        f"{path.relative_to(ROOM)}: {name}"
        for path in ROOM.rglob("*.py")
        for name in names_of(path)
        if any(name == room or name.startswith(f"{room}.") for room in ROOMS_WITH_TORCH)
    }
    assert not wrong


def test_importing_all_of_them_loads_no_torch() -> None:
    modules = [
        ".".join(("lossgap.comparison", *path.relative_to(ROOM).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(ROOM.rglob("*.py"))
    ]
    assert len(modules) > 20
    code = "import importlib, sys; [importlib.import_module(m) for m in sys.argv[1:]]; sys.exit('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr.decode()
