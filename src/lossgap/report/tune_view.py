"""A `Tuned` as a view: which settings are faster here, with minutes and the expected change of the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossgap.duration import duration
from lossgap.report.blocks import Fold, Grid, GridColumn, Headline, Labelled, Paragraphs, View
from lossgap.report.json_values import Json, finite, with_why
from lossgap.runs.run_json import plain
from lossgap.version import __version__

if TYPE_CHECKING:  # loads torch, which whoever has a Tuned has loaded already
    from lossgap.tuning.trial import Trial
    from lossgap.tuning.tune import Tuned

SCHEMA = "lossgap.tune/1"
LENGTHS = (2000, 5000)
TITLES = {"speed": "only speed", "run": "the run, too"}


def view(tuned: Tuned) -> View:
    """The faster settings first, then each trial."""
    machine = str(tuned.environment.get("gpu") or tuned.environment.get("cpu") or "unknown hardware")
    apart = [trial for trial in tuned.trials if trial.kind == "speed"]
    others = [trial for trial in tuned.trials if trial.kind != "speed"]
    out = [f"{_short(trial)}: {trial.why}." for trial in tuned.trials if trial.why]
    rows = [("not timed", " ".join(out))] if out else []
    if tuned.load is not None:
        rows.append(("load", f"{tuned.load[0]:.1f} at the start, {tuned.load[1]:.1f} at the end"))
    return View(
        title=f"settings for {tuned.recipe or 'a training'}",
        kicker=f"{machine}: {tuned.numerics.device}, {tuned.numerics.dtype}, {tuned.numerics.threads} threads",
        first=(
            Headline(_headline(tuned)),
            _grid(tuned, "speed", apart, with_recipe=True),
            _grid(tuned, "run", others, with_recipe=False),
            *([Labelled(rows=tuple(rows))] if rows else []),
        ),
        rest=(Fold("How it was measured", (Paragraphs(lines=_how(tuned), look="dim"),)),),
    )


def _headline(tuned: Tuned) -> str:
    chosen = tuned.faster()
    if not chosen:
        return "Nothing that was tried makes this recipe faster here without changing the run."
    words = " ".join(f"--{name}={value}" for name, value in chosen.items())
    gains = [t.ratio for t in tuned.trials if t.ratio and all(chosen.get(n) == v for n, v in t.settings.items())]
    return f"Faster here without changing the run: {words} ({', '.join(f'{gain:.2f} times' for gain in gains)})."


def _grid(tuned: Tuned, kind: str, trials: list[Trial], *, with_recipe: bool) -> Grid:
    names = (TITLES[kind], "tokens/s", *(f"{n:,} its" for n in LENGTHS), "loss", "evidence")
    columns = tuple(GridColumn(name=name, number=0 < at < 4) for at, name in enumerate(names))
    rows = []
    if with_recipe:
        rate = tuned.config.tokens_per_iter / tuned.update
        minutes = [f"{tuned.minutes(None, n) or 0.0:.1f} min" for n in LENGTHS]
        rows.append(("as it stands", f"{rate:,.0f}", *minutes, "", ""))
    for trial in trials:
        if trial.update is None:
            continue
        timed = [tuned.minutes(trial, n) for n in LENGTHS]
        said = ["" if value is None else f"{value:.1f} min" for value in timed]
        rows.append((_short(trial), f"{_rate(tuned, trial):,.0f}", *said, trial.loss, trial.evidence))
    return Grid(columns=columns, rows=tuple(rows))


def _short(trial: Trial) -> str:
    """Its settings without dashes; the horizon of a longer run goes without saying."""
    return " ".join(f"{name}={value}" for name, value in trial.settings.items() if name != "lr_decay_iters")


def _rate(tuned: Tuned, trial: Trial) -> float:
    """Tokens per second: the recipe's, times the ratio that was measured in turns."""
    return tuned.config.tokens_per_iter / tuned.update * (trial.ratio or 0.0)


def _how(tuned: Tuned) -> tuple[str, ...]:
    starts = [f"{t.name} adds {duration(t.start)} to a start." for t in tuned.trials if t.start]
    return (
        f"It took {duration(tuned.seconds)}. Recipe and setting took turns; a ratio is the median over the turns.",
        "Bits are compared over all parameters after a few updates. `rounding only` is inferred: `lossgap record` and "
        "`lossgap replay --dtype, --compile, --attention` measure what it does to a run.",
        *starts,
    )


def document(tuned: Tuned) -> Json:
    """The JSON document: `lossgap.tune/1`, whose schema ships as `schemas/tune.schema.json`."""
    values: Json = {
        "schema": SCHEMA,
        "lossgap": __version__,
        "recipe": tuned.recipe,
        "config": tuned.config.to_dict(),
        "numerics": tuned.numerics.to_dict(),
        "machine": plain(dict(tuned.environment)),
        "update": tuned.update,
        "evaluation": tuned.evaluation,
        "faster": plain(dict(tuned.faster())),
        "trials": [_trial(tuned, trial) for trial in tuned.trials],
        "load": None if tuned.load is None else list(tuned.load),
        "seconds": tuned.seconds,
    }
    return with_why(values, {"load": "this system has no load average"})


def _trial(tuned: Tuned, trial: Trial) -> Json:
    timed = {f"minutes_{n}": finite(tuned.minutes(trial, n)) for n in LENGTHS}
    values: Json = {
        "settings": plain(dict(trial.settings)),
        "kind": trial.kind,
        "ratio": finite(trial.ratio),
        "update": finite(trial.update),
        "start": trial.start,
        "same_bits": trial.same_bits,
        **timed,
        "loss": trial.loss,
        "evidence": trial.evidence,
    }
    why = trial.why or "not timed"
    return with_why(values, {**dict.fromkeys(("ratio", "update", *timed), why), "same_bits": "not compared"})
