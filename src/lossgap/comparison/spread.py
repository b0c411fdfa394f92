"""How far the final losses of equal recipes lie apart: the shipped table `spreads.json`, and how a run finds its row.

Two runs that differ in the seed alone end apart by sqrt(2) standard deviations on average of squares; a gap is only
worth an explanation beyond that. Each entry says how it was measured (`scripts/measure_spread.py`) or where it was
published. A recipe is found by its fingerprint: layers, channels, context, sequences per update, iterations, and
whether there is dropout; or, for logs that never state a recipe, by the trainer's format.
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import cast

from lossgap.comparison.facts import Facts
from lossgap.errors import ConfigError
from lossgap.runs.values import as_float, as_int, as_list, as_mapping, as_text
from lossgap.strangers import one_line

FINGERPRINT = ("n_layer", "n_embd", "block_size", "batch", "max_iters")
SIMILAR = 3.0
"""A recipe is similar if every number of the fingerprint is within this factor. A choice."""
ALLOWANCE = 1.5
"""What the spread of a similar recipe is multiplied by, as it is not the recipe's own. A choice, not a measurement."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The standard deviation of the last val loss over repetitions of one recipe, nats per token."""

    id: str
    recipe: dict[str, float]
    """Fingerprint, with `dropout`; empty if the entry goes by `format`."""
    format: str | None
    sd: float
    df: float
    n: int
    source: str
    """The command that measured it, or where it was published."""


@dataclass(frozen=True, kw_only=True)
class KnownSpread:
    """The standard deviation of a recipe's last loss over seeds, given by the user: nats per token."""

    sd: float
    df: float = math.inf
    source: str


def known_spread(given: str) -> KnownSpread:
    """What `--spread` names: a standard deviation, or a JSON file with `sd` (and `df`, `source`) or with `finals`.

    An entry that `scripts/measure_spread.py` prints is such a file, a baseline of `lossgap baseline` too. Raises
    ConfigError `bad-spread`.
    """
    try:
        sd = float(given)
    except ValueError:
        return _from_file(given)
    if not (math.isfinite(sd) and sd >= 0):
        raise ConfigError("bad-spread", f"--spread={given}: a standard deviation is a finite number of at least 0")
    return KnownSpread(sd=sd, source="given")


