"""Rules of the house that a machine can hold: docstrings, messages, imports, the public names, file sizes."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lossgap

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "lossgap").rglob("*.py"))
MESSAGES = ROOT / "docs" / "messages.md"
MAX_LINES = 450
SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)+")


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for path in SOURCES:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def public_definitions(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield f"{inside}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node, f"{inside}{node.name}.")


def test_every_public_name_has_a_docstring() -> None:
    missing = [
        f"{path.relative_to(ROOT)}:{name}"
        for path, tree in modules()
        for name, node in [("module", tree), *public_definitions(tree)]
        if not ast.get_docstring(node)  # type: ignore[arg-type]  # all of these can have one
    ]
    assert not missing


def slugs_in_code() -> set[str]:
    """First arguments of every error and warning, and of the functions that make them."""
    found = set()
    for _, tree in modules():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0]
            makes_message = called.endswith("Error") or called in ("warn", "_bad_setting")
            if makes_message and isinstance(first, ast.Constant) and SLUG.fullmatch(str(first.value)):
                found.add(str(first.value))
    return found


def test_every_message_is_explained_and_every_explanation_has_its_message() -> None:
    explained = re.findall(r"^## ([a-z0-9-]+)$", MESSAGES.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(explained) == len(set(explained)), "a slug is explained twice"
    everywhere = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    assert slugs_in_code() <= set(explained), sorted(slugs_in_code() - set(explained))
    assert all(f'"{slug}"' in everywhere for slug in explained), [s for s in explained if f'"{s}"' not in everywhere]


def test_public_names_are_sorted_and_there() -> None:
    assert lossgap.__all__ == sorted(lossgap.__all__)
    assert all(getattr(lossgap, name) is not None for name in lossgap.__all__)


def test_no_public_name_is_that_of_a_room() -> None:
    """Importing the room `lossgap.x` sets the attribute `x` of the package, which would hide the function."""
    rooms = {module.name for module in pkgutil.iter_modules(lossgap.__path__)}
    assert not rooms & set(lossgap.__all__)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["train", "--help"], ["runs"], ["--version"], ["nonsense"]], ids=lambda a: " ".join(a)
)
def test_what_reads_no_weights_never_imports_torch(arguments: list[str], tmp_path: Path) -> None:
    code = f"import sys; from lossgap.cli.main import main; main({arguments!r}); sys.exit('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr.decode()


def test_files_stay_small() -> None:
    sizes = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert not {name: size for name, size in sizes.items() if size > MAX_LINES}


VERBS = {"bench", "compare", "explain", "forecast", "record", "replay", "train", "tune"}
"""A verb's command line in cli/ and the function that does it, in its own room, may share a name."""


def test_a_class_name_means_one_thing() -> None:
    homes: dict[str, list[str]] = {}
    for path, tree in modules():
        for node in ast.iter_child_nodes(tree):
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_a_file_name_means_one_thing() -> None:
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        homes.setdefault(path.stem, []).append(str(path.relative_to(ROOT)))
    own = {"__init__", "__main__", *VERBS}
    assert {stem: places for stem, places in homes.items() if len(places) > 1 and stem not in own} == {}


def test_the_map_names_every_file() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = dict(re.findall(r"^### `([a-z_/]+)/`\n(.*?)(?=^### |\Z)", text, re.MULTILINE | re.DOTALL))
    missing, named = [], 0
    for path in SOURCES:
        if path.name == "__init__.py":
            continue
        room = path.parent.relative_to(ROOT / "src" / "lossgap").as_posix()
        listed = re.findall(r"^(\w+\.py)", rooms.get("lossgap" if room == "." else room, ""), re.MULTILINE)
        missing += [] if path.name in listed else [f"{room}/{path.name}"]
        named += 1
    assert not missing
    every = sum(len(re.findall(r"^\w+\.py", listed, re.MULTILINE)) for listed in rooms.values())
    assert every == named, "the map names a file that is not there"


def test_no_room_is_called_utils() -> None:
    forbidden = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
    assert not {path.stem for path in SOURCES} & forbidden
