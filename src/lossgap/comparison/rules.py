"""Findings and the registry of the rules: one rule is one function in `comparison/findings/`.

    @rule("learning-rate-horizon", title="The learning rate decays over another horizon", group="B", order=3)
    def learning_rate_horizon(pair: Pair) -> Result:
        control, test = pair.control.horizon, pair.test.horizon
        if isinstance(control, Unknown) or isinstance(test, Unknown):
            yield lacking(control, test, what="whether both decay over the same horizon")
            return
        if control.value != test.value:
            yield cause("likely", "computed", f"... {control.value:,} ... {test.value:,} iterations.",
                        numbers={"control": control.value, "test": test.value}, effect=-0.02,
                        settle="Run the test with the control's lr_decay_iters.",
                        command="lossgap train shakespeare_char_cpu --lr_decay_iters=2000")

What a rule gets is the `Pair`: `pair.control` and `pair.test` (`Facts`, see facts.py), `pair.alignment` (values at
equal iterations, tokens, ...; see alignment.py), `pair.noise` (standard error of the gap and its parts; see noise.py),
`pair.settings` (what differs; see differences.py). It yields any number of:

cause(...)     makes the gap, or would. `strength` is how sure the rule is, `effect` the share of the gap (test minus
               control, nats per token) that it expects of it, with its sign, None where no size is known. A cause
               whose sign is against the gap is shown as a remark that says so; a gap inside the noise has no causes.
remark(...)    something a reader should know: no cause of the gap, or a doubt about the measurement.
lacking(...)   it cannot judge; names the settings it lacks. The missing settings go into `next`.
ruled_out(...) it looked, and this is not the cause.

Rules are pure, never raise, and never guess: `evidence` is `measured` (by a run made for it), `computed` (from
the settings), `inferred` (from the curves or a matched recipe), `unknown`. They fire in the order R0 to R11 (`order`),
and a later rule can see in `pair.so_far` what earlier ones found. `formats` limits a rule to logs of some readers.
`find(pair)` runs all of them; modules below `comparison/findings/` are found by themselves.
"""

from __future__ import annotations

import math
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from lossgap.comparison.fact import Known, Unknown

if TYPE_CHECKING:
    from lossgap.comparison.alignment import Alignment
    from lossgap.comparison.differences import Settings
    from lossgap.comparison.facts import Facts
    from lossgap.comparison.noise import Noise

Role = Literal["cause", "remark"]
Strength = Literal["strong", "likely", "possible"]
Evidence = Literal["measured", "computed", "inferred", "unknown"]
Group = Literal["A", "B", "C", "D", "E", "F"]
"""A other experiment, B schedule and overfitting, C other metric, D data and resume, E numerics, F chance."""

STRENGTHS: tuple[Strength, ...] = ("strong", "likely", "possible")
LAST_ORDER = 11
_ONLY_MEASURED = ("hardware", "device", "kernel")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One result of one rule. `numbers` holds JSON values, no NaN and no infinity (None instead)."""

    id: str = ""
    """The id of its rule; filled in by `find`."""
    title: str = ""
    """By default the title of its rule."""
    role: Role
    strength: Strength
    evidence: Evidence
    text: str
    """One or two plain sentences with the numbers."""
    numbers: Mapping[str, object] = field(default_factory=dict)
    settle: str = ""
    """One sentence on what would settle it; empty if it is settled."""
    command: str = ""
    """The command that would do so, if there is one."""
    effect: float | None = None
    """Expected contribution to test minus control, nats per token; None where its sign or its size is not known."""
    size: float | None = None
    """Expected size of a contribution whose sign is not known in advance, nats per token."""
    needs: tuple[str, ...] = ()
    """`RUN.setting` for each setting that the rule lacks: `control.block_size`."""
    group: Group = "A"
    order: int = 0

    @property
    def magnitude(self) -> float | None:
        """The size of what the rule expects, nats per token; None where it knows none."""
        return self.size if self.effect is None else abs(self.effect)


@dataclass(frozen=True, kw_only=True)
class RuledOut:
    """A cause that was looked for and is not there."""

    id: str = ""
    title: str = ""
    evidence: Evidence
    text: str
    numbers: Mapping[str, object] = field(default_factory=dict)


Result = Iterator[Finding | RuledOut]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The two runs, and everything else that a rule may look at."""

    control: Facts
    test: Facts
    alignment: Alignment
    noise: Noise
    settings: Settings
    so_far: tuple[Finding | RuledOut, ...] = ()
    """Results of the rules before this one."""

    @property
    def runs(self) -> tuple[tuple[str, Facts], tuple[str, Facts]]:
        """`("control", facts), ("test", facts)`, for rules that look at each run."""
        return (("control", self.control), ("test", self.test))