def _from_file(given: str) -> KnownSpread:
    name = one_line(given)
    try:
        found = as_mapping(json.loads(Path(given).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigError(
            "bad-spread", f"--spread={name}: neither a number nor a readable JSON file ({one_line(str(error))})"
        ) from error
    found = as_mapping(found.get("entry")) or as_mapping(found.get("spread")) or found
    sd, df = as_float(found.get("sd")), as_float(found.get("df"))
    finals = [value for item in as_list(found.get("finals")) if (value := as_float(item)) is not None]
    if sd is None and len(finals) > 1:
        sd, df = statistics.stdev(finals), float(len(finals) - 1)
    if sd is None or sd < 0 or (df is not None and df < 1):
        raise ConfigError("bad-spread", f"--spread={name}: it gives no sd (of at least 0) and no list of finals")
    return KnownSpread(sd=sd, df=math.inf if df is None else df, source=as_text(found.get("source")) or name)


@dataclass(frozen=True, kw_only=True)
class WindowSpread:
    """The standard deviation of the mean loss of one evaluation window, nats per token, at one context."""

    context: int
    sd: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a spread that nobody measured is taken not to exceed, and why."""

    value: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class SpreadTable:
    """The content of `spreads.json`."""

    spreads: tuple[Spread, ...]
    windows: tuple[WindowSpread, ...]
    seed_bound: Bound
    evaluation_bound: Bound
    paired_fraction: float
    """SE of the difference of two evaluations of the same windows, over that of two of their own; 1 if not measured."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A spread that was found for a run."""

    sd: float
    df: float
    entry: Spread
    similar: bool
    """Whether the entry is of a similar recipe only, so that `sd` has an allowance."""

    @property
    def how(self) -> str:
        """One phrase for people."""
        which = "a similar recipe's spread, and half as much again," if self.similar else "this recipe's spread"
        if not self.entry.recipe:
            which = "the widest spread known of this trainer's recipes"
        return f"{which} over {self.entry.n} runs: {self.entry.id}; {self.entry.source}"


@cache
def table() -> SpreadTable:
    """The shipped table."""
    text = resources.files("lossgap.comparison").joinpath("spreads.json").read_text(encoding="utf-8")
    return read_table(json.loads(text))


def read_table(document: object) -> SpreadTable:
    """A table from its JSON. Raises ValueError if a spread has no sd or no df."""
    content = as_mapping(document)
    fraction = as_float(as_mapping(content.get("paired_fraction")).get("value"))
    return SpreadTable(
        spreads=tuple(_spread(as_mapping(item)) for item in as_list(content.get("spreads"))),
        windows=tuple(_window(as_mapping(item)) for item in as_list(content.get("windows"))),
        seed_bound=_bound(as_mapping(content.get("seed_bound"))),
        evaluation_bound=_bound(as_mapping(content.get("evaluation_bound"))),
        paired_fraction=1.0 if fraction is None else fraction,
    )


def _spread(item: dict[str, object]) -> Spread:
    sd, df = as_float(item.get("sd")), as_float(item.get("df"))
    if sd is None or df is None or sd < 0 or df < 1:
        raise ValueError(f"spread {item.get('id')!r} needs sd and df")
    recipe = {name: as_float(value) for name, value in as_mapping(item.get("recipe")).items()}
    return Spread(
        id=as_text(item.get("id")) or "",
        recipe=cast("dict[str, float]", {name: value for name, value in recipe.items() if value is not None}),
        format=as_text(item.get("format")),
        sd=sd,
        df=df,
        n=as_int(item.get("n_seeds")) or round(df + 1),
        source=as_text(item.get("command")) or as_text(item.get("source")) or "",
    )


def _window(item: dict[str, object]) -> WindowSpread:
    context, sd = as_int(item.get("context")), as_float(item.get("sd"))
    if context is None or sd is None:
        raise ValueError("a window spread needs context and sd")
    return WindowSpread(
        context=context, sd=sd, source=as_text(item.get("command")) or as_text(item.get("source")) or ""
    )


def _bound(item: dict[str, object]) -> Bound:
    value = as_float(item.get("value"))
    if value is None:
        raise ValueError("a bound needs a value")
    return Bound(value=value, reason=as_text(item.get("reason")) or "")


# ---------------------------------------------------------------------------------------------
# Finding a row


def seed_spread(facts: Facts, spreads: SpreadTable | None = None) -> Match | None:
    """The spread of this run's recipe, of the nearest similar one, or of its format; None if nothing fits."""
    entries = (spreads or table()).spreads
    own = fingerprint(facts)
    if own is not None:
        distances = [(distance(own, entry.recipe), entry) for entry in entries if entry.recipe]
        near = [(far, entry) for far, entry in distances if far <= math.log(SIMILAR) + 1e-9]
        if near:
            far, entry = min(near, key=lambda item: (item[0], -item[1].df))
            similar = far > 1e-9
            return Match(sd=entry.sd * (ALLOWANCE if similar else 1.0), df=entry.df, entry=entry, similar=similar)
    of_format = [entry for entry in entries if entry.format == facts.run.format and not entry.recipe]
    if not of_format:
        return None
    widest = max(of_format, key=lambda entry: entry.sd)
    return Match(sd=widest.sd, df=widest.df, entry=widest, similar=False)


def fingerprint(facts: Facts) -> dict[str, float] | None:
    """The numbers that tell recipes apart; None if one is not known."""
    known = [facts.n_layer, facts.n_embd, facts.block_size, facts.batch, facts.max_iters, facts.dropout]
    values = [item.value for item in known]
    if any(value is None for value in values):
        return None
    return dict(zip((*FINGERPRINT, "dropout"), cast("list[float]", values), strict=True))


def distance(first: dict[str, float], second: dict[str, float]) -> float:
    """The largest |ln ratio| of the fingerprint's numbers; infinite if only one has dropout or a number is missing."""
    if any(name not in first or name not in second for name in (*FINGERPRINT, "dropout")):
        return math.inf
    if (first["dropout"] > 0) != (second["dropout"] > 0):
        return math.inf
    pairs = [(first[name], second[name]) for name in FINGERPRINT]
    if any(a <= 0 or b <= 0 for a, b in pairs):
        return math.inf
    return max(abs(math.log(a / b)) for a, b in pairs)


def window_spread(context: int, spreads: SpreadTable | None = None) -> WindowSpread | None:
    """The window spread of the longest measured context that is not longer; None if there is none.

    A longer window is a mean over more tokens, so its loss varies less: the value is exact or too large.
    """
    found = [item for item in (spreads or table()).windows if item.context <= context]
    return max(found, key=lambda item: item.context) if found else None
