"""Every command line in README.md is one that lossgap takes, and what stands below a command is what it prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lossgap import suggestion
from lossgap.cli.main import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
COMMANDS = [
    *re.findall(r"^(?:\$ )?lossgap [a-z]+ .*$", README, flags=re.MULTILINE),
    *(text for text in re.findall(r"`(lossgap [a-z]+ [^`]+)`", README) if "\n" not in text),
]


SHOWN = [
    (name, *re.match(r"\$ lossgap (.*)\n((?:.*\n)*)", block).groups())  # type: ignore[union-attr]
    for name in ("README.md", "README.ja.md")
    if (ROOT / name).exists()
    for block in re.findall(r"^```console\n(.*?)^```$", (ROOT / name).read_text("utf-8"), re.MULTILINE | re.DOTALL)
]
"""File, command and output of each block with a prompt."""
DETERMINED = ("read", "compare")
"""Commands whose output depends on nothing but files of this project."""


@pytest.mark.parametrize(("file", "line", "output"), SHOWN)
def test_what_a_command_prints(
    file: str, line: str, output: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [word for word in shlex.split(line) if not word.startswith("--lang")]
    suggestion.check(words[0], words[1:])
    assert 1 <= len(output.splitlines()) <= 10, "ten lines at most"
    if words[0] in DETERMINED:
        monkeypatch.chdir(ROOT)
        assert main(shlex.split(line)) == 0
        printed = [text.rstrip() for text in capsys.readouterr().out.splitlines()]
        places = [printed.index(text) for text in output.splitlines() if text != "..."]
        assert places == sorted(places)


def test_five_commands_are_shown_and_two_are_held() -> None:
    shown = [line.split()[0] for file, line, _ in SHOWN if file == "README.md"]
    assert len(shown) == 5
    assert set(DETERMINED) <= set(shown)


def test_pictures_are_there_and_ask_no_network() -> None:
    for name in re.findall(r'(?:srcset|src)="([^"]+)"', README):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "RTX" in text
        assert not re.search(r"@font-face|url\(\"?http|href=\"http", text)
    assert "prefers-color-scheme: dark" in README


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_parses(line: str) -> None:
    _, verb, *words = shlex.split(line.removeprefix("$ ").replace(">", " ").rstrip("."), comments=True)
    if "--help" not in words:
        suggestion.check(verb, ["--out" if word == "-o" else word for word in words])
