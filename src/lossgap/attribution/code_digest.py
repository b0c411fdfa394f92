"""A digest of what code does, which moving, reformatting or commenting it does not change.

Cached arms are keyed by the code that trained and measured them. What counts is the syntax tree without docstrings and
imports, so a file that moves to another room, or a comment that is reworded, retrains nothing.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path


def code_digest(paths: Iterable[Path]) -> str:
    """SHA-256 (hex) of the code in Python files, whatever their names and order. Raises OSError, SyntaxError."""
    parts = sorted(hashlib.sha256(_meaning(path.read_text(encoding="utf-8")).encode()).hexdigest() for path in paths)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _meaning(text: str) -> str:
    return ast.dump(_Meaning().visit(ast.parse(text)))


class _Meaning(ast.NodeTransformer):
    """Drops imports and every bare string: docstrings, and the texts below constants."""

    def visit_Import(self, node: ast.Import) -> None:
        """Dropped: a module's place is not what it does."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Dropped, as above."""

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """Dropped where it is a string alone."""
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return node
