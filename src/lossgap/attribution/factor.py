"""The factors in which two trainings differ, and the settings of every combination of their levels.

    plan = factors(control, test)                       # configs as mappings of TrainConfig settings
    plan.factors                                        # Factor(name="capacity", settings={"n_layer": (4, 6), ...})
    plan.settings({"capacity", "batch"})                # the config of the arm with these switched to the test

A factor is a group of settings that is switched as one (`config.py` says which). Two groups are coordinates:

- length: `max_iters`; with `coordinates="tokens"` the tokens of the training, so that switching the batch or the
  context keeps the tokens and changes the iterations.
- schedule: rates, and the horizons as ratios `lr_decay_iters / max_iters` and `warmup_iters / max_iters`, so that a
  longer training carries its horizons along.

The ends are exact: nothing switched gives the control's settings, all switched the test's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lossgap.config import FACTORS, TrainConfig, describe
from lossgap.errors import ConfigError
from lossgap.settings import did_you_mean
from lossgap.strangers import one_line, short

Coordinates = Literal["iterations", "tokens"]
COORDINATES: tuple[Coordinates, ...] = ("iterations", "tokens")
ROUNDING = ("compile", "deterministic", "attention", "adamw", "threads")
"""Settings that choose between kernels of the same arithmetic: they change rounding; switched only on request."""
HORIZONS = ("lr_decay_iters", "warmup_iters")
BATCH = ("gradient_accumulation_steps", "batch_size")
SEED_STEP = 7919
"""The step that a seed, where it is a factor, adds at the test's level: another repetition, and nothing else."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A group of settings switched as one: (control's value, test's value) by setting."""

    name: str
    settings: Mapping[str, tuple[object, object]]


@dataclass(frozen=True, kw_only=True)
class NotSwitched:
    """A difference that no arm switches: what it does to the gap is unknown, never 0."""

    name: str
    settings: Mapping[str, tuple[object, object]]
    why: str


@dataclass(frozen=True, kw_only=True)
class FactorPlan:
    """The factors of two configs. Levels: a factor is at the control's or at the test's."""

    control: TrainConfig
    test: TrainConfig
    factors: tuple[Factor, ...]
    not_switched: tuple[NotSwitched, ...] = ()
    coordinates: Coordinates = "iterations"
    notes: tuple[str, ...] = field(default=())

    @property
    def names(self) -> tuple[str, ...]:
        """The factors' names, in their order."""
        return tuple(item.name for item in self.factors)

    def settings(self, switched: Collection[str]) -> dict[str, object]:
        """All `TrainConfig` settings of the arm in which these factors have the test's level, the others the control's.

        A difference that is not switched stays at the control's level. The seed is the default one, whatever the ends
        had: the design says which repetition an arm is, and only a seed that is made a factor moves it. Raises
        ConfigError where the mixture is not a valid config (n_head of one end may not divide n_embd of the other).
        """
        unknown = set(switched) - set(self.names)
        assert not unknown, f"no such factors: {unknown}"
        of_test = {name for item in self.factors if item.name in switched for name in item.settings}
        base, other = self.control.to_dict(), self.test.to_dict()
        values = {name: other[name] if name in of_test else base[name] for name in base}
        values["seed"] = TrainConfig.seed + SEED_STEP * ("seed" in of_test)
        values |= self._horizons(of_test, values)
        return TrainConfig.from_dict(values).to_dict()

    def _horizons(self, of_test: set[str], values: Mapping[str, object]) -> dict[str, int]:
        """`max_iters` and what is carried along with it."""
        of_length = self.test if "max_iters" in of_test else self.control
        max_iters = of_length.max_iters
        if self.coordinates == "tokens":
            per_iter = 1
            for name in (*BATCH, "block_size"):
                value = values[name]
                assert isinstance(value, int)
                per_iter *= value
            max_iters = max(1, round(of_length.max_iters * of_length.tokens_per_iter / per_iter))
        found = {"max_iters": max_iters}
        factors = {name for item in self.factors for name in item.settings}
        for name in HORIZONS:
            of_horizon = name if name in factors else "max_iters"  # in proportion: each length has its own end's
            found[name] = _carried(self.test if of_horizon in of_test else self.control, name, max_iters)
        warmup = found["warmup_iters"]
        if values["decay_lr"] and found["lr_decay_iters"] == warmup <= max_iters:
            found["lr_decay_iters"] = warmup + 1  # else the cosine divides by zero
        return found


