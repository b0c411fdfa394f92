"""A stranger's text reaches a terminal as printable characters, whichever command shows it."""

from __future__ import annotations

import ast
import io
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from rich.text import Text
from runs.example import eval_row, iter_row, new_record

from lossgap.cli.main import main
from lossgap.report.terminal import Terminal
from lossgap.strangers import LAYOUT, guarded, one_line, short, shown, visible

SOURCES = sorted(Path(__file__).parents[1].joinpath("src", "lossgap").rglob("*.py"))
DRIVES = "\x1b[2J\x1b]0;owned\x07\x9b31m\x00\u202e\u2028\r\x08"
"""Clears the screen, names the window, colours (in one byte), ends a string, turns the reading direction, ..."""


def hostile(text: str) -> bool:
    return any(not char.isprintable() and char not in LAYOUT for char in text)


@given(st.text())
def test_nothing_that_is_shown_drives_a_terminal(text: str) -> None:
    assert visible(text).isprintable()
    assert not hostile(visible(text, LAYOUT))
    assert visible(visible(text)) == visible(text)
    assert one_line(text).isprintable()
    assert len(one_line(text, 40)) <= 40 * len(r"'\U0010ffff'")
    assert shown(text).isprintable()
    assert shown(text)
    assert short(text).isprintable()
    assert len(short([text, {text: text}])) <= 60


def test_short_stands_what_has_no_repr() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert short(deep) == "a very large list"
    assert short(10**5000) == "a very large int"


