"""`import lossgap` offers every call of api.py and every type that one of them returns."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import lossgap

API = ast.parse((Path(lossgap.__file__).parent / "api.py").read_text(encoding="utf-8"))
OWN = {"takes", "certify"}
"""The decorator that gives a call its options, and what the command line alone passes on."""
CALLS = {
    node.name: node
    for node in API.body
    if isinstance(node, ast.FunctionDef)
    and not node.name.startswith("_")
    and not node.name.endswith("_given")
    and node.name not in OWN
}


def test_there_are_calls() -> None:
    assert {"train", "compare", "explain", "record", "replay", "canary", "gate", "baseline"} <= CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_a_call_and_what_it_returns_are_public(name: str) -> None:
    assert name in lossgap.__all__
    returns = CALLS[name].returns
    assert returns is not None
    names = {node.id for node in ast.walk(returns) if isinstance(node, ast.Name)} - {"Sequence", "str"}
    assert names <= set(lossgap.__all__)


@pytest.mark.parametrize("name", lossgap.__all__)
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(lossgap, name) is not None
