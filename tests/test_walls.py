"""The walls of the house: every module stands on a floor, and imports go down, or sideways within a room in no circle.

An import inside a function counts like one at the top: it hides a circle from Python, not from whoever reads the code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("version", "errors", "schemas", "random"),
    ("strangers",),
    ("settings",),
    ("arguments", "presets", "config", "config_file", "config_hash", "dropout"),
    ("arithmetic", "duration", "keywords", "language", "options", "schedule", "shown", "suggestion"),
    ("gpt", "generation", "corpus", "machine"),
    ("runs",),
    (
        "training.draws", "training.distributed", "training.numerics", "training.optimizer", "training.muon",
        "training.verification", "training.checkpoint",
    ),
    ("evaluation.same_targets", "evaluation.losses", "evaluation.splits"),
    ("training",),
    ("runs.readers",),
    ("comparison",),
    ("references", "forecasting"),
    ("gating",),
    ("evaluation", "sampling"),
    ("parity", "pace"),
    ("kernels",),
    ("attribution",),
    ("tuning",),
    ("report",),
    ("api",),
    ("cli", "gating.pytest_plugin"),
    ("", "__main__"),
)  # fmt: skip
"""From the ground up. A longer name wins over the room that it stands in."""

UPWARD: frozenset[tuple[str, str]] = frozenset()
"""Arrows that may run up, each with its reason beside it."""


def modules() -> dict[str, Path]:
    """Path of every module, by its name below `lossgap`."""
    found = {}
    for path in sorted((SOURCE / "lossgap").rglob("*.py")):
        parts = path.relative_to(SOURCE / "lossgap").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def targets(tree: ast.AST, known: Iterable[str]) -> set[str]:
    """The modules of lossgap that a file imports, wherever in it; `from lossgap import x` names x where that is one."""
    names = {f"lossgap.{name}" if name else "lossgap" for name in known}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                longer = f"{node.module}.{alias.name}"
                found.add(longer if longer in names else node.module)
    return {name.removeprefix("lossgap").removeprefix(".") for name in found & names}


def arrows() -> dict[str, set[str]]:
    """What every module imports of lossgap."""
    paths = modules()
    return {name: targets(ast.parse(path.read_text(encoding="utf-8")), paths) - {name} for name, path in paths.items()}


def floor(name: str) -> int | None:
    """The floor of a module, by the longest name that it is or stands below."""
    found = [
        (len(room), level)
        for level, rooms in enumerate(FLOORS)
        for room in rooms
        if name == room or (room and name.startswith(f"{room}."))
    ]
    return max(found)[1] if found else None


def upward(graph: Mapping[str, set[str]]) -> set[tuple[str, str]]:
    """Arrows from a floor to a higher one."""
    return {(a, b) for a, names in graph.items() for b in names if (floor(a) or 0) < (floor(b) or 0)}


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Modules that import each other, directly or through others (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph.get(name, ()):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            whole = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(whole) > 1:
                found.append(sorted(whole))

    for name in graph:
        if name not in index:
            visit(name)
    return found


def test_every_module_stands_on_a_floor() -> None:
    assert [name for name in modules() if floor(name) is None] == []


def test_no_arrow_runs_up() -> None:
    found = upward(arrows())
    assert found - UPWARD == set()
    assert UPWARD - found == set(), "an exception that nothing needs any more"


def test_no_modules_import_each_other() -> None:
    graph = {name: {other for other in names if (name, other) not in UPWARD} for name, names in arrows().items()}
    assert circles(graph) == []


@pytest.mark.parametrize(
    ("planted", "breaks_floor", "makes_circle"),
    [
        (("comparison.facts", "training.train"), False, False),
        (("runs.run", "comparison.facts"), True, True),
        (("training.train", "cli.train"), True, True),
        (("comparison.curve", "comparison.facts"), False, True),
    ],
)
def test_a_planted_arrow_is_seen(planted: tuple[str, str], breaks_floor: bool, makes_circle: bool) -> None:
    graph = arrows()
    graph[planted[0]] = graph[planted[0]] | {planted[1]}
    assert (planted in upward(graph)) is breaks_floor
    assert bool(circles({a: {b for b in names if (a, b) not in UPWARD} for a, names in graph.items()})) is makes_circle
