"""Every regular expression of the source is pumped: its time grows with the text and not with its square.

The patterns come from the source itself, so that a new one is pumped, too. An attack is made of the pattern: what
stands before one of its repetitions, then what it repeats, many times, then what it cannot match.
"""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import lossgap

# The standard library's own parser of patterns, which typeshed does not know.
op: Any = importlib.import_module("re._constants")
parser: Any = importlib.import_module("re._parser")

ROOT = Path(lossgap.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))
METHODS = ("match", "fullmatch", "search", "finditer", "findall", "sub", "split")
FUNCTIONS = ("compile", *METHODS)
SIZE = 1 << 14
"""Characters of an attack. A pattern that is linear takes about a millisecond for them, a quadratic one a second."""
FEW = (10, 12, 14, 16, 18, 40, 100, 300)
"""Characters, and 8 at the end, on which a pattern that is exponential or cubic takes seconds and not years."""
ALLOWED = 0.12
"""Seconds of this process's own CPU time."""
ENDS = ("", "\0", " x")


@dataclass(frozen=True)
class Pattern:
    where: str
    text: str | bytes
    flags: int
    methods: frozenset[str]


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for path in SOURCES:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def used() -> dict[tuple[str, str], set[str]]:
    """(file, name) -> the methods that are called on that name in the file, or where it is imported."""
    found: dict[tuple[str, str], set[str]] = {}
    for path, tree in sources():
        imported = {
            alias.asname or alias.name: (
                f"{node.module}".removeprefix("lossgap.").replace(".", "/") + ".py",
                alias.name,
            )
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in METHODS:
                name = getattr(node.value, "id", getattr(node.value, "attr", ""))
                place = imported.get(name, (str(path.relative_to(ROOT)), name))
                found.setdefault(place, set()).add(
                    "finditer" if node.attr in ("findall", "sub", "split") else node.attr
                )
    return found


def patterns() -> list[Pattern]:
    found, methods = [], used()
    for path, tree in sources():
        names = {
            id(node.value): target.id if isinstance(target, ast.Name) else ""
            for node in ast.walk(tree)
            for target in (node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)])
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
                continue
            if getattr(node.func.value, "id", "") != "re" or node.func.attr not in FUNCTIONS:
                continue
            module = importlib.import_module(".".join(path.relative_to(ROOT.parent).with_suffix("").parts))
            given = [node.args[0], *[item.value for item in node.keywords if item.arg == "flags"]]
            at = 1 if node.func.attr == "compile" else 2
            given += node.args[at : at + 1] if node.func.attr in ("compile", "match", "fullmatch", "search") else []
            try:
                names_there = vars(module) | {"name": "n_layer"}
                values = [eval(compile(ast.Expression(item), str(path), "eval"), names_there) for item in given]  # noqa: S307
            except NameError:
                raise AssertionError(f"{path}:{node.lineno}: a pattern is a constant of its module") from None
            own = (
                {node.func.attr}
                if node.func.attr != "compile"
                else methods.get((str(path.relative_to(ROOT)), names.get(id(node), "")), set(METHODS))
            )
            text = values[0].pattern if isinstance(values[0], re.Pattern) else values[0]
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            found.append(Pattern(where, text, int(values[1]) if len(values) > 1 else 0, frozenset(own)))
    return found


def characters(items: Any) -> list[str]:
    """A few characters of a class, of different kinds."""
    pattern = re.compile(_class(items))
    return [char for char in " a1.,:|'=(-_\t/{\\\x1b;é" if pattern.fullmatch(char)][:4] or ["a"]


def _class(items: Any) -> str:
    out = ""
    for kind, value in items:
        if kind is op.NEGATE:
            out = "^" + out
        elif kind is op.LITERAL:
            out += re.escape(chr(value))
        elif kind is op.RANGE:
            out += f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
        else:
            out += {"SPACE": r"\s", "NOT_SPACE": r"\S", "DIGIT": r"\d", "NOT_DIGIT": r"\D", "WORD": r"\w"}.get(
                str(value).removeprefix("CATEGORY_"), r"\W"
            )
    return f"[{out}]"


