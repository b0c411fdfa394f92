"""Which shipped recipe a log without settings may come from: its losses, sizes and speed against the references.

Every figure of the run at an iteration that a reference has is compared with it, within a tolerance that covers other
seeds, devices and the rounding of print (`references.json` says where its numbers are from). A recipe is named
when nothing that can be compared contradicts it and the weight of what agrees is at least `ENOUGH`:

    1     a loss of an evaluation at iteration `LATE` or later; both losses at iteration 0 to every digit
    0.25  a loss of one iteration
    0.5   a size that the log prints (parameters, tokens per iteration, vocabulary) or a stated setting
    0.5   the last iteration is the recipe's max_iters (a later one contradicts)
    0.5   the FLOPs of an iteration as MFU x 312 TFLOP/s x time (nanoGPT's MFU is of an A100)

Then the recipe's settings are inferred, never stated: another recipe may end with the same figures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from typing import cast

import polars as pl

from lossgap.arithmetic import flops_per_token, nanogpt_parameters
from lossgap.config import NANOGPT_FIELDS, TrainConfig
from lossgap.presets import preset
from lossgap.runs.run import Inferred, Run
from lossgap.runs.values import as_float, as_int, as_mapping
from lossgap.settings import settings_of

ENOUGH = 2.0
LATE = 100
"""Before this iteration all recipes of the corpus look alike."""
OUTLIERS = 0.05
"""Share of loss comparisons that may lie between one and two tolerances: with many, a few always do."""
FLOPS_FACTOR = 1.6
"""How far the implied FLOPs of an iteration may be off: nanoGPT's MFU is a moving average."""
A100 = 312e12
SIZES = ("n_layer", "n_head", "n_embd", "block_size", "batch_size", "dropout", "max_iters", "learning_rate")
NOT_INFERRED = (
    "out_dir",
    "wandb_log",
    "wandb_project",
    "wandb_run_name",
    "device",
    "compile",
    "always_save_checkpoint",
)
DEFAULTS = {name: settings_of(TrainConfig)[name].default for name in NANOGPT_FIELDS if name not in NOT_INFERRED}


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One recipe with its published or measured losses."""

    name: str
    settings: Mapping[str, object]
    vocab_size: int
    evals: Mapping[int, tuple[float, float]]
    """iteration -> train loss, val loss"""
    iters: Mapping[int, float]
    tolerance: Mapping[str, float]
    sources: tuple[str, ...]

    @property
    def parameters(self) -> int:
        """As nanoGPT counts them."""
        s = self.settings
        return nanogpt_parameters(
            cast("int", s["n_layer"]), cast("int", s["n_embd"]), self.vocab_size, bias=bool(s.get("bias", False))
        )

    @property
    def tokens_per_iter(self) -> int:
        """Tokens of one update."""
        s = self.settings
        return (
            cast("int", s["gradient_accumulation_steps"]) * cast("int", s["batch_size"]) * cast("int", s["block_size"])
        )

    @property
    def flops_per_iter(self) -> float:
        """FLOPs of one update."""
        s = self.settings
        layers, width, context = (cast("int", s[name]) for name in ("n_layer", "n_embd", "block_size"))
        return float(flops_per_token(self.parameters, layers, width, context) * self.tokens_per_iter)


@lru_cache(maxsize=1)
def references() -> tuple[Reference, ...]:
    """The shipped references."""
    text = resources.files("lossgap.runs").joinpath("references.json").read_text(encoding="utf-8")
    return tuple(
        Reference(
            name=item["name"],
            settings=DEFAULTS | preset(item["preset"]) | item["changes"],
            vocab_size=item["vocab_size"],
            evals={row[0]: (row[1], row[2]) for row in item["evals"]},
            iters={row[0]: row[1] for row in item["iters"]},
            tolerance=item["tolerance"],
            sources=tuple(item["sources"]),
        )
        for item in json.loads(text)["recipes"]
    )


@dataclass
class RecipeMatch:
    """The settings that agree with a reference and those that do not."""

    reference: Reference
    weight: float = 0.0
    agree: list[str] = field(default_factory=list)
    near: list[str] = field(default_factory=list)
    """Losses between one and two tolerances."""
    contradict: list[str] = field(default_factory=list)
    losses: int = 0
    off: float = 0.0
    """Sum of the differences of losses, in tolerances."""

    @property
    def holds(self) -> bool:
        """True if the recipe may be named."""
        return not self.contradict and len(self.near) <= OUTLIERS * self.losses and self.weight >= ENOUGH

    def loss(self, what: str, value: float, expected: float, tolerance: float, weight: float) -> None:
        """Compare one loss."""
        self.losses += 1
        off = abs(value - expected)
        self.off += off / tolerance
        if off <= tolerance:
            self.weight += weight
            if weight:
                self.agree.append(f"{what} {value:g}")
        elif off <= 2 * tolerance:
            self.near.append(what)
        else:
            self.contradict.append(f"{what} {value:g} against {expected:g}")

    def size(self, what: str, same: bool) -> None:
        """Compare one size or setting."""
        if same:
            self.weight += 0.5
            self.agree.append(what)
        else:
            self.contradict.append(what)


def match(run: Run, reference: Reference) -> RecipeMatch:
    """Compare a run with one reference."""
    found = RecipeMatch(reference)
    _sizes(run, found)
    _length(run, found)
    _interval(run, found)
    _evals(run, found)
    _iters(run, found)
    _speed(run, found)
    return found


def _interval(run: Run, found: RecipeMatch) -> None:
    """Evaluations at iterations between the recipe's own: the log has another eval_interval."""
    every, ends = found.reference.settings.get("eval_interval"), found.reference.settings.get("max_iters")
    if not isinstance(every, int) or every < 2 or run.format == "figures":
        return
    evaluated = run.evals.filter(pl.col("kind").fill_null("eval") == "eval")["iter"].drop_nulls().to_list()
    odd = [at for at in evaluated if at % every and at != ends]
    if len(odd) >= 2:
        found.contradict.append(f"evaluations at {odd[0]} and {odd[1]}, where eval_interval is {every}")


