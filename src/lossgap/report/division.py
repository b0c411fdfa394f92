"""How a gap divides, as rows and sentences: for the text answer and the page.

The numbers of an experiment that was scaled down each carry the mark `†`; those of the two runs themselves do not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lossgap.attribution.explanation import Contribution, Division, Explanation, Interval, Quantity, Scale
from lossgap.comparison.reevaluation import signed
from lossgap.comparison.verdict import Word
from lossgap.strangers import one_line, short

MARK = "†"
"""Follows every number of an experiment that is smaller than the runs."""
UNKNOWN = "unknown"
UNIT = "nats per token"
EXACT = 1e-9
"""Nats per token: parts that miss the whole by more do not add up."""
TITLES = {"last": "last against last", "best": "best against best"}
MOST_SETTINGS = 12
"""Settings of a factor that are shown; `--json` has all."""
MOST_CHARACTERS = 60
"""The longest text of a value."""


@dataclass(frozen=True, kw_only=True)
class DivisionRow:
    """One row of a table, as text."""

    name: str
    value: str
    interval: str = ""
    verdict: Word | None = None
    settings: str = ""
    note: str = ""


def scale_words(scale: Scale) -> str:
    """`1/8 of the iterations, 1/4 of channels, context and batch`; empty at the true scale."""
    parts = ((scale.iterations, "the iterations"), (scale.shape, "channels, context and batch"))
    return ", ".join(f"1/{number} of {what}" for number, what in parts if number != 1)


def mark(explanation: Explanation) -> str:
    """The mark that follows the numbers of this experiment."""
    return "" if explanation.scale.true else MARK


def amount(value: float | None, mark: str = "") -> str:
    """`-0.2100`, or `unknown`."""
    return UNKNOWN if value is None or not math.isfinite(value) else signed(value) + mark


def span(ci: Interval | None, mark: str = "") -> str:
    """`-0.2251 to -0.1949`, or `unknown`."""
    if ci is None or not all(map(math.isfinite, ci)):
        return UNKNOWN
    return f"{signed(ci[0])}{mark} to {signed(ci[1])}{mark}"


def changes(settings: Mapping[str, tuple[object, object]]) -> str:
    """`n_layer 4 -> 6, n_embd 128 -> 384`."""
    shown = [f"{name} {_level(first)} -> {_level(second)}" for name, (first, second) in settings.items()]
    more = [f"and {len(shown) - MOST_SETTINGS} more"] if len(shown) > MOST_SETTINGS else []
    return ", ".join([*shown[:MOST_SETTINGS], *more])


def _level(value: object) -> str:
    return one_line(value, MOST_CHARACTERS) if isinstance(value, str) else short(value, MOST_CHARACTERS)


def alike(explanation: Explanation) -> bool:
    """True if best against best gives the numbers of last against last."""
    first, second = explanation.last, explanation.best
    return (first.ends, first.reported, first.common, first.contributions) == (
        second.ends,
        second.reported,
        second.common,
        second.contributions,
    )


# ---------------------------------------------------------------------------------------------
# The answer


def answer(explanation: Explanation, division: Division) -> list[tuple[str, str]]:
    """The answer as pairs (label, text): what explains the gap, how sure, and what is unknown."""
    whole = f"{UNIT}, test minus control, {TITLES[division.at]}"
    if not explanation.scale.true:
        whole += " (of the two runs, at their true scale)"
    return [
        ("reported gap", _known(division.reported, whole, "")),
        ("divided here", _divided(explanation, division)),
        *judged(explanation, division),
        ("unknown", _unknown(explanation, division)),
    ]


def judged(explanation: Explanation, division: Division) -> list[tuple[str, str]]:
    """The factors by verdict: (label, factors with their contributions)."""
    found = []
    for word, label in (
        ("different", "explained by"),
        ("equivalent", f"within ±{explanation.margin:g}"),
        ("inconclusive", "not settled"),
        ("not-comparable", "not comparable"),
    ):
        said = [_brief(item, mark(explanation)) for item in division.contributions if item.verdict == word]
        if said or word == "different":
            found.append((label, ", ".join(said) or "no factor beyond the noise"))
    if explanation.screened_out:
        together = _known(division.screened_out, ", ".join(explanation.screened_out), mark(explanation))
        found.append(("screened out", f"{together}, switched together"))
    return found


def _brief(item: Contribution, mark: str) -> str:
    """`length -0.2100 ±0.0031`: half the width of the interval, where the value is in its middle."""
    said = f"{item.factor.name} {amount(item.value, mark)}"
    if item.ci is None or not all(map(math.isfinite, item.ci)):
        return said
    half = (item.ci[1] - item.ci[0]) / 2
    middle = math.isclose(item.ci[0] + half, item.value, rel_tol=1e-6, abs_tol=1e-9)
    return f"{said} ±{half:.4f}{mark}" if middle else f"{said} ({span(item.ci, mark)})"


def _known(found: Quantity, what: str, mark: str) -> str:
    if _sum([found.value]) is None:
        return f"{UNKNOWN}: {found.why or 'it is not a finite number'}"
    return f"{amount(found.value, mark)} {what}"


def _divided(explanation: Explanation, division: Division) -> str:
    what = "between the re-trained ends, measured alike"
    common = division.common
    if _sum([common.value]) is None:
        return _known(common, what, mark(explanation))
    interval = span(common.ci, mark(explanation))
    sure = f"no interval: {common.why or 'nobody measured one'}" if interval == UNKNOWN else f"95%: {interval}"
    return f"{amount(common.value, mark(explanation))} {what} ({sure})"


def _unknown(explanation: Explanation, division: Division) -> str:
    parts = []
    if explanation.not_switched:
        names = list(dict.fromkeys(item.name for item in explanation.not_switched))
        parts.append(f"{', '.join(names)} ({'differs' if len(names) == 1 else 'differ'}, not switched here)")
    left = division.not_reproduced
    if left.value is None or not math.isfinite(left.value):
        parts.append("how much of the reported gap new runs repeat")
    elif abs(left.value) > explanation.margin and not _chance(left):
        parts.append(f"{amount(left.value, mark(explanation))} of the reported gap, which new runs do not repeat")
    if not parts:
        near = "within what one seed leaves open" if _chance(left) else f"within ±{explanation.margin:g}"
        return f"nothing: every difference was switched, and new runs repeat the gap {near}"
    return "; ".join(parts)


def _chance(left: Quantity) -> bool:
    """True if the seeds of the two runs and the noise of their evaluations may be all that there is."""
    return left.ci is not None and left.ci[0] <= 0 <= left.ci[1]


# ---------------------------------------------------------------------------------------------
# Tables


def gap_rows(explanation: Explanation, division: Division) -> list[DivisionRow]:
    """reported = not reproduced + measurement + common; below the parts what of the remainder is in them."""
    sign = mark(explanation)
    first, second = (_loss(value, sign) for value in division.ends)
    gains = "; ".join(
        f"{side} {'gains' if value < 0 else 'loses'} {abs(value):.4f}{sign} by its own context"
        for side, value in zip(("control", "test"), division.own_context, strict=True)
        if math.isfinite(value) and round(value, 4)
    )
    held = [
        DivisionRow(
            name=f"  {item.name}", value=UNKNOWN, settings=changes(item.settings), note=f"not switchable: {item.why}"
        )
        for item in explanation.not_switched
    ]
    every = DivisionRow(name="  not switchable", value="none", note="every difference between the two was switched")
    missed = "what new runs do not repeat" + (", with what is not switchable" if held else "")
    screened = DivisionRow(name="  screened out", value="none", note="no factor was dropped")
    if explanation.screened_out:
        screened = _screened(explanation, division, "  screened out")
    return [
        _quantity("reported gap", division.reported, "", "as the two runs say it"),
        _quantity("= not reproduced", division.not_reproduced, sign, missed),
        *(held or [every]),
        _quantity("+ measurement", division.measurement, sign, gains or "no end gains by its own context"),
        _quantity("+ common gap", division.common, sign, f"re-trained ends: {first} -> {second}"),
        screened,
    ]


def contribution_rows(explanation: Explanation, division: Division) -> list[DivisionRow]:
    """The factors, largest first, then what was screened out."""
    rows = [_contribution(item, mark(explanation)) for item in division.contributions]
    if explanation.screened_out:
        rows.append(_screened(explanation, division, "screened out"))
    return rows


def total(explanation: Explanation, division: Division) -> DivisionRow:
    """The sum of `contribution_rows`, and whether it is the common gap."""
    common, whole = _sum([division.common.value]), _sum(_contributed(division))
    if common is None or whole is None or not division.contributions:
        return DivisionRow(name="sum", value=UNKNOWN, interval=UNKNOWN)
    sign = mark(explanation)
    note = "= common gap" if abs(common - whole) <= EXACT else "not the common gap"
    return DivisionRow(name="sum", value=amount(whole, sign), interval=span(division.common.ci, sign), note=note)


def checks(division: Division) -> list[str]:
    """A sentence for each whole whose known parts do not add up to it: none, unless something is wrong."""
    outer = [item.value for item in (division.not_reproduced, division.measurement, division.common)]
    inner = _contributed(division) if division.contributions else [None]
    found = []
    for name, gap, parts in (
        ("reported gap", division.reported.value, outer),
        ("common gap", division.common.value, inner),
    ):
        whole, made = _sum([gap]), _sum(parts)
        if whole is not None and made is not None and abs(whole - made) > EXACT:
            title = TITLES[division.at]
            found.append(f"The parts do not add up: {title}, their sum misses the {name} by {whole - made:.3g}.")
    return found


def _contributed(division: Division) -> list[float | None]:
    return [*(item.value for item in division.contributions), division.screened_out.value or 0.0]


def _sum(parts: Iterable[float | None]) -> float | None:
    """None if one of them is not a number."""
    known = [math.nan if part is None else part for part in parts]
    return math.fsum(known) if all(map(math.isfinite, known)) else None


def interaction_rows(explanation: Explanation, division: Division) -> list[DivisionRow]:
    """Pairs of factors, strongest first."""
    sign = mark(explanation)
    ordered = sorted(division.interactions, key=lambda item: -abs(item.value) if math.isfinite(item.value) else 0.0)
    return [
        DivisionRow(
            name=" x ".join(item.factors), value=amount(item.value, sign), interval=span(item.ci, sign), note=item.why
        )
        for item in ordered
    ]


def end_effect_rows(explanation: Explanation, division: Division) -> list[DivisionRow]:
    """Rows for the effect of each factor in the control and in the test, and for what that leaves of the gap."""
    sign = mark(explanation)
    rows = [
        DivisionRow(
            name=f"{item.factor} in the {side}",
            value=amount(found.value, sign),
            interval=span(found.ci, sign),
            note=found.why,
        )
        for item in division.end_effects
        for side, found in (("control", item.in_control), ("test", item.in_test))
    ]
    left = division.higher_order
    if rows and left.value is not None:
        name = "gap - sum of their means: three or more together"
        rows.append(DivisionRow(name=name, value=amount(left.value, sign), interval=span(left.ci, sign), note=left.why))
    return rows


def reasons(rows: Iterable[DivisionRow]) -> list[str]:
    """Why intervals are unknown, each reason once."""
    return list(dict.fromkeys(row.note for row in rows if row.interval == UNKNOWN and row.note))


def _contribution(item: Contribution, mark: str) -> DivisionRow:
    return DivisionRow(
        name=item.factor.name,
        value=amount(item.value, mark),
        interval=span(item.ci, mark),
        verdict=item.verdict,
        settings=changes(item.factor.settings),
        note=item.why,
    )


def _screened(explanation: Explanation, division: Division, name: str) -> DivisionRow:
    said = f"{', '.join(explanation.screened_out)}: switched together"
    return _quantity(name, division.screened_out, mark(explanation), said)


def _quantity(name: str, found: Quantity, mark: str, what: str) -> DivisionRow:
    about = [] if amount(found.value) == UNKNOWN and found.why else [what]
    if UNKNOWN in (amount(found.value), span(found.ci)) and found.why:
        about.append(found.why)
    note = "; ".join(about)
    return DivisionRow(name=name, value=amount(found.value, mark), interval=span(found.ci, mark), note=note)


def _loss(value: float, mark: str) -> str:
    return f"{value:.4f}{mark}" if math.isfinite(value) else UNKNOWN
