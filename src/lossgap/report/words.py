"""The sentences that the text answer and the page share, so that both say the same."""

from __future__ import annotations

from lossgap.comparison.comparison import Comparison
from lossgap.comparison.differences import ComparedSetting
from lossgap.report.table import INFERRED
from lossgap.runs.run import Run
from lossgap.strangers import short, visible

WORDS = {
    "different": "different, beyond chance",
    "equivalent": "equivalent, no gap beyond the margin",
    "inconclusive": "inconclusive, not beyond chance",
    "not-comparable": "not comparable",
}

PROSE = 40
"""Characters from which a text that is cut is prose; a shorter one is a name."""


def origin(run: Run) -> str:
    """The format, and which run of its file it is where there are several."""
    return f"{run.format}{f', run {run.number}' if run.number > 1 else ''}"


def inferred(run: Run) -> list[str]:
    """Conclusions that no record states, one line for each reason."""
    reasons: dict[str, list[str]] = {}
    for item in run.inferred:
        reasons.setdefault(item.why, []).append(f"{item.name} = {short(item.value)}")
    return [
        f"inferred: {said[0] if len(said) == 1 else f'{len(said)} settings'} ({why})" for why, said in reasons.items()
    ]


def reading(run: Run) -> list[str]:
    """The rows read, the rows not understood and the conclusions, one line each."""
    said = [f"{run.iters.height:,} rows of iterations, {run.evals.height:,} evaluations"]
    if run.not_understood.count:
        at = ", ".join(map(str, run.not_understood.lines))
        said.append(f"{run.not_understood.count:,} lines not understood (first ones: {at})")
    if run.damaged_lines:
        said.append(f"{run.damaged_lines:,} damaged lines left out")
    if run.thinned:
        said.append(f"{run.thinned.rows:,} iteration rows thinned to {run.thinned.kept:,} at reading")
    return [*said, *inferred(run), *(sentence(note.text) for note in run.notes)]


def chance(found: Comparison) -> str:
    """The standard error of the gap, or its bound, in words."""
    error, bound = found.noise.standard_error, found.noise.bound
    if error is not None:
        return f"standard error {error:.4f}"
    return "standard error unknown" + (f", taken to be at most {bound:.4f}" if bound is not None else "")


def noise(found: Comparison) -> list[str]:
    """The parts of the standard error; the two runs' parts on one line where they are alike."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for part in found.noise.parts:
        kind, _, run = part.name.rpartition(" of ")
        if part.standard_error is not None:
            size = f"{part.standard_error:.2g}"
        else:
            size = f"unknown, taken to be at most {part.bound:.2g}" if part.bound is not None else "unknown"
        alike.setdefault((kind, size, part.how), []).append(run)
    rows = []
    for (kind, size, how), runs in alike.items():
        rows.append(f"{kind} of {' and '.join(runs)}: {size} ({how})" if kind else f"{runs[0]}: {size} ({how})")
    reasons = {part.bound_reason: part.bound for part in found.noise.unknown if part.bound_reason}
    rows += [f"{bound:.2g} is {reason}." for reason, bound in reasons.items()]
    if found.noise.paired:
        rows.append(f"Both evaluated the same windows ({found.noise.paired}).")
    return rows


def value(item: ComparedSetting, side: str) -> str:
    """A setting's value of one run, marked where no record states it."""
    return short(getattr(item, side)) + (INFERRED if side in item.inferred else "")


def sentence(text: str) -> str:
    """`text` with a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def cut(text: str, most: int) -> str:
    """At most so many characters of `text`, made visible, on one line; prose ends with a whole word."""
    said = " ".join(visible(text).split())
    if len(said) <= most:
        return said
    part = said[: most - 1]
    words = part if said[most - 1] == " " else part.rpartition(" ")[0]
    return (words if len(words) > max(PROSE, 0.75 * most) else part).rstrip(" ,;:(") + "…"