Function = Callable[[Pair], Iterable[Finding | RuledOut]]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A registered rule."""

    id: str
    title: str
    group: Group
    order: int
    formats: frozenset[str]
    function: Function

    def applies(self, pair: Pair) -> bool:
        """True if one of the runs has a format that this rule is about."""
        return not self.formats or any(facts.run.format in self.formats for _, facts in pair.runs)


_RULES: dict[str, Rule] = {}


def rule(
    id: str, *, title: str, group: Group, order: int, formats: Sequence[str] = ()
) -> Callable[[Function], Function]:
    """Register a rule. `order` is 0 to 11 (R0 ... R11); `formats` are names of readers, none means all."""
    assert 0 <= order <= LAST_ORDER, f"{id}: order {order} is not one of R0 to R{LAST_ORDER}"

    def register(function: Function) -> Function:
        assert id not in _RULES or _RULES[id].function.__qualname__ == function.__qualname__, f"two rules named {id}"
        _RULES[id] = Rule(id=id, title=title, group=group, order=order, formats=frozenset(formats), function=function)
        return function

    return register


@cache
def _import_all() -> None:
    package = import_module("lossgap.comparison.findings")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"{package.__name__}.{module.name}")


def rules() -> tuple[Rule, ...]:
    """All rules in their firing order: R0 to R11, within one the order of their ids."""
    _import_all()
    return tuple(sorted(_RULES.values(), key=lambda item: (item.order, item.id)))


# ---------------------------------------------------------------------------------------------
# What rules yield


def cause(
    strength: Strength,
    evidence: Evidence,
    text: str,
    *,
    numbers: Mapping[str, object] | None = None,
    effect: float | None = None,
    size: float | None = None,
    settle: str = "",
    command: str = "",
    title: str = "",
) -> Finding:
    """A cause of the gap. `effect` has the sign of what it does to test minus control; `size` is one without a sign."""
    found = dict(numbers or {})
    if size is not None and effect is None:
        found["expected_size"] = size
    return Finding(
        role="cause",
        strength=strength,
        evidence=evidence,
        text=text,
        numbers=found,
        effect=effect,
        size=None if size is None else abs(size),
        settle=settle,
        command=command,
        title=title,
    )


def remark(
    evidence: Evidence,
    text: str,
    *,
    strength: Strength = "likely",
    numbers: Mapping[str, object] | None = None,
    effect: float | None = None,
    settle: str = "",
    command: str = "",
    title: str = "",
) -> Finding:
    """Something a reader should know that does not cause the gap."""
    return Finding(
        role="remark",
        strength=strength,
        evidence=evidence,
        text=text,
        numbers=numbers or {},
        effect=effect,
        settle=settle,
        command=command,
        title=title,
    )


def lacking(control: object, test: object, *, what: str, title: str = "") -> Finding:
    """A remark that `what` cannot be judged, with what is missing of each run (`Fact`s; known ones lack nothing)."""
    missing: list[str] = []
    reasons: list[str] = []
    for name, item in (("control", control), ("test", test)):
        if isinstance(item, Unknown):
            missing += [f"{name}.{need}" for need in item.needs]
            reasons.append(f"{name}: {item.why}")
    gives = ", ".join(missing)
    return Finding(
        role="remark",
        strength="possible",
        evidence="unknown",
        title=title,
        text=f"Not known: {what}. {'; '.join(reasons)}.",
        settle=f"Give {gives} with --set." if gives else "",
        needs=tuple(missing),
    )


def ruled_out(
    evidence: Evidence, text: str, *, numbers: Mapping[str, object] | None = None, title: str = ""
) -> RuledOut:
    """A cause that was looked for and is not there."""
    return RuledOut(evidence=evidence, text=text, numbers=numbers or {}, title=title)


# ---------------------------------------------------------------------------------------------
# Running them


def find(pair: Pair, using: Sequence[Rule] | None = None) -> tuple[Finding | RuledOut, ...]:
    """The results of all rules (or of `using`) for this pair, in firing order."""
    found: list[Finding | RuledOut] = []
    for item in rules() if using is None else using:
        if item.applies(pair):
            seen = replace(pair, so_far=tuple(found))
            found.extend(_named(item, result) for result in item.function(seen))
    return tuple(found)


def _named(item: Rule, result: Finding | RuledOut) -> Finding | RuledOut:
    """`result` with the id, title, group and order of its rule; checks what holds for every rule."""
    assert not result.id or result.id == item.id, f"rule {item.id} yields a result of {result.id}"
    for name, value in result.numbers.items():
        assert not (isinstance(value, float) and not math.isfinite(value)), f"{item.id}: {name} is {value}"
    if isinstance(result, RuledOut):
        return replace(result, id=item.id, title=result.title or item.title)
    # A claim about hardware stands on a measurement or is not made.
    blames = any(word in item.id for word in _ONLY_MEASURED)
    assert not blames or result.evidence == "measured", f"{item.id} needs evidence measured, has {result.evidence}"
    return replace(result, id=item.id, title=result.title or item.title, group=item.group, order=item.order)


__all__ = [
    "Finding",
    "Known",
    "Pair",
    "Result",
    "Rule",
    "RuledOut",
    "Unknown",
    "cause",
    "find",
    "lacking",
    "remark",
    "rule",
    "ruled_out",
    "rules",
]
