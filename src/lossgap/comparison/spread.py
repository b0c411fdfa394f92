"""How far the final losses of equal recipes lie apart: the shipped table `spreads.json`, and how a run finds its row.

Two runs that differ in the seed alone end apart by sqrt(2) standard deviations on average of squares; a gap is only
worth an explanation beyond that. Each entry says how it was measured (`scripts/measure_spread.py`) or where it was
published. A recipe is found by its fingerprint: layers, channels, context, sequences per update, iterations, dropout,
schedule and text; or, for logs that never state a recipe, by the trainer's format; else its scale says what spread to
expect (spread_model.py).
"""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal, cast

from lossgap.comparison.facts import Facts
from lossgap.comparison.spread_model import SpreadModel, model, scales_of
from lossgap.errors import ConfigError
from lossgap.runs.values import as_float, as_int, as_list, as_mapping, as_text
from lossgap.strangers import one_line

FINGERPRINT = ("n_layer", "n_embd", "block_size", "batch", "max_iters", "dropout")
SCHEDULE = ("learning_rate", "min_lr", "lr_decay_iters", "warmup_iters")
"""Beside the fingerprint: another rate, schedule or text is another recipe, with a spread of its own."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The standard deviation of the last val loss over repetitions of one recipe, nats per token."""

    id: str
    recipe: dict[str, float]
    """Fingerprint and schedule, as far as the entry says them; empty if it goes by `format`."""
    format: str | None
    sd: float
    df: float
    n: int
    source: str
    """The command that measured it, or where it was published."""
    corpus: str | None = None
    """The text that it was measured on; None if the entry does not say it."""


@dataclass(frozen=True, kw_only=True)
class KnownSpread:
    """The standard deviation of a recipe's last loss over seeds, given by the user: nats per token."""

    sd: float
    df: float = math.inf
    source: str


def known_spread(given: str) -> KnownSpread:
    """The spread that `--spread` names: a number, or a JSON file with `sd` (and `df`, `source`) or with `finals`.

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
    corpus: str | None = None
    """The text that it is of: on another text or with another tokenizer a window varies otherwise."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The value that an unmeasured spread is taken not to exceed, and why."""

    value: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class SpreadTable:
    """The content of `spreads.json`."""

    spreads: tuple[Spread, ...]
    windows: tuple[WindowSpread, ...]
    seed_bound: Bound | None
    """The value that an unmeasured spread does not exceed, where there is no model."""
    evaluation_bound: Bound
    paired_fraction: float
    """SE of the difference of two evaluations of the same windows, over that of two of their own; 1 if not measured."""
    model: SpreadModel | None = None
    """The model of the spread as a function of scale; None in tables that have only measured entries."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A spread that was found for a run."""

    sd: float
    df: float
    id: str
    """Two runs with the same one stand on one estimate."""
    evidence: Literal["measured", "inferred"]
    """`measured` if it is of this very recipe."""
    how: str
    """One phrase for people."""


@cache
def table() -> SpreadTable:
    """The shipped table."""
    text = resources.files("lossgap.comparison").joinpath("spreads.json").read_text(encoding="utf-8")
    return replace(read_table(json.loads(text)), model=model())


def read_table(document: object) -> SpreadTable:
    """A table from its JSON. Raises ValueError if a spread has no sd or no df."""
    content = as_mapping(document)
    fraction = as_float(as_mapping(content.get("paired_fraction")).get("value"))
    return SpreadTable(
        spreads=tuple(_spread(as_mapping(item)) for item in as_list(content.get("spreads"))),
        windows=tuple(_window(as_mapping(item)) for item in as_list(content.get("windows"))),
        seed_bound=_bound(as_mapping(content.get("seed_bound"))) if content.get("seed_bound") else None,
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
        corpus=as_text(item.get("corpus")),
    )


def _window(item: dict[str, object]) -> WindowSpread:
    context, sd = as_int(item.get("context")), as_float(item.get("sd"))
    if context is None or sd is None:
        raise ValueError("a window spread needs context and sd")
    return WindowSpread(
        context=context,
        sd=sd,
        source=as_text(item.get("command")) or as_text(item.get("source")) or "",
        corpus=as_text(item.get("corpus")),
    )


