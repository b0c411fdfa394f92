"""A baseline: what n runs of the accepted state gave, as a readable JSON file.

    made = make_baseline([run1, run2, run3, run4])
    made.write(Path("baseline.json"))
    read_baseline(Path("baseline.json")) == made

It holds one number for each run and signal (readings.py), the settings that all runs share, the spread, and the margin.
"""

from __future__ import annotations

import datetime
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from lossgap.comparison.facts import Facts
from lossgap.errors import ConfigError
from lossgap.gating.readings import PRIMARY, SIGNALS, Signal, signals
from lossgap.runs.run import Run
from lossgap.runs.run_json import plain, write_json
from lossgap.runs.values import as_float, as_list, as_mapping, as_text
from lossgap.strangers import one_line, shown
from lossgap.version import __version__

SCHEMA = "lossgap.baseline/1"
LEAST_RUNS = 3
"""Two runs give a spread with one degree of freedom: 13 standard errors are then within chance."""
WIDE = 4.0
"""The margin, in standard deviations of the baseline, where none is stated: about what four runs a side can settle."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """The runs of the accepted state. `values` has, for each signal that all of them have, one value a run."""

    runs: tuple[str, ...]
    values: Mapping[Signal, tuple[float, ...]]
    margin: float
    """The smallest shift that counts, nats per token."""
    margin_stated: bool
    """True if the user stated it; else it is `WIDE` standard deviations of these runs."""
    settings: Mapping[str, object]
    """Those that all runs share."""
    last_iter: float | None
    created: str
    lossgap: str = __version__

    @property
    def primary(self) -> Signal:
        """The loss that is judged."""
        return next(name for name in PRIMARY if name in self.values)

    @property
    def mean(self) -> float:
        """The mean over the runs of the loss that is judged."""
        return statistics.fmean(self.values[self.primary])

    @property
    def sd(self) -> float:
        """The standard deviation over the runs of the loss that is judged."""
        return statistics.stdev(self.values[self.primary])

    def write(self, path: Path) -> None:
        """Write it whole, or not at all."""
        write_json(path, self.document())

    def document(self) -> dict[str, object]:
        """`lossgap.baseline/1`."""
        values = self.values[self.primary]
        return {
            "schema": SCHEMA,
            "lossgap": self.lossgap,
            "created": self.created,
            "runs": list(self.runs),
            "judged": self.primary,
            "margin": self.margin,
            "margin_stated": self.margin_stated,
            "spread": {
                "mean": statistics.fmean(values),
                "sd": self.sd,
                "df": len(values) - 1,
                "source": f"{len(values)} runs of a baseline",
            },
            "values": {name: list(found) for name, found in self.values.items()},
            "last_iter": self.last_iter,
            "settings": dict(self.settings),
            "why": {}
            if self.last_iter is not None
            else {"last_iter": "the runs have no iteration in common at the end"},
        }


def make_baseline(runs: Sequence[Run], margin: float | None = None) -> Baseline:
    """The baseline of these runs. Raises ConfigError `baseline-too-small`, `bad-margin`, SourceError `no-losses`."""
    if len(runs) < LEAST_RUNS:
        raise ConfigError(
            "baseline-too-small",
            f"{len(runs)} runs: a baseline needs at least {LEAST_RUNS} runs of one recipe with different seeds, and "
            "decides sooner with 8",
        )
    check_margin(margin)
    facts = [Facts.of(run) for run in runs]
    each = [signals(item) for item in facts]
    common = [name for name in SIGNALS if all(name in item and math.isfinite(item[name]) for item in each)]
    if not any(name in common for name in PRIMARY):
        raise ConfigError("baseline-without-loss", "these runs have no finite loss of one kind in common")
    values = {name: tuple(item[name] for item in each) for name in common}
    judged = values[next(name for name in PRIMARY if name in values)]
    ends = {item.last_iter for item in facts}
    return Baseline(
        runs=tuple(shown(run.path) for run in runs),
        values=values,
        margin=margin if margin is not None else WIDE * statistics.stdev(judged),
        margin_stated=margin is not None,
        settings=_shared(facts),
        last_iter=float(value) if len(ends) == 1 and (value := next(iter(ends))) is not None else None,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def check_margin(margin: float | None) -> None:
    """Raises ConfigError `bad-margin` for a margin that is not a positive number."""
    if margin is not None and not (math.isfinite(margin) and margin > 0):
        raise ConfigError(
            "bad-margin",
            f"--margin={margin}: the gate's margin must be a number above 0, e.g. 0.004, since a change "
            "of exactly nothing cannot be shown",
        )


def _shared(facts: Sequence[Facts]) -> dict[str, object]:
    """The settings on which all runs agree, out_dir and seed left out."""
    first = facts[0].run.config
    return {
        name: plain(value)
        for name, value in first.items()
        if name not in ("seed", "out_dir") and all(item.run.config.get(name) == value for item in facts[1:])
    }


def read_baseline(path: Path) -> Baseline:
    """The baseline in a file. Raises ConfigError `bad-baseline`."""
    name = one_line(shown(path))
    try:
        found = as_mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(
            "bad-baseline",
            f"{name} cannot be read as a baseline ({one_line(str(error))}); `lossgap baseline` makes one",
        ) from error
    return _from_document(found, name)


def _from_document(found: Mapping[str, object], name: str) -> Baseline:
    if found.get("schema") != SCHEMA:
        raise ConfigError("bad-baseline", f"{name} is not a {SCHEMA} document; `lossgap baseline` makes one")
    values: dict[Signal, tuple[float, ...]] = {}
    for signal in SIGNALS:
        numbers = [as_float(item) for item in as_list(as_mapping(found.get("values")).get(signal))]
        if numbers and all(item is not None and math.isfinite(item) for item in numbers):
            values[signal] = cast("tuple[float, ...]", tuple(numbers))
    margin = as_float(found.get("margin"))
    sizes = {len(item) for item in values.values()}
    if not any(name in values for name in PRIMARY) or margin is None or margin <= 0 or len(sizes) != 1:
        raise ConfigError("bad-baseline", f"{name} lacks a margin, or one value of a loss for each run; make it anew")
    if min(sizes) < LEAST_RUNS:
        raise ConfigError("baseline-too-small", f"{name} has {min(sizes)} runs; it needs at least {LEAST_RUNS}")
    return Baseline(
        runs=tuple(text for item in as_list(found.get("runs")) if (text := as_text(item)) is not None),
        values=values,
        margin=margin,
        margin_stated=found.get("margin_stated") is True,
        settings=as_mapping(found.get("settings")),
        last_iter=as_float(found.get("last_iter")),
        created=as_text(found.get("created")) or "",
        lossgap=as_text(found.get("lossgap")) or "",
    )
