"""What the canary found: as JSON (`lossgap.canary/1`, schema `schemas/canary.schema.json`) and for people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from lossgap.report.json_values import with_why
from lossgap.runs.run_json import plain
from lossgap.strangers import visible
from lossgap.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from lossgap.kernels.check import Canary, Check

SCHEMA = "lossgap.canary/1"

Json = dict[str, object]


def document(found: Canary) -> Json:
    """The document of one canary."""
    return {
        "schema": SCHEMA,
        "lossgap": __version__,
        "verdict": "out of bounds" if found.faults else "within bounds",
        "numerics": found.numerics.to_dict(),
        "machine": plain(dict(found.environment)),
        "checks": [_check(check) for check in found.checks],
        "notes": list(found.notes),
        "seconds": found.seconds,
    }


def text(found: Canary) -> str:
    """The document on one line."""
    return json.dumps(document(found), allow_nan=False)


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


def show(found: Canary, console: Console) -> None:
    """Print a table with the worst output of each operation, then what is out of bounds."""
    from rich.table import Table
    from rich.text import Text

    numerics = found.numerics
    device = found.environment.get("gpu") or found.environment.get("cpu") or "unknown hardware"
    console.print(
        Text(f"{visible(str(device))}: {numerics.device}, {numerics.dtype}, torch {found.environment.get('torch')}")
    )
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("operation", "shape", "worst output", "error", "allowed", ""):
        table.add_column(name, justify="right" if name in ("error", "allowed") else "left", overflow="fold")
    for check in _worst(found.checks):
        error = "not finite" if check.error is None else f"{check.error:.1e}"
        said = "ok" if check.is_ok else "OUT OF BOUNDS" if check.of_run else "out of bounds, not of this run"
        cells = (check.operation, check.shape, check.output, error, f"{check.allowed:.1e}", said)
        table.add_row(*(Text(visible(cell)) for cell in cells), style="" if check.is_ok else "bold red")
    console.print(table)
    for check in (*found.faults, *found.traps):
        console.print(Text(visible(f"out of bounds: {check.words()}")))
    for note in found.notes:
        console.print(Text(visible(note), style="dim"))
    verdict = "an operation of this run is out of bounds" if found.faults else "all operations of the run within bounds"
    console.print(Text(f"{verdict} ({found.seconds:.1f} s)", style="bold red" if found.faults else "bold green"))


def _worst(checks: tuple[Check, ...]) -> list[Check]:
    """Of each operation the output that is furthest out."""
    found: dict[tuple[str, str], Check] = {}
    for check in checks:
        place = (check.operation, check.shape)
        found[place] = max(found.get(place, check), check, key=lambda item: item.ratio)
    return list(found.values())
