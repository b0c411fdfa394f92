"""What a training shows: nanoGPT's lines in a pipe, a bar on a terminal that fits and never wraps."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from lossgap import __version__
from lossgap.cli.train import progress_on
from lossgap.evaluation.splits import Evaluation, Evaluator
from lossgap.machine.peak import Peak
from lossgap.training import checkpoint
from lossgap.training.loop import SETTLING
from lossgap.training.progress import Lines, Live, Opening, Silence

from .small import Ended
from .tiny_run import SECONDS, SETTINGS, document, environment, flags, rows

Train = Callable[..., Ended]
SHORT = {**SETTINGS, "threads": 2, "max_iters": 12, "eval_interval": 5}

STEP = re.compile(r"step (\d+): train loss (\d+\.\d{4}), val loss (\d+\.\d{4})")
ITER = re.compile(r"iter (\d+): loss (\d+\.\d{4}), time (\d+\.\d{2})ms, mfu (-?\d+\.\d{2})%")
"""The two lines of nanoGPT that others read."""

OPENING = Opening(
    version="1.2.3",
    peak="0.09 TFLOP/s (measured)",
    first_iter=0,
    last_iter=2000,
    tokens_per_iter=768,
    echo=("Overriding: n_layer = 2",),
    facts=("number of parameters: 0.80M",),
    decisions=("lossgap 1.2.3: 795,904 parameters, 768 tokens per iteration", "device cpu (as asked), float32"),
    departures=("compile=True was asked, False runs: no C++ compiler found (g++): running eager",),
)


def evaluation(at: int, val_loss: float, val_se: float | None = 0.0151) -> Evaluation:
    return Evaluation(
        iter=at,
        mode="sampled",
        train_loss=1.25,
        val_loss=val_loss,
        train_se=0.01,
        val_se=val_se,
        eval_iters=20,
        context=64,
        stride=None,
        windows=240,
        seconds=0.5,
    )


# ---------------------------------------------------------------------------------------------
# In a pipe


def test_lines_of_a_run(train: Train) -> None:
    """The whole log, line by line."""
    ended = train("out", **{**SHORT, "gradient_accumulation_steps": 2})
    assert ended.code == 0
    assert ended.err == ""
    lines = iter(ended.out.splitlines())
    peak = r"\d\S* TFLOP/s \(.*CPU, 2 threads\)"
    assert re.fullmatch(
        rf"lossgap {re.escape(__version__)}, mfu relative to {peak}, time without evaluation", next(lines)
    )
    peeked = next(lines)
    while peeked.startswith("Overriding: "):
        peeked = next(lines)
    assert peeked == "tokens per iteration will be: 128"
    assert re.fullmatch(r"found vocab_size = 22 \(inside text file text\.txt.*\)", next(lines))
    assert next(lines) == "Initializing a new model from scratch"
    assert re.fullmatch(r"number of parameters: 0\.01M", next(lines))
    assert re.fullmatch(r"num decayed parameter tensors: 10, with [\d,]+ parameters", next(lines))
    assert re.fullmatch(r"num non-decayed parameter tensors: 5, with 80 parameters", next(lines))
    assert next(lines) == "using fused AdamW: True"
    for at in range(13):
        if at % 5 == 0:
            assert next(lines).startswith(f"step {at}: ")
            if at > 0:
                assert next(lines) == "saving checkpoint to out"
        assert next(lines).startswith(f"iter {at}: ")
    assert next(lines) == "run: out"
    assert re.fullmatch(r"final: train loss \d\.\d{4}, val loss \d\.\d{4}", next(lines))
    assert list(lines) == []


def test_lines_agree_with_the_record(train: Train) -> None:
    ended = train("out", **{**SHORT, "log_interval": 3})
    lines = ended.out.splitlines()
    steps = [match.groups() for line in lines if line.startswith("step") and (match := STEP.fullmatch(line))]
    recorded = [(str(r["iter"]), f"{r['train_loss']:.4f}", f"{r['val_loss']:.4f}") for r in rows(Path("out"), "eval")]
    assert steps == recorded
    assert [int(at) for at, _, _ in steps] == [0, 5, 10]
    iters = [match.groups() for line in lines if line.startswith("iter") and (match := ITER.fullmatch(line))]
    shown = [row for row in rows(Path("out"), "iter") if row["iter"] % 3 == 0]
    assert [int(at) for at, *_ in iters] == [0, 3, 6, 9, 12] == [row["iter"] for row in shown]
    for (_, loss, ms, mfu), row in zip(iters, shown, strict=True):
        assert loss == f"{row['loss']:.4f}"
        assert ms == f"{row['ms']:.2f}"
        assert mfu == ("-100.00" if row["mfu"] is None else f"{100 * row['mfu']:.2f}")


def test_mfu_is_nanogpts_running_mean_against_the_peak_of_this_device(train: Train) -> None:
    """Nothing for the first five iterations, then nine parts old and one part new; unknown prints as -100.00%."""
    ended = train("out", **SHORT)
    run, iterations = document(Path("out")), rows(Path("out"), "iter")
    expected: float | None = None
    for count, row in enumerate(iterations, start=1):
        if count > SETTLING:
            now = run["flops_per_iter"] / (row["ms"] / 1000) / run["peak"]["flops"]
            expected = now if expected is None else 0.9 * expected + 0.1 * now
        assert row["mfu"] == (None if expected is None else pytest.approx(expected, rel=1e-9))
    printed = [match[4] for line in ended.out.splitlines() if (match := ITER.fullmatch(line))]
    assert printed[:SETTLING] == ["-100.00"] * 5
    assert "-100.00" not in printed[SETTLING:]
    assert f"mfu relative to {run['peak']['flops'] / 1e12:.3g} TFLOP/s ({run['peak']['source']})" in ended.out


def test_mfu_is_never_above_one(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peak measured while other programs ran is too low; the training's own speed then is the peak."""
    low = Peak(1.0, "measured beside other programs")
    monkeypatch.setattr("lossgap.training.train.device_peak", lambda *arguments: low)
    assert train("out", **SHORT).code == 0
    found = [row["mfu"] for row in rows(Path("out"), "iter") if row["mfu"] is not None]
    assert found
    assert all(0 < value <= 1 for value in found)


