"""Answers in another language: the catalogue is complete, names stay as they are, English stays what it was."""

from __future__ import annotations

import re
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from comparison.made import GPU, LAPTOP, curve, run
from hypothesis import example, given
from hypothesis import strategies as st

import lossgap
from lossgap.cli.main import COMMANDS, main
from lossgap.comparison import compare
from lossgap.comparison.comparison import Comparison
from lossgap.comparison.rules import rules
from lossgap.language import LANGUAGES, SOURCE, catalogue, of_environment, say, spoken, template
from lossgap.report import comparison_view, words
from lossgap.report.blocks import Claims, Fold, Headline, Judgement, Suggestion
from lossgap.report.wide_text import broken, columns

ROOT = Path(__file__).parent.parent
EXAMPLES = (ROOT / "examples/cpu-vs-gpu/laptop.toml", ROOT / "examples/cpu-vs-gpu/rtx4070ti.toml")
OTHERS = [code for code in LANGUAGES if code != SOURCE]
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


def comparisons() -> Iterator[Comparison]:
    yield lossgap.compare(*EXAMPLES)
    for changes in ({"dropout": 0.2}, {"max_iters": 1000}, {"learning_rate": 3e-4}, {"weight_decay": 0.3}, {}):
        for end in (1.7, 1.89, 1.8901, 2.3):
            yield compare(run(curve(1.89), config=LAPTOP), run(curve(end), config=LAPTOP | changes), sources=("a", "b"))
    yield compare(run(curve(1.89), config=LAPTOP), run(curve(1.70), config=GPU), sources=("a", "b"))
    yield compare(run(curve(1.89), config={}), run(curve(1.70), config={}), sources=("a", "b"))


def names_of(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name)


@pytest.mark.parametrize("code", OTHERS)
def test_entries_have_the_names_of_their_source(code: str) -> None:
    for source, said in catalogue(code).items():
        optional = {"rest"}  # the rest of a sentence may be left out
        assert set(names_of(said)) | optional == set(names_of(source)) | optional, source
        assert said != source


@pytest.mark.parametrize("code", OTHERS)
def test_every_title_verdict_and_verb_has_an_entry(code: str) -> None:
    wanted = [*(rule.title for rule in rules()), *words.WORDS.values(), *COMMANDS.values()]
    wanted += [*comparison_view._NO_CAUSE.values(), *comparison_view._AGAINST_RECIPE.values()]
    assert [text for text in wanted if text not in catalogue(code)] == []


@pytest.mark.parametrize("code", OTHERS)
def test_every_answer_is_said(code: str) -> None:
    """Each sentence of an answer, its verdict, labels, causes and the titles below it."""
    missing = set()
    for found in comparisons():
        view = comparison_view.view(found)
        texts = list(found.answer.sentences)
        for block in view.first:
            texts.append(getattr(block, "title", ""))
            if isinstance(block, Judgement):
                texts.append(block.text)
            elif isinstance(block, Claims):
                texts += [item.brief or item.title for item in block.items]
        texts += [block.title for block in view.rest if isinstance(block, Fold)]
        with spoken(code):
            missing |= {text for text in texts if text and say(text) == text}
    assert missing == set()


def test_english_is_the_default_and_unchanged(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *map(str, EXAMPLES)]) == 0
    plain = capsys.readouterr().out
    assert main(["compare", *map(str, EXAMPLES), "--lang=en"]) == 0
    assert capsys.readouterr().out == plain
    assert not JAPANESE.search(plain)
    assert plain == lossgap.compare(*EXAMPLES).text() or plain.split() == lossgap.compare(*EXAMPLES).text().split()


def test_an_answer_in_japanese(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["compare", *map(str, EXAMPLES), "--lang=ja", f"--html={page}"]) == 0
    said = capsys.readouterr().out
    assert "RTX 4070 Ti の損失は laptop より 0.19 低く、偶然の範囲を超えています。" in said.replace("\n", "")
    assert "CPU に問題があることを示す証拠はありません。" in said.replace("\n", "")
    assert "  $ lossgap explain " in said
    assert len(said.splitlines()) <= 24
    assert all(columns(line) <= 80 for line in said.splitlines())
    text = page.read_text(encoding="utf-8")
    assert '<html lang="ja">' in text
    assert "偶然の範囲を超えています" in text


def test_json_is_english_in_every_language(capsys: pytest.CaptureFixture[str]) -> None:
    for code in LANGUAGES:
        assert main(["compare", *map(str, EXAMPLES), "--json", f"--lang={code}"]) == 0
        assert not JAPANESE.search(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"LANG": "ja_JP.UTF-8"}, "ja"),
        ({"LANG": "ja_JP.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LC_MESSAGES": "ja"}, "ja"),
        ({}, "en"),
    ],
)
def test_the_locale_decides(environ: dict[str, str], code: str) -> None:
    assert of_environment(environ) == code


def test_help_speaks_the_locales_language(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lossgap"]
    env = {"PYTHONPATH": str(ROOT / "src"), "LANG": "ja_JP.UTF-8", "PYTHONUTF8": "1", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True, encoding="utf-8")
    assert "使い方" in done.stdout


def test_an_unknown_language_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "--lang=xx"]) == 1
    assert "[unknown-language]" in capsys.readouterr().err


@given(st.lists(st.text(min_size=1, max_size=8), min_size=3, max_size=3))
def test_strangers_names_are_not_translated(names: list[str]) -> None:
    """A name that is a word of the catalogue, or holds braces, stands in the sentence as it is."""
    item = template("{lower} ends {by} lower than {other}, beyond chance.", "{other}/{by}/{lower}")
    assert item is not None
    first, by, second = names
    values = item.values(f"{first} ends {by} lower than {second}, beyond chance.")
    assert values is not None
    assert "".join(values.values()).replace(" ends ", "") != ""
    with spoken("ja"):
        said = say("verdict ends 0.2 lower than {said}, beyond chance; no cause that these records show.")
    assert said.startswith("verdict の損失は {said} より 0.2 低く")


@given(st.text(alphabet="あ漢。、 ab1", max_size=200), st.integers(8, 60))
@example("1111、、、あ、、 ", 16)  # a blank at the end takes no column that anybody sees
def test_breaking_loses_nothing_and_fits(text: str, width: int) -> None:
    lines = broken(text, width).split("\n")
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    if columns(text) > len(text):
        longest = max(map(len, re.findall(r"[ab1。、 ]+", text)), default=0)
        assert all(columns(line.rstrip()) <= max(width, 2 * longest + 2) for line in lines)


def test_blocks_keep_their_keys() -> None:
    view = comparison_view.view(lossgap.compare(*EXAMPLES))
    from lossgap.language import translated

    with spoken("ja"):
        said = translated(view)
    for before, after in zip(view.first, said.first, strict=True):
        if isinstance(before, Judgement) and isinstance(after, Judgement):
            assert (before.word, before.number) == (after.word, after.number)
        if isinstance(before, Suggestion) and isinstance(after, Suggestion):
            assert before.command == after.command
        if isinstance(before, Headline) and isinstance(after, Headline):
            assert JAPANESE.search(after.text)
    assert [item.name for item in view.subjects] == [item.name for item in said.subjects]
