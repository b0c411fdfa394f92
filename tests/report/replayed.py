"""Replays made up for the tests of their reports."""

from __future__ import annotations

import math
from dataclasses import replace

from lossgap.comparison.comparison import NextStep
from lossgap.parity.envelope import Envelope
from lossgap.parity.replay import first_departure, hardware_bound, verdict_of
from lossgap.parity.replay_result import Evaluated, Replay
from lossgap.parity.steps import StepCheck, Steps
from lossgap.parity.trajectory import trajectory
from lossgap.training.numerics import Departure, Numerics

NUMERICS = Numerics(
    device="cpu",
    dtype="float32",
    tf32=False,
    compile=False,
    attention="plain",
    adamw="fused",
    threads=2,
    deterministic=True,
    cpu_capability="AVX512",
)
RECORDED = [4.17 - 0.02 * n for n in range(20)]


def check(name: str, direction: str, error: float | None, verdict: str = "within", **more: object) -> StepCheck:
    values = {"iteration": 0, "what": "output", "allowed": 6e-7, "reference_error": 1e-7, "why": ""}
    return StepCheck(name=name, direction=direction, error=error, verdict=verdict, **{**values, **more})  # type: ignore[arg-type]


def checks(name: str = "transformer.h.0.ln_1") -> list[StepCheck]:
    return [
        check("inputs", "forward", 0.0, allowed=0.0, reference_error=0.0),
        check(name, "forward", 2e-7),
        check(name, "backward", 0.0, what="input gradient"),
        check("AdamW", "optimizer", 3e-7, reference_error=None),
        check("val loss", "evaluation", None, "not judged", why=f"nothing of {name}", reference_error=None),
    ]


def envelope(width: float = 2e-6, count: int = 20, **more: object) -> Envelope:
    made = Envelope(
        first=0,
        width=tuple([width] * count),
        growth=tuple([width / 4] * count),
        factor=4.0,
        twins=8,
        coarser="float32",
        paired=False,
    )
    return replace(made, **more)  # type: ignore[arg-type]  # by name


def replay(
    *,
    name: str = "transformer.h.0.ln_1",
    found: list[StepCheck] | None = None,
    differences: list[float] | None = None,
    around: Envelope | str | None = None,
    text: str = "bundle.lossgap",
    first: int = 0,
) -> Replay:
    """A replay whose verdict is made from its parts as `replay` makes it; `text` stands wherever a bundle has text."""
    steps = Steps(arithmetic="float32", checks=tuple(checks(name) if found is None else found))
    apart = [0.0] * len(RECORDED) if differences is None else differences
    replayed = [old + new for old, new in zip(RECORDED, apart, strict=True)]
    parts = trajectory(first, RECORDED, replayed, envelope() if around is None else around)
    verdict, reasons, settle = verdict_of(steps, parts, 0.01)
    machine = {"cpu": "a CPU", "gpu": None, "torch": "2.13.0", "os": "Linux"}
    return Replay(
        source=text,
        verdict=verdict,
        reasons=reasons,
        settle=settle,
        margin=0.01,
        steps=steps,
        trajectory=parts,
        hardware_bound=hardware_bound(verdict, parts),
        first_departure=first_departure(steps, parts),
        evaluations=(Evaluated(iteration=20, split="val", recorded=3.77, replayed=3.77 + apart[-1]),),
        numerics_recorded={**NUMERICS.to_dict(), "dtype": text, "cpu_capability": text},
        numerics=NUMERICS,
        departures=(Departure("compile", True, False, f"no compiler {text}"),),
        machine_recorded=machine | {"cpu": text, "os": text},
        machine_replayed=machine,
        version_recorded=text,
        first=first,
        iterations=20,
        recorded_iterations=20,
        max_iters=2000,
        seconds_per_iter=0.02,
        seconds=12.0,
        beyond=NextStep(command=f"lossgap record {text} --iters=2001", why="what comes after iteration 19 is unknown"),
    )


WRONG = [
    *checks()[:1],
    check("transformer.h.0.ln_1", "forward", 0.33, "out of bounds"),
    check("transformer.h.0.ln_1", "backward", 0.2, "out of bounds", what="input gradient"),
    check("nan", "forward", None, "out of bounds", why="it is not finite here"),
    check("weights", "forward", 0.5, "out of bounds", allowed=0.0, why="not the recorded ones"),
]
BELOW = [*checks()[:2], check("transformer.h.0.ln_2", "forward", 1e-4, "below what this dtype can show", why="float64")]

CASES: dict[str, Replay] = {
    "equivalent": replay(),
    "part by rounding": replay(differences=[1e-6] * 20),
    "below": replay(found=BELOW, around=envelope(3e-4, coarser="bfloat16", paired=True)),
    "step": replay(found=WRONG, differences=[0.01 * n for n in range(1, 21)]),
    "step only": replay(found=WRONG),
    "at the start": replay(differences=[0.1] * 20),
    "first update": replay(differences=[0.0, *[0.1] * 19]),
    "gradual": replay(differences=[3e-7 * n for n in range(20)]),
    "sudden": replay(differences=[*[0.0] * 9, *[0.5] * 11]),
    "not finite": replay(differences=[*[0.0] * 9, *[math.nan] * 10, math.inf]),
    "no envelope": replay(around="3 of 8 twins have losses that are not finite"),
    "wide": replay(around=envelope(0.05)),
    "not judged": replay(found=[check("a", "forward", None, "not judged", allowed=None, why="the bundle is silent")]),
    "from a checkpoint": replay(first=2000, around=envelope(first=2000)),
}


def hostile(text: str) -> Replay:
    """A replay with `text` in every text of it."""
    return replay(name=text, text=text, found=[*checks(text), check(text, "backward", 0.5, "out of bounds", why=text)])
