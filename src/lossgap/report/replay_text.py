"""A `Replay` for people: the verdict, the two machines, where they part first, the layers that come nearest."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from lossgap.parity.replay_result import Replay
from lossgap.report import replay_words, terminal, words
from lossgap.strangers import visible

LAYERS = 8
"""Layers in the table; `--json` has all."""
_MACHINE = ("recorded", "replayed")
_NUMBERS = ("iteration", "error", "allowed", "recorder's")


def show(found: Replay, console: Console) -> None:
    """Print the answer."""
    stretch = f"iterations {found.first} to {found.last}"
    console.print(Text(f"{visible(found.source)}: {stretch}", style="bold"))
    console.print()
    _machines(found, console)
    console.print()
    rows = [("verdict", replay_words.WORDS[found.verdict])]
    rows += [("", words.sentence(reason)) for reason in found.reasons]
    rows.append(("hardware", replay_words.bound(found)))
    if replay_words.departure(found):
        rows.append(("parts first", replay_words.departure(found)))
    rows.append(("envelope", replay_words.envelope(found)))
    rows += [("" if n else "evaluation", text) for n, text in enumerate(replay_words.evaluations(found))]
    console.print(terminal.labelled(rows))
    _layers(found, console)
    terminal.heading(console, "next")
    if found.settle:
        terminal.indented(console, found.settle, 3)
    for step in found.next or (found.beyond,):
        terminal.indented(console, words.sentence(step.why), 3)
        if step.command:
            terminal.command(console, step.command)


def _machines(found: Replay, console: Console) -> None:
    table = terminal.plain_table()
    for name in ("", *_MACHINE):
        table.add_column(name, overflow="fold")
    for fact in replay_words.facts(found):
        cells = (fact.name, fact.recorded, fact.replayed)
        table.add_row(*(Text(visible(cell)) for cell in cells), style="" if fact.differs else "dim")
    console.print(table)
    for item in found.departures:
        why = f"{item.setting}={item.asked} was asked, {item.ran} runs: {item.why}"
        terminal.indented(console, why, 0, style="dim")


def _layers(found: Replay, console: Console) -> None:
    shown = replay_words.noteworthy(found, LAYERS)
    terminal.heading(console, replay_words.near(found), f"{len(found.layers)} values in all")
    table = terminal.plain_table()
    names = ("layer", "value", *_NUMBERS, "")
    for name in names:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
    for check in shown:
        style = "bold red" if check.verdict == "out of bounds" else ""
        table.add_row(*(Text(visible(cell)) for cell in replay_words.cells(check)), style=style)
    console.print(table)
