"""A `GateResult` for people, for pull requests and as JSON (`lossgap.gate/1`)."""

from __future__ import annotations

from lossgap.gating.boundary import LOOKS
from lossgap.gating.judge import FALSE_GREEN, FALSE_RED, GateResult, SignalRow
from lossgap.report.blocks import Grid, GridColumn, Judgement, Paragraphs, View
from lossgap.report.json_values import Json, finite, with_why
from lossgap.strangers import visible
from lossgap.version import __version__

SCHEMA = "lossgap.gate/1"
WORDS = {"pass": "equivalent", "fail": "different", "needs more": "inconclusive"}
"""The verdict whose colour each has."""
TITLES = {
    "final": "exact val loss, final state",
    "last": "last val loss",
    "curve": "val loss, last quarter",
    "train": "train loss, last quarter",
    "grad_norm": "log gradient norm, last quarter",
}
HEADER = ("signal", "baseline", "sd", "these runs", "shift", "interval", "p", "level", "")


def headline(result: GateResult) -> str:
    """`pass`, `fail` or `needs 3 more`, with the reason."""
    word = result.verdict.upper()
    if result.verdict == "needs more":
        word = f"NEEDS {result.more} MORE" if result.more is not None else "NEEDS MORE THAN IT CAN HAVE"
    return f"{word}: {result.reason}"


def advice(result: GateResult) -> str:
    """Advice on what to do next; empty if it is decided."""
    if result.verdict != "needs more":
        return ""
    if result.more is None:
        return f"No number of runs up to {LOOKS} is likely to decide: state a larger --margin, or a larger baseline."
    runs = "1 more run" if result.more == 1 else f"{result.more} more runs"
    return f"{runs} of the change would decide in 80% of the cases; looking after each is allowed."


def cells(row: SignalRow) -> tuple[str, ...]:
    """A row of the table, in the order of `HEADER`."""
    name = TITLES[row.name] + (" (judged)" if row.judged else "")
    if row.change == "not finite":
        return (name, f"{row.control:.5f}", f"{row.sd:.5f}", "not finite", "", "", "", "", row.change)
    return (
        name,
        f"{row.control:.5f}",
        f"{row.sd:.5f}",
        f"{row.test:.5f}",
        f"{row.shift:+.5f}",
        f"{row.low:+.5f} to {row.high:+.5f}",
        f"{row.p:.2g}",
        f"{row.level:.2g}",
        row.change,
    )


def how(result: GateResult) -> str:
    """How sure the verdict is, in one sentence."""
    asked = "changed in either direction" if result.strict else "worse"
    return (
        f"A change that changes nothing fails in at most {FALSE_RED:.0%} of cases, one that is worse by the margin "
        f"passes in at most {FALSE_GREEN:.0%}, however often one looks (up to {LOOKS} runs); asked is what is {asked}."
    )


def view(result: GateResult) -> View:
    """The answer as blocks."""
    columns = tuple(GridColumn(name=name, number=0 < at < 8) for at, name in enumerate(HEADER))
    strong = frozenset(at for at, row in enumerate(result.rows) if row.change not in ("no change seen", "better"))
    first: list[Judgement | Grid | Paragraphs] = [
        Judgement(word=WORDS[result.verdict], text=headline(result), lines=(advice(result),) if advice(result) else ()),
        Grid(columns=columns, rows=tuple(cells(row) for row in result.rows), strong=strong, notes=result.notes),
        Paragraphs(lines=(how(result),)),
    ]
    return View(title=f"gate: {result.verdict}", first=tuple(first), rest=())


def text(result: GateResult) -> str:
    """The answer in plain lines."""
    lines = [headline(result)]
    if advice(result):
        lines.append(advice(result))
    lines.append(
        f"baseline of {len(next(iter(result.baseline.values.values())))} runs, {len(result.runs)} of the change, "
        f"margin {result.margin:.4g} nats per token{'' if not result.strict else ', strict'}"
    )
    table = [HEADER, *(cells(row) for row in result.rows)]
    widths = [max(len(line[at]) for line in table) for at in range(len(HEADER))]
    lines += [
        "",
        *("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table),
    ]
    lines += ["", *result.notes, how(result)]
    return "\n".join(visible(line) for line in lines)


def markdown(result: GateResult) -> str:
    """The answer for a comment on a pull request; names from logs are escaped."""
    mark = {"pass": "✅", "fail": "❌", "needs more": "⏳"}[result.verdict]
    lines = [f"### {mark} lossgap gate: {_escaped(headline(result))}", ""]
    if advice(result):
        lines += [advice(result), ""]
    lines += ["| " + " | ".join(HEADER) + " |", "|" + " --- |" * len(HEADER)]
    lines += ["| " + " | ".join(_escaped(cell) for cell in cells(row)) + " |" for row in result.rows]
    lines += ["", *(f"- {_escaped(note)}" for note in result.notes)]
    lines += ["", f"<sub>Margin {result.margin:.4g} nats per token. {how(result)}</sub>"]
    return "\n".join(lines) + "\n"


def _escaped(cell: str) -> str:
    """The cell, escaped so that it is neither markup nor a link nor a mention in Markdown."""
    safe = visible(cell)
    for char in "\\`*_[]<>|#~@":
        safe = safe.replace(char, f"&#{ord(char)};")
    return safe


def document(*results: GateResult) -> Json:
    """The document of one gate."""
    (result,) = results
    values: Json = {
        "schema": SCHEMA,
        "lossgap": __version__,
        "verdict": result.verdict,
        "reason": result.reason,
        "exit_code": result.exit_code,
        "margin": result.margin,
        "strict": result.strict,
        "more": result.more,
        "runs": list(result.runs),
        "baseline": {
            "runs": list(result.baseline.runs),
            "created": result.baseline.created,
            "judged": result.baseline.primary,
        },
        "signals": [_signal(row) for row in result.rows],
        "notes": list(result.notes),
    }
    more = "it is decided" if result.verdict != "needs more" else f"no number of runs up to {LOOKS} is likely to decide"
    return with_why(values, {"more": more})


def _signal(row: SignalRow) -> Json:
    values: Json = {
        "name": row.name,
        "judged": row.judged,
        "control": finite(row.control),
        "sd": finite(row.sd),
        "test": finite(row.test),
        "shift": finite(row.shift),
        "low": finite(row.low),
        "high": finite(row.high),
        "p": row.p,
        "level": row.level,
        "change": row.change,
    }
    return with_why(values, dict.fromkeys(("test", "shift", "low", "high"), "a run's value is not finite"))