def factors(
    control: TrainConfig,
    test: TrainConfig,
    *,
    coordinates: Coordinates = "iterations",
    regroup: Mapping[str, Sequence[str]] | None = None,
    fixed: Mapping[str, str] | None = None,
) -> FactorPlan:
    """The factors in which the two configs differ.

    `regroup` takes settings out of their factors and into one of its own name; settings that no factor has by itself
    (seed, eval_interval) become one by it. `fixed` says of differing settings that cannot be switched here why.
    Raises ConfigError: `bad-factor`.
    """
    regroup = dict(regroup or {})
    _check_regroup(regroup)
    fixed = dict(fixed or {})
    own = {name: factor for factor, names in regroup.items() for name in names}
    changed = _changed(control, test, coordinates)
    groups: dict[str, dict[str, tuple[object, object]]] = {}
    held: dict[str, dict[str, tuple[object, object]]] = {}
    reasons: dict[str, dict[str, None]] = {}
    for item in describe():
        name = item.name
        if name not in changed and not (name == "seed" and name in own):
            continue
        factor = own.get(name) or item.factor
        if factor is None:
            continue
        values = (TrainConfig.seed, TrainConfig.seed + SEED_STEP) if name == "seed" else changed[name]
        if name in HORIZONS and values[0] == values[1]:  # equal numbers, and other parts of the training
            values = f"{values[0]} of {control.max_iters}", f"{values[1]} of {test.max_iters}"
        why = fixed.get(name, "")
        if not why and name in ROUNDING and name not in own:
            why = (
                f"it chooses between kernels of the same arithmetic, and is switched only on request "
                f"(--factor numerics={name})"
            )
        target = held if why else groups
        target.setdefault(factor, {})[name] = values
        if why:
            reasons.setdefault(factor, {})[why] = None
    order = {name: index for index, name in enumerate((*FACTORS, *regroup))}
    return FactorPlan(
        control=control,
        test=test,
        factors=tuple(Factor(name=name, settings=groups[name]) for name in sorted(groups, key=order.__getitem__)),
        not_switched=tuple(
            NotSwitched(name=name, settings=held[name], why="; ".join(reasons[name]))
            for name in sorted(held, key=order.__getitem__)
        ),
        coordinates=coordinates,
    )


def _changed(control: TrainConfig, test: TrainConfig, coordinates: Coordinates) -> dict[str, tuple[object, object]]:
    """The settings that differ, in the declared coordinates."""
    first, second = control.to_dict(), test.to_dict()
    changed = {name: (first[name], second[name]) for name in first if first[name] != second[name]}
    if coordinates == "tokens":
        tokens = [config.max_iters * config.tokens_per_iter for config in (control, test)]
        changed.pop("max_iters", None)
        if tokens[0] != tokens[1]:
            changed["max_iters"] = (control.max_iters, test.max_iters)
    for name in HORIZONS:
        # Equal numbers of two lengths are other ratios: a warm-up of 100 in 2000 iterations, and in 5000.
        changed.pop(name, None)
        if not _in_proportion(control, test, name, "max_iters" in changed):
            changed[name] = (first[name], second[name])
    if not control.decay_lr and not test.decay_lr:
        for name in (*HORIZONS, "min_lr"):
            changed.pop(name, None)
    same_batch = len({config.batch_size * config.gradient_accumulation_steps for config in (control, test)}) == 1
    if same_batch:
        # The same sequences in other micro-batches: the same update up to rounding.
        for name in BATCH:
            changed.pop(name, None)
    return changed


def _carried(config: TrainConfig, name: str, max_iters: int) -> int:
    """A horizon of a config in a training of this length: the same ratio, to the nearest iteration."""
    horizon: int = getattr(config, name)
    return horizon if max_iters == config.max_iters else round(horizon * max_iters / max(config.max_iters, 1))


def _in_proportion(control: TrainConfig, test: TrainConfig, name: str, with_length: bool) -> bool:
    """True if a horizon is the same part of both trainings, so that it comes along with the length.

    Where length is a factor, up to one iteration of the shorter, which rounding makes of equal parts. Where it is not
    (equal tokens in other iterations), one end's horizon must give the other's.
    """
    pairs = ((control, test), (test, control))
    if not with_length or control.max_iters == test.max_iters:
        return all(_carried(one, name, other.max_iters) == getattr(other, name) for one, other in pairs)
    parts = [getattr(config, name) / max(config.max_iters, 1) for config in (control, test)]
    apart: float = abs(parts[0] - parts[1]) * min(control.max_iters, test.max_iters)
    return apart <= 1


def _check_regroup(regroup: Mapping[str, Sequence[str]]) -> None:
    known = [item.name for item in describe()]
    seen: set[str] = set()
    for factor, names in regroup.items():
        if not _NAME.fullmatch(factor):
            raise ConfigError(
                "bad-factor",
                f"--factor {short(factor)}: a factor's name is a letter, then letters, digits, - and _, 40 at most; "
                "e.g. --factor regularisation=dropout",
            )
        for name in names:
            if name not in known:
                advice = did_you_mean(name, known) or "`lossgap train --help` lists the settings"
                raise ConfigError("bad-factor", f"--factor {factor}: there is no setting {one_line(name)!r}; {advice}")
            if name in seen:
                raise ConfigError("bad-factor", f"--factor {factor}: {name} is in two factors; name it once")
            seen.add(name)
        if not names:
            raise ConfigError("bad-factor", f"--factor {factor}: name its settings, e.g. --factor {factor}=dropout")