def test_time_is_without_evaluation_and_checkpoints(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are made a second slower, and no iteration is."""
    evaluate, write = Evaluator.sampled, checkpoint.write
    pause = 1.0

    def slow_evaluate(self: Evaluator, *arguments: object) -> Evaluation:
        started = time.perf_counter()
        result = evaluate(self, *arguments)  # type: ignore[arg-type]  # handed on
        time.sleep(pause)
        object.__setattr__(result, "seconds", time.perf_counter() - started)
        return result

    def slow_write(*arguments: object) -> None:
        time.sleep(pause)
        write(*arguments)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(Evaluator, "sampled", slow_evaluate)
    monkeypatch.setattr(checkpoint, "write", slow_write)
    ended = train("out", **{**SETTINGS, "max_iters": 3, "eval_interval": 2, "checkpoint_at": "1,3"})
    assert ended.code == 0, ended.err
    assert len(rows(Path("out"), "eval")) == 2
    iterations = rows(Path("out"), "iter")
    assert all(row["ms"] < 1000 * pause * 0.9 for row in iterations)
    assert iterations[-1]["seconds"] == pytest.approx(sum(row["ms"] for row in iterations) / 1000)
    printed = [float(match[3]) for line in ended.out.splitlines() if (match := ITER.fullmatch(line))]
    assert len(printed) == 4
    assert max(printed) < 1000 * pause * 0.9


def test_lines_and_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    """The log goes to the stream, all else to standard error, so that the log stays nanoGPT's."""
    stream = io.StringIO()
    lines = Lines(stream)
    lines.open(OPENING)
    lines.evaluated(evaluation(250, 2.44469))
    lines.iterated(250, 2.3, 0.0389812, 0.00034, shown=True)
    lines.iterated(251, 2.4, 0.5, None, shown=True)
    lines.iterated(252, 2.5, 0.5, None, shown=False)
    lines.saving("out-shakespeare-char")
    lines.note("a note")
    lines.close()
    assert stream.getvalue().splitlines() == [
        "lossgap 1.2.3, mfu relative to 0.09 TFLOP/s (measured), time without evaluation",
        "Overriding: n_layer = 2",
        "tokens per iteration will be: 768",
        "number of parameters: 0.80M",
        "step 250: train loss 1.2500, val loss 2.4447",
        "iter 250: loss 2.3000, time 38.98ms, mfu 0.03%",
        "iter 251: loss 2.4000, time 500.00ms, mfu -100.00%",
        "saving checkpoint to out-shakespeare-char",
    ]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [*OPENING.departures, "a note"]


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    silence = Silence()
    silence.open(OPENING)
    silence.evaluated(evaluation(0, 1.0))
    silence.iterated(0, 1.0, 1.0, None, shown=True)
    silence.saving("out")
    silence.note("a note")
    silence.close()
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------------
# On a terminal

CODE = re.compile(r"\x1b\[(\??)([\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


class Screen:
    """What a terminal `width` columns wide shows: as much of one as rich's bar uses."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines = [""]
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        for match in CODE.finditer(text):
            private, number, letter, move, words = match.groups()
            if words:
                self._write(words)
            elif move == "\r":
                self.column = 0
            elif move == "\n":
                self._down()
            elif letter == "A":
                self.row -= int(number or 1)
            elif letter == "K":
                self.lines[self.row] = ""
            else:
                assert letter == "m" or private, f"a code that this screen does not know: {match[0]!r}"

    def _write(self, words: str) -> None:
        for char in words:
            if self.column == self.width:
                self._down()
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
            self.column += 1

    def _down(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")

    def shown(self) -> list[str]:
        """The lines that are not empty."""
        return [line.rstrip() for line in self.lines if line.strip()]


def live(width: int, last_iter: int = 2000) -> tuple[Live, Callable[[], Screen]]:
    """A bar on a terminal of this width, and a way to see it now."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, height=40, legacy_windows=False)
    bar = Live(console)

    def look() -> Screen:
        bar.bar.refresh()
        screen = Screen(width)
        screen.feed(stream.getvalue())
        return screen

    return bar, look


BAR = re.compile(r"(\d+/\d+) [━╸╺]+ (.*?) ?(\d+:\d\d:\d\d|-:--:--)")


@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 200])
@pytest.mark.parametrize(("last_iter", "tokens"), [(2000, 768), (600_000, 49_152)])
def test_the_bar_fits_in_one_line(width: int, last_iter: int, tokens: int) -> None:
    """Whatever the width: figures go one by one, the least important first, and none is cut."""
    bar, look = live(width)
    bar.open(Opening(**{**vars(OPENING), "last_iter": last_iter, "tokens_per_iter": tokens}))
    bar.evaluated(evaluation(0, 4.1649))
    for at in range(8):
        bar.iterated(at, 11.1828 - at, 0.0123, 0.345 if at > 5 else None, shown=True)
    line = look().shown()[-1]
    bar.close()
    assert len(line) <= width
    match = BAR.fullmatch(line)
    assert match, line
    assert match[1] == f"8/{last_iter + 1}"
    every = ["loss 4.1828", "val 4.1649", f"{tokens / 0.0123:,.0f} tok/s", "mfu 34.5%"]
    figures = match[2].split("  ") if match[2] else []
    assert figures == every[: len(figures)]
    if width >= 80:
        assert figures == every
    assert bool(figures) == (width >= (36 if last_iter == 2000 else 40))


