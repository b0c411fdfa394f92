"""A `Bench` as a view: how fast a training is here, what its time goes into, and how nanoGPT compares."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from lossgap.duration import duration
from lossgap.report.blocks import Fold, Grid, GridColumn, Headline, Labelled, Paragraphs, View
from lossgap.report.json_values import Json, finite, with_why
from lossgap.runs.run_json import plain
from lossgap.version import __version__

if TYPE_CHECKING:  # loads torch, which whoever has a Bench has loaded already
    from lossgap.pace.bench import Bench, Race, Ratio, Timing

SCHEMA = "lossgap.bench/1"
NAMES = {
    "data": "data",
    "forward": "forward",
    "backward": "backward",
    "optimizer": "optimizer, clipping",
    "other": "other",
}
MEASURES = {"wall": "whole process", "start_up": "start-up", "update": "update", "evaluation": "evaluation"}


def view(bench: Bench) -> View:
    """The speed first, then where the time goes."""
    machine = str(bench.environment.get("gpu") or bench.environment.get("cpu") or "unknown hardware")
    n = bench.numerics
    how = f"{n.device}, {n.dtype}, {n.threads} thread{'s' * (n.threads != 1)}, {'compiled' if n.compile else 'eager'}"
    return View(
        title=f"the speed of {bench.recipe or 'a training'}",
        kicker=f"{machine}: {how}",
        first=(
            Headline(_headline(bench), _compared(bench.race)),
            *([_race_grid(bench.race)] if bench.race else []),
            _parts_grid(bench),
            Labelled(rows=_facts(bench, how)),
        ),
        rest=(Fold("How it was measured", (Paragraphs(lines=_how(bench), look="dim"),)),),
    )


def _headline(bench: Bench) -> str:
    mfu = "" if bench.mfu is None else f", {bench.mfu:.0%} of this device's peak"
    return (
        f"{bench.recipe or 'This recipe'} trains {bench.tokens_per_second:,.0f} tokens per second here: "
        f"{_ms(bench.update.median)} ms an update{mfu}."
    )


def _compared(race: Race | None) -> str:
    ratio = race.ratios["wall"] if race else None
    if race is None or ratio is None:
        return ""
    word = "faster" if ratio.mean >= 1 else "slower"
    factor = ratio.mean if ratio.mean >= 1 else 1 / ratio.mean
    return f"{race.iters} iterations, cold, are {factor:.2f} times {word} than nanoGPT's ({_interval(ratio)})."


def _interval(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return "one pair: no interval"
    return f"ratio {ratio.mean:.2f}, 95% {ratio.low:.2f} to {ratio.high:.2f}"


def _race_grid(race: Race) -> Grid:
    columns = ("cold", "nanoGPT s", "lossgap s", "ratio", "95%")
    rows = []
    for name, words in MEASURES.items():
        ratio = race.ratios[name]
        between = "" if ratio is None or ratio.low is None else f"{ratio.low:.2f} to {ratio.high:.2f}"
        theirs, own = race.timing(name, theirs=True).median, race.timing(name, theirs=False).median
        rows.append((words, f"{theirs:.4g}", f"{own:.4g}", "" if ratio is None else f"{ratio.mean:.2f}", between))
    return Grid(columns=tuple(GridColumn(name=n, number=i > 0) for i, n in enumerate(columns)), rows=tuple(rows))


def _parts_grid(bench: Bench) -> Grid:
    total = sum(item.median for item in bench.parts.values())
    rows = [(NAMES[name], *_cells(item), f"{item.median / total:.0%}") for name, item in bench.parts.items()]
    rows.append(("whole update", *_cells(bench.update), ""))
    rows.append((f"evaluation ({bench.config.eval_mode})", *_cells(bench.evaluation), ""))
    rows.append(("final evaluation (exact)", *_cells(bench.exact), ""))
    if bench.start_up is not None:
        rows.append(("start-up, cold", *_cells(bench.start_up), ""))
    columns = ("part", "ms", "middle half", "of an update")
    return Grid(columns=tuple(GridColumn(name=n, number=i > 0) for i, n in enumerate(columns)), rows=tuple(rows))


def _cells(timing: Timing) -> tuple[str, str]:
    return _ms(timing.median), f"{_ms(timing.low)} to {_ms(timing.high)}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.4g}" if seconds < 10 else f"{1000 * seconds:.0f}"


def _facts(bench: Bench, how: str) -> tuple[tuple[str, str], ...]:
    rows = [("how", how), ("memory", f"{bench.memory / 2**20:,.0f} MiB")]
    if bench.load is not None:
        rows.append(("load", f"{bench.load[0]:.1f} at the start, {bench.load[1]:.1f} at the end"))
    return tuple(rows)


def _how(bench: Bench) -> tuple[str, ...]:
    return (
        f"{bench.update.count} updates whole, {bench.parts['data'].count} by part; it took {duration(bench.seconds)}.",
        f"Peak: {bench.peak_source}.",
        "The middle half is from the first to the third quartile. On an accelerator, a part waits for the device, so "
        "the parts together take longer than a whole update.",
    )


# ---------------------------------------------------------------------------------------------
# JSON


def document(bench: Bench) -> Json:
    """The JSON document: `lossgap.bench/1`, whose schema ships as `schemas/bench.schema.json`."""
    values: Json = {
        "schema": SCHEMA,
        "lossgap": __version__,
        "recipe": bench.recipe,
        "config": bench.config.to_dict(),
        "numerics": bench.numerics.to_dict(),
        "machine": plain(dict(bench.environment)),
        "tokens_per_second": bench.tokens_per_second,
        "update": dataclasses.asdict(bench.update),
        "parts": {name: dataclasses.asdict(item) for name, item in bench.parts.items()},
        "evaluation": dataclasses.asdict(bench.evaluation),
        "exact": dataclasses.asdict(bench.exact),
        "start_up": None if bench.start_up is None else dataclasses.asdict(bench.start_up),
        "flops_per_iter": bench.flops_per_iter,
        "peak_flops": finite(bench.peak),
        "mfu": finite(bench.mfu),
        "memory": bench.memory,
        "load": None if bench.load is None else list(bench.load),
        "against": None if bench.race is None else _race(bench.race),
        "seconds": bench.seconds,
    }
    return with_why(
        values,
        {
            "start_up": "--starts=0",
            "peak_flops": bench.peak_source,
            "mfu": bench.peak_source,
            "load": "this system has no load average",
            "against": "no --against was given",
        },
    )


def _race(race: Race) -> Json:
    return {
        "iters": race.iters,
        "nanogpt": [dataclasses.asdict(run) for run in race.theirs],
        "ours": [dataclasses.asdict(run) for run in race.ours],
        "ratios": {name: None if ratio is None else dataclasses.asdict(ratio) for name, ratio in race.ratios.items()},
    }
