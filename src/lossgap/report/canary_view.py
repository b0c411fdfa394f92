"""A `Canary` as a view: does this device compute each operation of the run right, and which ones not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossgap import suggestion
from lossgap.report.blocks import Fold, Grid, GridColumn, Headline, Judgement, Paragraphs, Suggestion, View
from lossgap.report.json_values import Json, with_why
from lossgap.runs.run_json import plain
from lossgap.version import __version__

if TYPE_CHECKING:  # loads torch, which whoever has a Canary has loaded already
    from lossgap.kernels.check import Canary, Check

SCHEMA = "lossgap.canary/1"
NEAREST = 6
"""Operations that a terminal shows before `--full`: those out of bounds, then the nearest to it."""


def view(canary: Canary) -> View:
    """The verdict first, then the operations that are out of bounds or nearest to it."""
    operations = _worst(canary.checks)
    wrong = (*canary.faults, *canary.traps)
    return View(
        title=f"the kernels of {_device(canary)}",
        kicker=f"{_device(canary)}: {canary.numerics.device}, {canary.numerics.dtype}, torch {_torch(canary)}",
        first=(
            Headline(_headline(canary)),
            Judgement(
                word="different" if canary.faults else "equivalent",
                text=f"{_verdict(canary)} ({_device(canary)}, {canary.numerics.device}, {canary.numerics.dtype})",
                lines=tuple(f"Out of bounds: {check.words()}." for check in wrong[:3]),
            ),
            _grid(sorted(operations, key=lambda check: -check.ratio), title="nearest", most=NEAREST),
            _next(canary),
        ),
        rest=(
            Fold(
                f"All {len(canary.checks)} outputs of {len(operations)} operations",
                (
                    Paragraphs(lines=(f"It took {canary.seconds:.1f} s.", *canary.notes), look="dim"),
                    _grid(list(canary.checks)),
                    *([Paragraphs(lines=tuple(check.words() for check in wrong), bullets=True)] if wrong else []),
                ),
            ),
        ),
    )


def _headline(canary: Canary) -> str:
    where = f"{canary.numerics.device} in {canary.numerics.dtype}"
    if not canary.faults:
        count = len(_worst(canary.checks))
        exact = f"as exactly as {where} can: {count} were held against float64"
        return f"This device computes every operation of the run {exact}."
    first = canary.faults[0]
    size = "gives numbers that are not finite" if first.error is None else f"is off by {first.error:.1e}"
    allowed = "" if first.error is None else f" where {first.allowed:.1e} is allowed"
    return f"This device computes {first.operation} wrong: its {first.output} ({first.direction}) {size}{allowed}."


def _verdict(canary: Canary) -> str:
    return "an operation of this run is out of bounds" if canary.faults else "all operations of the run within bounds"


def _device(canary: Canary) -> str:
    return str(canary.environment.get("gpu") or canary.environment.get("cpu") or "unknown hardware")


def _torch(canary: Canary) -> str:
    return str(canary.environment.get("torch"))


def _next(canary: Canary) -> Suggestion:
    """After a fault the other kernels; else the test of a whole training, which this is not."""
    if canary.faults:
        other = "plain" if canary.numerics.attention == "fused" else "fused"
        return Suggestion(
            command=suggestion.canary(device=canary.numerics.device, dtype="float32", attention=other),
            why="Whether other kernels of this device are right; a run on this device cannot be trusted before that.",
            price="seconds",
        )
    return Suggestion(
        command=suggestion.record("shakespeare_char_cpu", out="run.lossgap"),
        why="Single operations are right; whether a whole training is, a replay of this recording on the other machine "
        "tells.",
        price="about a minute for each",
    )


def _grid(checks: list[Check], title: str = "", most: int | None = None) -> Grid:
    return Grid(
        title=title,
        columns=(
            GridColumn(name="operation"),
            GridColumn(name="shape", drop=2),
            GridColumn(name="output", drop=3),
            GridColumn(name="error", number=True),
            GridColumn(name="allowed", number=True),
            GridColumn(name="verdict"),
        ),
        rows=tuple(_cells(check) for check in checks),
        strong=frozenset(n for n, check in enumerate(checks) if not check.is_ok),
        most=most,
        more="and {count} more, further from their bounds",
    )


def _cells(check: Check) -> tuple[str, ...]:
    error = "not finite" if check.error is None else f"{check.error:.1e}"
    said = "ok" if check.is_ok else "OUT OF BOUNDS" if check.of_run else "out of bounds, not of this run"
    return (check.operation, check.shape, f"{check.output}, {check.direction}", error, f"{check.allowed:.1e}", said)


def _worst(checks: tuple[Check, ...]) -> list[Check]:
    """The output furthest out of bounds, one for each operation."""
    found: dict[tuple[str, str], Check] = {}
    for check in checks:
        place = (check.operation, check.shape)
        found[place] = max(found.get(place, check), check, key=lambda item: item.ratio)
    return list(found.values())


# ---------------------------------------------------------------------------------------------
# JSON


def document(canary: Canary) -> Json:
    """The JSON document: `lossgap.canary/1`, whose schema ships as `schemas/canary.schema.json`."""
    return {
        "schema": SCHEMA,
        "lossgap": __version__,
        "verdict": "out of bounds" if canary.faults else "within bounds",
        "numerics": canary.numerics.to_dict(),
        "machine": plain(dict(canary.environment)),
        "checks": [_check(check) for check in canary.checks],
        "notes": list(canary.notes),
        "seconds": canary.seconds,
    }


def _check(check: Check) -> Json:
    values: Json = {
        "operation": check.operation,
        "shape": check.shape,
        "output": check.output,
        "direction": check.direction,
        "error": check.error,
        "allowed": check.allowed,
        "ok": check.is_ok,
        "of_run": check.of_run,
        "looks_like": check.looks_like or None,
    }
    same = "it is within bounds" if check.is_ok else "no coarser dtype explains the error"
    return with_why(values, {"error": "the device gave a number that is not finite", "looks_like": same})