def test_the_guard_lets_nothing_through_and_goes_away(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with guarded():
        print(DRIVES, "a\tb\nc")
        print(DRIVES, file=sys.stderr)
        sys.stdout.writelines([DRIVES, "\n"])
    assert (sys.stdout, sys.stderr) == before
    printed = capsys.readouterr()
    assert "a\tb\nc" in printed.out
    assert r"\x1b[2J" in printed.err
    assert not hostile(printed.out + printed.err)


def test_the_guard_stands_an_encoding_without_the_character(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    with guarded():
        print("größer", flush=True)
    assert raw.getvalue() == b"gr\\xf6\\xdfer\n"


@pytest.mark.parametrize("colour", [False, True])
def test_a_terminal_shows_text_and_still_has_colours(colour: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR" if colour else "NO_COLOR", "1")
    monkeypatch.delenv("NO_COLOR" if colour else "FORCE_COLOR", raising=False)
    stream = io.StringIO()
    console = Terminal(file=stream, width=80)
    console.print(Text(DRIVES, style="red"), "[bold]x[/bold] :smile:", soft_wrap=True)
    said = stream.getvalue()
    assert "owned" in said
    assert "[bold]x[/bold] :smile:" in said
    if colour:
        said = said.replace("\x1b[31m", "", 1).replace("\x1b[0m", "", 1)
    assert not hostile(said)


def test_a_bar_still_moves_the_cursor() -> None:
    stream = io.StringIO()
    console = Terminal(file=stream, width=80)
    console._force_terminal = True
    with Progress(console=console, transient=True) as bar:
        bar.add_task(DRIVES, total=2)
    assert "\x1b[?25l" in stream.getvalue()  # the cursor hidden
    assert "\x1b]0;" not in stream.getvalue()


def test_only_the_terminal_of_ours_is_made() -> None:
    """A plain rich console would write a stranger's text as it is."""
    made = [
        f"{path.name}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Console"
    ]
    assert not made


def test_only_these_places_write_below_the_guard() -> None:
    """Exact bytes that the user asked for (sample), colours (terminal), and what a tracker says (trusted)."""
    words = ("unguarded", "trusted()", "__stdout__", "__stderr__")
    named = {path.name for path in SOURCES if any(word in path.read_text(encoding="utf-8") for word in words)}
    assert named == {"strangers.py", "sample.py", "terminal.py", "trackers.py"}


def poisoned(value: object) -> object:
    """`value` with something hostile after each text."""
    if isinstance(value, str):
        return value + DRIVES
    if isinstance(value, Mapping):
        return {str(name): poisoned(item) for name, item in value.items()}
    return [poisoned(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("strangers")
    poison_folder(folder / "runs" / f"named{DRIVES.replace(chr(0), '')}")
    poison_folder(folder / "plain", keep=("schema", "status"))
    log = ["Overriding: wandb_run_name = " + DRIVES, f"dataset = '{DRIVES}'", "tokens per iteration will be: 768"]
    log += [f"iter {at}: loss {4 - at / 100:.4f}, time 38.98ms, mfu 0.03%" for at in range(0, 200, 10)]
    log += [f"step {at}: train loss {4 - at / 100:.4f}, val loss {4.1 - at / 100:.4f}" for at in (0, 100, 200)]
    for name in ("a.log", f"b{DRIVES.replace(chr(0), '').replace('/', '')}.log"):
        (folder / name).write_text("\n".join([*log, "out_dir = " + DRIVES, DRIVES]), encoding="utf-8")
    rows = [{"step": at, "loss": 4 - at / 100, "val_loss" + DRIVES: 1.0, "name": DRIVES} for at in range(40)]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (folder / "rows.csv").write_text(f'step,loss,"{DRIVES[:6]}"\n1,2.0,{DRIVES[:6]}\n2,1.9,3\n', encoding="utf-8")
    (folder / "config.py").write_text(f"learning_rate = 1e-3 # {DRIVES.replace(chr(0), '')}\nx = '\x1b[2J'\n", "utf-8")
    (folder / "bad.py").write_text("learning_rate = '\x1b[2J\u202e'\n", encoding="utf-8")
    (folder / "bundle").write_bytes(DRIVES.encode() * 20)
    (folder / "ckpt.pt").write_bytes(DRIVES.encode() * 20)
    yield folder
    shutil.rmtree(folder)


def poison_folder(folder: Path, keep: tuple[str, ...] = ("schema",)) -> None:
    record = new_record(folder)
    for at in (0, 10):
        record.append(iter_row(at))
    record.append(eval_row(10))
    record.close()
    path = folder / "run.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({n: v if n in keep else poisoned(v) for n, v in document.items()}), encoding="utf-8")


COMMANDS = {
    "runs": ["runs", "."],
    "runs, one": ["runs", "plain"],
    "runs, none": ["runs", "NAMED"],
    "runs --json": ["runs", ".", "--json"],
    "read folder": ["read", "plain"],
    "read hostile folder": ["read", "RUN"],
    "read log": ["read", "a.log"],
    "read named log": ["read", "NAMED"],
    "read --json": ["read", "a.log", "--json"],
    "read jsonl": ["read", "rows.jsonl"],
    "read csv": ["read", "rows.csv"],
    "read bundle": ["read", "bundle"],
    "read argument": ["read", DRIVES],
    "read flag": ["read", "a.log", f"--{DRIVES}=1"],
    "read set": ["read", "a.log", "--set", f"dataset={DRIVES}"],
    "compare": ["compare", "a.log", "NAMED"],
    "compare folders": ["compare", "plain", "RUN"],
    "compare --json": ["compare", "a.log", "plain", "--json"],
    "explain": ["explain", "a.log", "NAMED", "--dry-run"],
    "explain folders": ["explain", "plain", "RUN", "--dry-run"],
    "record": ["record", "plain", "--out=x.lossgap"],
    "replay": ["replay", "bundle"],
    "replay argument": ["replay", DRIVES],
    "canary": ["canary", "plain"],
    "sample": ["sample", "plain"],
    "sample checkpoint": ["sample", "ckpt.pt"],
    "train bad config": ["train", "bad.py"],
    "train config": ["train", "config.py", "--dataset=none-such"],
    "train argument": ["train", DRIVES],
    "train resume": ["train", "--init_from=resume", "--out_dir=plain"],
    "no such command": [DRIVES],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_passes_on_what_drives_a_terminal(
    name: str, place: Path, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    named = next(path.name for path in place.iterdir() if path.name.startswith("b\x1b"))
    run = next(str(path) for path in Path("runs").iterdir())
    words = {"NAMED": named, "RUN": run}
    main([words.get(word, word) for word in COMMANDS[name]])
    printed = capfdbinary.readouterr()
    said = (printed.out + printed.err).decode("utf-8")
    assert said
    assert not hostile(said), ascii(said)
