"""R2 and R5: settings that cannot have been applied, and gaps that no setting explains."""

from __future__ import annotations

import math

from lossgap.comparison.findings import weighing
from lossgap.comparison.findings.chance import settings_explain, settings_reach
from lossgap.comparison.findings.divergence import not_finite, risen
from lossgap.comparison.rules import Finding, Pair, Result, cause, remark, rule

FALSE_ALARM = 1e-3
"""Chance that seeds alone make such a gap, by Student's t: a spread over few seeds says little about the rare ones."""
WHILE_CLOSING = 1e-5
"""The same where the gap was larger and closes, as that of a seed does which stays on the first plateau for longer."""
CLOSING = 0.75
"""Share of the largest gap of the curves, below which the last one is closing. A choice."""
LEAST_ERRORS = 4.0
"""Standard errors at least; also where the spread is a stated bound, which has no degrees of freedom."""
LEAST_GAP = 0.04
"""Nats at least: what most recipes spread over seeds."""
SHIFTING = ("max_iters", "init_from")
"""Settings of which two runs may differ and coincide as long as both last."""


@rule("settings-not-applied", title="Settings differ, but the curves do not", group="A", order=2)
def settings_not_applied(pair: Pair) -> Result:
    """Two different trainings never agree digit for digit: one setting was not applied, or one log was read twice."""
    common = pair.alignment.common
    if common is None or not pair.alignment.coincide or _is_partial(pair, len(common)):
        return
    items = [item for item in pair.settings.differ if weighing.explains(item) and item.name not in SHIFTING]
    numbers: dict[str, object] = {"points": len(common), "until": float(common.iters[-1])}
    if items:
        said = ", ".join(f"{item.name} {item.control} and {item.test}" for item in items)
        yield remark(
            "inferred",
            f"The settings differ in {said}, but the losses are equal digit for digit at all {len(common)} common "
            "iterations. So the setting was not applied in one of them, or both logs are of one run.",
            strength="strong",
            numbers=numbers | {"settings": [item.name for item in items]},
            settle="Look at what each run says it ran with, and whether flags come before or after the config file.",
        )
        return
    yield remark(
        "inferred",
        f"The losses are equal digit for digit at all {len(common)} common iterations: a repetition of one run, or one "
        "run twice.",
        numbers=numbers,
        title="The curves coincide",
    )


def _is_partial(pair: Pair, common: int) -> bool:
    """True if most of what one run logged up to the shorter one's end stands where the other logged nothing."""
    both = weighing.curves(pair)
    if both is None:
        return True
    end = min(curve.last.iter for curve in both)
    return any(common < 0.5 * int((curve.iters <= end).sum()) for curve in both) and common < 20


@rule("not-in-the-settings", title="No setting explains the gap", group="A", order=5)
def not_in_the_settings(pair: Pair) -> Result:
    """The settings that matter are known, what differs of them is far too small, and the gap is beyond the noise."""
    gap = pair.alignment.gap("last")
    names = weighing.others(pair, ())
    if gap is None or not weighing.all_known(pair) or (names and settings_explain(pair)):
        return
    if pair.control.batch.value is None or (not names and pair.control.batch.value != pair.test.batch.value):
        return
    if weighing.length_ratio(pair) != 1.0 or abs(gap) <= max(LEAST_GAP, _errors(pair) * weighing.error(pair)):
        return
    causes = [item for item in pair.so_far if isinstance(item, Finding) and item.role == "cause"]
    shown = [item for item in causes if item.strength != "possible"]
    if names and any(risen(facts) or not_finite(facts) for _, facts in pair.runs):
        return  # a training that failed ends anywhere: its rule says so
    same = (
        "Everything that the records say of model, batch, length, schedule, regularisation and data is the same in both"
    )
    numbers: dict[str, object] = {"gap": gap, "standard_error": weighing.error(pair)}
    if names:
        reach = settings_reach(pair)
        same = (
            f"Of model, batch, length, schedule, regularisation and data the records differ in {', '.join(names)} "
            f"alone, which makes {reach:.2g} nats at the most"
        )
        numbers |= {"differ": list(names), "reach": reach}
    yield cause(
        "likely" if shown else "strong",
        "inferred",
        f"{same}, and yet the gap is {gap:+.4f}, {abs(gap) / weighing.error(pair):.0f} standard errors. Something ran "
        f"otherwise than its settings say, or is not a setting: code, initial weights, data behind the same name, the "
        f"mask, the loss.{_onset(pair)}",
        numbers=numbers,
        effect=None if shown else gap,
        settle="Train the control's recipe again with lossgap: the run that it does not repeat is the odd one.",
    )


def _errors(pair: Pair) -> float:
    """How many standard errors are beyond chance, given on how many seeds the spread rests."""
    df = pair.noise.df
    if pair.noise.standard_error is None or math.isinf(df):
        return LEAST_ERRORS
    from scipy.special import stdtrit  # loaded when needed: it takes longer than the rest together

    return max(LEAST_ERRORS, -float(stdtrit(df, (WHILE_CLOSING if _closes(pair) else FALSE_ALARM) / 2)))


def _closes(pair: Pair) -> bool:
    common, gap = pair.alignment.common, pair.alignment.gap("last")
    return common is not None and gap is not None and abs(gap) < CLOSING * float(abs(common.gaps).max(initial=0.0))


def _onset(pair: Pair) -> str:
    """Where the curves part."""
    common = pair.alignment.common
    if common is None or len(common) < 4:
        return ""
    near = max(0.02, 2 * weighing.error(pair))
    away = [index for index, value in enumerate(abs(common.gaps)) if value > near]
    if not away:
        return ""
    at = common.iters[away[0]]
    if at == 0:
        return " They are apart from iteration 0 on, before any training."
    return f" They part between iterations {common.iters[away[0] - 1]:,.0f} and {at:,.0f}."