def sample(tree: Any) -> str:
    """A short text that the pattern matches, or nearly."""
    out = ""
    for kind, value in tree:
        if kind is op.LITERAL:
            out += chr(value)
        elif kind is op.IN:
            out += characters(value)[0]
        elif kind is op.NOT_LITERAL:
            out += "a" if chr(value) != "a" else "b"
        elif kind is op.ANY:
            out += "a"
        elif kind is op.BRANCH:
            out += sample(value[1][0])
        elif kind is op.SUBPATTERN:
            out += sample(value[3])
        elif kind is op.ATOMIC_GROUP:
            out += sample(value)
        elif kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            out += sample(value[2]) * max(value[0], 1 if value[1] else 0)
    return out


def pumped(tree: Any, before: str = "") -> Iterator[tuple[str, str]]:
    """(what stands before, what is repeated) for each repetition of a pattern."""
    for place, (kind, value) in enumerate(tree):
        head = before + sample(list(tree)[:place])
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT, op.POSSESSIVE_REPEAT):
            if value[1] > 8:
                yield from ((head, unit) for unit in units(value[2]))
            yield from pumped(value[2], head)
        elif kind is op.BRANCH:
            for branch in value[1]:
                yield from pumped(branch, head)
                yield head, sample(branch)
        elif kind is op.SUBPATTERN:
            yield from pumped(value[3], head)
        elif kind is op.ATOMIC_GROUP:
            yield from pumped(value, head)


def units(body: Any) -> list[str]:
    kind, value = body[0]
    if len(body) == 1 and kind is op.IN:
        return characters(value)
    if len(body) == 1 and kind in (op.ANY, op.NOT_LITERAL):
        return [" ", "a", "1"]
    return [sample(body)]


def attacks(pattern: Pattern) -> set[str]:
    text = pattern.text if isinstance(pattern.text, str) else pattern.text.decode("latin-1")
    tree = parser.parse(text, pattern.flags)
    whole = sample(tree)
    found = {("", unit) for unit in (" ", "a", "1", "1.", "1,", ", ", "'a': ", "|", "{", "\\", "- ", whole, whole[:-1])}
    found |= {(head, unit) for head, unit in pumped(tree)} | {("", head + unit) for head, unit in pumped(tree)}
    found |= {(head, unit + " ") for head, unit in pumped(tree)}
    return {
        head + unit * (SIZE // len(unit)) + end
        for head, unit in found
        if unit
        for end in (ENDS if len(unit) < 9 else ("", "x"))
    }


def took(pattern: Pattern, attack: str, method: str) -> float:
    data = attack if isinstance(pattern.text, str) else attack.encode("latin-1", "replace")
    run: Any = getattr(re.compile(pattern.text, pattern.flags), method)
    start = time.thread_time()
    found = run(data)
    if method == "finditer":
        for _ in found:
            pass
    return time.thread_time() - start


def slow(pattern: Pattern) -> str | None:
    methods = {"finditer" if name in ("findall", "sub", "split") else name for name in pattern.methods}
    for attack in sorted(attacks(pattern)):
        for method in sorted(methods - ({"search"} if "finditer" in methods else set())):
            # Small ones first, for a pattern that is exponential; the end of the attack decides whether it matches.
            for size in (*FEW, SIZE // 8, SIZE // 8, SIZE):
                text = attack[:size] + attack[-8:]
                spent = took(pattern, text, method)
                if size == SIZE // 8 and spent < ALLOWED / 80:
                    break
                if size != SIZE // 8 and spent > ALLOWED and (spent := took(pattern, text, method)) > ALLOWED:
                    return f"{pattern.where}: {pattern.text!r}.{method}({attack[:60]!r}... {size:,}): {spent:.2f} s"
    return None


ALL = patterns()


def test_patterns_are_found() -> None:
    places = {pattern.where.partition(":")[0] for pattern in ALL}
    assert {"runs/readers/decoding.py", "runs/readers/formats/llmc.py", "parity/bundle_file.py"} <= places
    assert len(ALL) > 150


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(r"\s*(\S.*?),?\s*\}?\s*", marks=pytest.mark.long),
        r"(a+)+b",
        r"\d+ms",
        r"a: (.*?)\s*(?=b|$)",
    ],
)
def test_a_pattern_that_is_not_linear_is_found(text: str) -> None:
    assert slow(Pattern("here", text, 0, frozenset({"fullmatch", "search"})))


@pytest.mark.parametrize("place", sorted({pattern.where.partition(":")[0] for pattern in ALL}))
def test_every_pattern_is_linear(place: str) -> None:
    found = [slow(pattern) for pattern in ALL if pattern.where.partition(":")[0] == place]
    assert not [line for line in found if line]
