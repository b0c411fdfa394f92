"""R9 and R11: before hardware is blamed. No log alone supports that; a replay of one recipe on both machines can."""

from __future__ import annotations

from pathlib import Path

from lossgap import suggestion
from lossgap.comparison.fact import Known
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings import weighing
from lossgap.comparison.findings.chance import (
    LARGEST,
    MACHINES,
    chance,
    explained,
    is_beyond,
    named,
    other_training,
    settings_explain,
)
from lossgap.comparison.findings.command import recipe_of
from lossgap.comparison.rules import Finding, Pair, Result, lacking, remark, rule, ruled_out

ONE_RECIPE = (
    f"one recipe on two kinds of accelerators was {MACHINES:g} apart after 400 steps, on three kinds {LARGEST:g} after "
    "60 (Open-Athena/MarinFold#173)"
)


@rule("check-the-arithmetic", title="Check the arithmetic first", group="E", order=9)
def check_the_arithmetic(pair: Pair) -> Result:
    """A gap that nothing known explains, between two kinds of machines or two ways to compute."""
    if not is_beyond(pair) or settings_explain(pair) or explained(pair):
        return
    kinds = pair.control.device_kind.value, pair.test.device_kind.value
    dtypes = pair.control.dtype.value, pair.test.dtype.value
    differ = [f"{a} and {b}" for a, b in (kinds, dtypes) if a is not None and b is not None and a != b]
    if not differ:
        return
    none = "no setting explains the gap"
    if other_training(pair):
        none = f"the settings that differ ({', '.join(other_training(pair)[:5])}) are too small to explain the gap"
    elif not weighing.all_known(pair):
        none = "no setting that is known explains the gap; not all are"
    yield remark(
        "unknown",
        f"The runs differ in {' and in '.join(differ)}, and {none}. Faults of single operations exist and are rare "
        "(pytorch#109457: a linear layer on MPS that is wrong for large shapes): hold each machine's operations, at "
        "the run's own shapes, against float64 before anything is blamed.",
        numbers={"machines": list(kinds), "precision": list(dtypes)},
        settle="Run the check on each of the machines.",
        command=suggestion.canary(),
    )


@rule("another-machine", title="The hardware", group="E", order=11)
def another_machine(pair: Pair) -> Result:
    """The rule lists what must be known before the hardware can be blamed for a gap; it never blames it."""
    found = chance(pair)
    if found is None:
        return
    names = named(pair.control), named(pair.test)
    machines = f" ({names[0]} and {names[1]})" if all(names) and names[0] != names[1] else ""
    numbers: dict[str, object] = {"gap": found.gap, "expected": MACHINES}
    if not found.is_beyond:
        text = f"There is no gap beyond chance that the machines{machines} could have made."
        yield ruled_out("inferred", text, numbers=numbers)
        return
    differ, causes = other_training(pair), explained(pair)
    if differ or causes:
        # Something else that differs does not prove that the machines do not: it is not ruled out, only not seen.
        why = _recipes(differ) if differ else f"{causes[0][:1].lower()}{causes[0][1:]}"
        said = (
            f"These records cannot show what the hardware{machines} does, and nothing in them supports blaming it: "
            f"{why}; {ONE_RECIPE}, and this gap is {found.gap:+.4f}."
        )
        if machines:
            yield _replay(pair, f"{said} It shows with one recipe on both, from the same weights, batches and masks.")
        else:
            yield remark("unknown", said, numbers=numbers)
    elif not pair.settings.comparable or not all(names):
        devices = [
            facts.device if not name else Known(name, "stated", "")
            for (_, facts), name in zip(pair.runs, names, strict=True)
        ]
        yield lacking(
            *devices, what="whether the machines differ. Nothing in these records supports blaming the hardware"
        )
    elif machines:
        yield _replay(
            pair,
            f"The records differ in the machine{machines} and in no setting of the recipe. That is no proof: "
            f"{ONE_RECIPE}, and the order of the data, code and library versions are not in the records.",
        )


def _recipes(differ: tuple[str, ...]) -> str:
    """`the recipes differ (n_layer, n_embd)`."""
    names = [name for name in differ if " " not in name]
    said = [f"the recipes differ ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"] if names else []
    return " and ".join([*said, *(name for name in differ if " " in name)])


def _replay(pair: Pair, text: str) -> Finding:
    return remark(
        "unknown",
        text,
        settle="Record a stretch of the control's training and replay it on the other machine (lossgap replay).",
        command=_record(pair.control),
        title="What could show the hardware's part",
    )


def _record(facts: Facts) -> str:
    """The recording of a run folder of ours, or of the recipe that a log states: a log itself cannot be recorded."""
    if facts.is_own and Path(facts.run.path).is_dir():
        return suggestion.record(str(facts.run.path))
    recipe = recipe_of(facts)
    return "" if recipe is None else suggestion.record(recipe, iters=50)