def test_the_bar_says_that_mfu_is_unknown() -> None:
    bar, look = live(80)
    bar.open(OPENING)
    assert look().shown()[-1].endswith("starting -:--:--")
    bar.iterated(0, 4.2, 0.01, None, shown=False)
    assert "mfu ?" in look().shown()[-1]
    bar.close()


@pytest.mark.parametrize("width", [40, 80])
def test_notes_stand_above_the_bar(width: int) -> None:
    """Lines longer than the terminal are broken by the terminal, not by us, and the bar is drawn below them once."""
    bar, look = live(width)
    bar.open(OPENING)
    bar.evaluated(evaluation(0, 4.1649))
    for at in range(5):
        bar.iterated(at, 4.0, 0.01, None, shown=True)
        look()
    note = "stopped by SIGTERM before iteration 5, saved; go on with: lossgap train --init_from=resume --out_dir=out"
    bar.note(note)
    bar.evaluated(evaluation(5, 3.9, None))
    bar.evaluated(evaluation(10, 3.8, 0.0))
    screen = look()
    bar.close()
    text = "\n".join(screen.shown())
    unbroken = "".join(line.ljust(width) if len(line) == width else line + "\n" for line in screen.lines)
    for line in (*OPENING.decisions, *OPENING.departures, note):
        assert unbroken.count(line) == 1
    assert "step      0: train loss 1.2500, val loss 4.1649 +- 0.0151" in unbroken
    assert "step      5: train loss 1.2500, val loss 3.9000\n" in unbroken
    assert "step     10: train loss 1.2500, val loss 3.8000\n" in unbroken
    assert text.count("━") > 3
    assert len([line for line in screen.shown() if BAR.fullmatch(line)]) == 1
    assert BAR.fullmatch(screen.shown()[-1])