def _bound(item: dict[str, object]) -> Bound:
    value = as_float(item.get("value"))
    if value is None:
        raise ValueError("a bound needs a value")
    return Bound(value=value, reason=as_text(item.get("reason")) or "")


# ---------------------------------------------------------------------------------------------
# Finding a row


def seed_spread(facts: Facts, spreads: SpreadTable | None = None) -> Match | None:
    """The spread of this run's recipe; else of its trainer's recipes; else what its scale lets expect; else None.

    A measured spread of few seeds is combined with what the scale lets expect, each by how sure it is of the logarithm.
    """
    known = spreads or table()
    predicted = known.model.predict(facts) if known.model is not None else None
    own = next((entry for entry in known.spreads if entry.recipe and is_recipe(facts, entry)), None)
    if own is not None:
        how = f"this recipe's spread over {own.n} runs: {own.id}; {own.source}"
        both = known.model.combined(scales_of(facts), own.sd, own.df) if known.model is not None else None
        if both is None:
            return Match(sd=own.sd, df=own.df, id=own.id, evidence="measured", how=how)
        how = f"{how}, {own.sd:.4g}, combined with what recipes of this scale have, {both.how}"
        return Match(sd=both.sd, df=both.df, id=own.id, evidence="measured", how=how)
    of_format = [entry for entry in known.spreads if entry.format == facts.run.format and not entry.recipe]
    if of_format:
        widest = max(of_format, key=lambda entry: entry.sd)
        how = f"the widest known spread of this trainer's recipes over {widest.n} runs: {widest.id}; {widest.source}"
        return Match(sd=widest.sd, df=widest.df, id=widest.id, evidence="inferred", how=how)
    if predicted is None:
        return None
    # Two runs of one recipe stand on one estimate, although each has its own curve.
    scales = scales_of(facts)
    recipe = ", ".join(f"{name} {value:.6g}" for name, value in sorted(scales.items()) if name != "fall")
    return Match(sd=predicted.sd, df=predicted.df, id=f"predicted: {recipe}", evidence="inferred", how=predicted.how)


def is_recipe(facts: Facts, entry: Spread) -> bool:
    """True if everything that an entry says of its recipe and its text is known for a run, and equal."""
    if entry.corpus is not None and facts.dataset.value != entry.corpus:
        return False
    own = fingerprint(facts)
    return own is not None and all(
        name in own and abs(own[name] - value) <= 1e-9 * abs(value) for name, value in entry.recipe.items()
    )


def fingerprint(facts: Facts) -> dict[str, float] | None:
    """The numbers that tell recipes apart, the schedule's as far as known; None if one of the others is not."""
    known = [facts.n_layer, facts.n_embd, facts.block_size, facts.batch, facts.max_iters, facts.dropout]
    values = [item.value for item in known]
    if any(value is None for value in values):
        return None
    found = dict(zip(FINGERPRINT, cast("list[float]", values), strict=True))
    schedule = {name: as_float(facts.setting(name).value) for name in SCHEDULE}
    return found | {name: value for name, value in schedule.items() if value is not None}


def window_spread(context: int, corpus: str | None, spreads: SpreadTable | None = None) -> WindowSpread | None:
    """The window spread on this text of the longest measured context that is not longer; None if there is none.

    A longer window is a mean over more tokens, so its loss varies less: the value is exact or too large.
    """
    found = [item for item in (spreads or table()).windows if item.context <= context and item.corpus in (None, corpus)]
    return max(found, key=lambda item: item.context) if found else None


LONGER = 4
"""How many times longer a measured window may be that bounds the spread of a shorter one. A choice."""


def longer_window_spread(context: int, corpus: str | None, spreads: SpreadTable | None = None) -> WindowSpread | None:
    """The window spread on this text of the shortest measured context that is longer, as a bound for a shorter one.

    The mean of T of a window's T' tokens varies by sqrt(T' / T) times as much at the most, as losses of neighbouring
    tokens do not go against each other.
    """
    found = [
        item
        for item in (spreads or table()).windows
        if context < item.context <= LONGER * context and item.corpus in (None, corpus)
    ]
    if not found:
        return None
    nearest = min(found, key=lambda item: item.context)
    return replace(nearest, sd=nearest.sd * math.sqrt(nearest.context / context))
