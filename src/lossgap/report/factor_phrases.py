"""Factors as a learner says them: `the larger model`, `the longer training`, `the dropout`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from lossgap.attribution.factor import Factor
from lossgap.strangers import one_line, visible

_MOST = 40
"""Characters of a factor that the user named."""

Level = Mapping[str, object]
"""The settings of a factor at one end."""


def phrase(factor: Factor, *, of_test: bool) -> str:
    """The factor by what it is at one end, compared with the other: the test's, or the control's."""
    place = 1 if of_test else 0
    own, other = ({name: pair[n] for name, pair in factor.settings.items()} for n in (place, 1 - place))
    if factor.name in _SIZES:
        size, larger, smaller, noun = _SIZES[factor.name]
        first, second = size(own), size(other)
        if first is not None and second is not None and first != second:
            return f"the {larger if first > second else smaller} {noun}"
        return f"the other {noun}"
    if set(factor.settings) == {"dropout"}:
        first, second = _number(own, "dropout"), _number(other, "dropout")
        if first is not None and second is not None:
            return "the dropout" if not second else "no dropout" if not first else _compared(first, second, "dropout")
    return _OTHERS.get(factor.name, one_line(visible(factor.name), _MOST))


def _compared(first: float, second: float, noun: str) -> str:
    return f"the {'higher' if first > second else 'lower'} {noun}"


def _number(level: Level, name: str) -> float | None:
    value = level.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _product(level: Level, powers: Mapping[str, int]) -> float | None:
    """The product of the settings that differ, each to its power; None if one of them is not a number."""
    known = [(_number(level, name), power) for name, power in powers.items() if name in level]
    if not known or any(value is None for value, _ in known):
        return None
    return math.prod((value or 0.0) ** power for value, power in known)


def _size(powers: Mapping[str, int]) -> Callable[[Level], float | None]:
    return lambda level: _product(level, powers)


_SIZES: dict[str, tuple[Callable[[Level], float | None], str, str, str]] = {
    # A model has about 12 n_layer n_embd^2 parameters; heads share them out and add none.
    "capacity": (_size({"n_layer": 1, "n_embd": 2}), "larger", "smaller", "model"),
    "context": (_size({"block_size": 1}), "longer", "shorter", "context"),
    "batch": (_size({"batch_size": 1, "gradient_accumulation_steps": 1}), "larger", "smaller", "batch"),
    "length": (_size({"max_iters": 1}), "longer", "shorter", "training"),
}
"""(size of a level, word for the larger one, word for the smaller one, noun)."""
_OTHERS = {
    "schedule": "the learning-rate schedule",
    "regularisation": "the regularisation",
    "optimizer": "the optimizer's settings",
    "data": "the data",
    "numerics": "the numerics",
    "device": "the device",
}
