"""Every command line in README.md is one that lossgap takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lossgap import suggestion

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
COMMANDS = [
    *re.findall(r"^lossgap [a-z]+ .*$", README, flags=re.MULTILINE),
    *(text for text in re.findall(r"`(lossgap [a-z]+ [^`]+)`", README) if "\n" not in text),
]


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_parses(line: str) -> None:
    _, verb, *words = shlex.split(line.replace(">", " ").rstrip("."), comments=True)
    if "--help" not in words:
        suggestion.check(verb, ["--out" if word == "-o" else word for word in words])