def test_a_resumed_bar_begins_where_the_run_was() -> None:
    bar, look = live(80)
    bar.open(Opening(**{**vars(OPENING), "first_iter": 1500}))
    assert look().shown()[-1].startswith("1500/2001 ━━━━━━━━━━")
    bar.close()


@pytest.mark.parametrize(
    ("is_terminal", "kind", "shown"), [(True, "xterm", Live), (True, "dumb", Lines), (False, "xterm", Lines)]
)
def test_who_gets_a_bar(monkeypatch: pytest.MonkeyPatch, is_terminal: bool, kind: str, shown: type) -> None:
    """A terminal that cannot move its cursor gets lines: there, rich would draw the bar at the end only."""
    monkeypatch.setenv("TERM", kind)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    assert isinstance(progress_on(stream), shown)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
@pytest.mark.parametrize("width", [80, 50])
def test_in_a_real_terminal(here: Path, width: int) -> None:
    """A training under a pseudo-terminal: the bar at the end, the evaluations and the final line around it."""
    import fcntl
    import pty
    import struct
    import termios

    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    arguments = flags(here / "text.txt", max_iters=60, eval_interval=20, tf32=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "lossgap", "train", *arguments],
        env=environment(here, TERM="xterm-256color"),
        cwd=here,
        stdin=child,
        stdout=child,
        stderr=child,
    )
    os.close(child)
    written, end = b"", time.monotonic() + SECONDS
    with contextlib.suppress(OSError):  # Linux says so where the other end is closed
        while time.monotonic() < end and (part := os.read(parent, 4096)):
            written += part
    os.close(parent)
    assert process.wait(60) == 0
    screen = Screen(width)
    screen.feed(written.decode())
    shown = screen.shown()
    [bar] = [line for line in shown if line.startswith("61/61 ")]
    assert BAR.fullmatch(bar)
    assert shown[-2] == "run: out"
    assert re.fullmatch(r"final: train loss \d\.\d{4}, val loss \d\.\d{4}", shown[-1])
    assert len(shown) - 3 >= shown.index(bar) > len(shown) - 12
    steps = [line for line in shown if line.startswith("step ")]
    assert [int(line[4:11]) for line in steps if ":" in line] == [0, 20, 40, 60]
    assert "tf32=True was asked, False runs" in "".join(screen.lines)
    assert not any(line.startswith("iter ") for line in shown)
