"""Docstrings and messages read as an engineer writes them: with a subject, and without translated idiom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/lossgap"
FINISHED = tuple(sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()))
"""All rooms; the files beside them are held to it too."""
FRAGMENTS = ("Of ", "Whether ", "What ")


def finished_files() -> list[Path]:
    return [*PACKAGE.glob("*.py"), *(path for room in FINISHED for path in (PACKAGE / room).rglob("*.py"))]


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every string that stands alone: docstrings of modules, classes, functions and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value.strip()


def fragments(source: str) -> list[str]:
    """The docstrings without a subject."""
    return [f"{line}: {text[:60]}" for line, text in docstrings(ast.parse(source)) if text.startswith(FRAGMENTS)]


@pytest.mark.parametrize("begin", FRAGMENTS)
def test_a_fragment_is_found_in_every_place(begin: str) -> None:
    text = f'"""{begin}it."""'
    source = f"{text}\nclass A:\n    {text}\n    x: int\n    {text}\n    def f(self):\n        {text}\n"
    assert len(fragments(source)) == 4


def test_docstrings_have_a_subject() -> None:
    found = {str(path.relative_to(ROOT)): fragments(path.read_text(encoding="utf-8")) for path in finished_files()}
    assert len(found) > 250
    assert {path: lines for path, lines in found.items() if lines} == {}