def _rounding(run: Run, column: str) -> float:
    series = run.series.get(column)
    return 0.5 * 10.0**-series.digits if series is not None and series.digits is not None else 0.0


def _evals(run: Run, found: RecipeMatch) -> None:
    reference = found.reference
    rows = run.evals.filter((pl.col("kind") == "eval") & pl.col("iter").is_in(list(reference.evals)))
    for at, train, val in rows.select("iter", "train_loss", "val_loss").iter_rows():
        expected = reference.evals[at]
        exact = at == 0 and (train, val) == expected
        if exact:
            found.weight += 1
            found.agree.append(f"both losses at iteration 0 ({train:g}, {val:g})")
        for name, value, aim in (("train", train, expected[0]), ("val", val, expected[1])):
            if value is None:
                continue
            tolerance = reference.tolerance["start" if at < LATE else name] + _rounding(run, f"evals.{name}_loss")
            found.loss(f"{name} loss at {at}", value, aim, tolerance, 1.0 if at >= LATE else 0.0)


def _iters(run: Run, found: RecipeMatch) -> None:
    reference = found.reference
    rows = run.iters.filter(pl.col("iter").is_in(list(reference.iters)) & pl.col("loss").is_not_null())
    for at, value in rows.select("iter", "loss").iter_rows():
        tolerance = reference.tolerance["iter"] + _rounding(run, "iters.loss")
        found.loss(f"loss of iteration {at}", value, reference.iters[at], tolerance, 0.25 if at >= LATE else 0.0)


def _sizes(run: Run, found: RecipeMatch) -> None:
    reference = found.reference
    counted, rounded = as_int(run.parameters.get("nanogpt_count")), as_int(run.parameters.get("rounded_to")) or 1
    if counted is not None:
        found.size("parameters", abs(counted - reference.parameters) <= rounded)
    if run.tokens_per_iter is not None:
        found.size("tokens per iteration", run.tokens_per_iter == reference.tokens_per_iter)
    vocab = as_int(run.corpus.get("vocab_size"))
    if vocab is not None:
        found.size("vocabulary", vocab == reference.vocab_size)
    for name in SIZES:
        if name in run.config:
            found.size(name, run.config[name] == reference.settings.get(name))


def _length(run: Run, found: RecipeMatch) -> None:
    if run.span is None:
        return
    last, ends = run.span[1], cast("int", found.reference.settings["max_iters"])
    if last == ends:
        found.weight += 0.5
        found.agree.append(f"last iteration {last}")
    elif last > ends:
        found.contradict.append(f"iteration {last}")


def _speed(run: Run, found: RecipeMatch) -> None:
    """MFU x the A100's peak x time: FLOPs of an iteration; few rows may hold an evaluation and only bound it."""
    peak = as_float(run.peak.get("flops")) or (A100 if run.format == "figures" else None)
    rows = run.iters.filter((pl.col("mfu") > 0) & (pl.col("ms") > 0))
    if peak is None or rows.is_empty() or run.format == "lossgap":
        return
    # An MFU of 0.01% may be anything from 0.005% to 0.015%.
    values = rows.select((pl.col("mfu") + 0.00005) * pl.col("ms") / 1000 * peak, low=(pl.col("mfu") - 0.00005).clip(0))
    expected = found.reference.flops_per_iter
    high = cast("float", values.to_series(0).median())
    low = cast("float", (rows["ms"] / 1000 * values["low"] * peak).median())
    if high < expected / FLOPS_FACTOR:
        found.contradict.append(f"at most {high:.3g} FLOPs an iteration by MFU and time, against {expected:.3g}")
    elif low > expected * FLOPS_FACTOR:
        if rows.height >= 5:
            found.contradict.append(f"at least {low:.3g} FLOPs an iteration by MFU and time, against {expected:.3g}")
    else:
        found.weight += 0.5
        found.agree.append(f"FLOPs of an iteration by MFU and time ({expected:.3g})")


def recipe(run: Run) -> list[Inferred]:
    """The recipe that the figures fit and its settings, or nothing."""
    matches = sorted((match(run, item) for item in references()), key=lambda item: (-item.weight, item.off))
    fitting = [item for item in matches if item.holds]
    if not fitting or not any("loss" in what for what in fitting[0].agree):
        return []
    best = fitting[0]
    others = tuple(item.reference.name for item in fitting[1:])
    shown = ", ".join(best.agree[:6]) + (f" and {len(best.agree) - 6} more" if len(best.agree) > 6 else "")
    why = f"agree with the reference: {shown}; nothing contradicts"
    also = (*others, "a recipe that is not among the references")
    found = [Inferred(name="recipe", value=best.reference.name, why=why, alternatives=also)]
    for name, value in best.reference.settings.items():
        if name in NOT_INFERRED or name in run.config:
            continue
        given = {item.reference.settings.get(name) for item in fitting[1:]} - {value}
        alternatives = tuple(sorted(given, key=repr))
        why = f"the recipe {best.reference.name}, itself inferred"
        found.append(Inferred(name=name, value=value, why=why, alternatives=alternatives))
    return found


def facts(run: Run) -> dict[str, object]:
    """Vocabulary of the inferred recipe, for a run that does not say it."""
    name = next((item.value for item in run.inferred if item.name == "recipe"), None)
    for item in references():
        if item.name == name and "vocab_size" not in as_mapping(run.corpus):
            return {"vocab_size": item.vocab_size}
    return {}
