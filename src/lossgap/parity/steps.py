"""Is each step computed right here? The recorded steps, teacher-forced, on another device or in another arithmetic.

    verdict = judge(bundle, numerics)
    verdict.first          # the first value out of bounds: iteration, name, direction; None if there is none

Every value of a recorded step (`lossgap.parity.reference`) is judged three ways: in float64 on this CPU, on this device
in its arithmetic, and both of the recording machine, which the bundle tells. Each layer works on its own inputs, as
float64 has them, so that a fault shows where it is and not in what follows. Then

1. The float64 of this machine must be the recorded one. Where it is not, its code differs: a fault in the model or the
   optimizer, which would corrupt both sides here. It counts against the recorded float64, by sketches. If it is larger
   than what the arithmetic is allowed, the value is out of bounds; if smaller, it is `below what this dtype can show`.
   A layer whose inputs differ already from the recorded ones is not judged.
2. Else this device's error against float64 must be within what is allowed there: a multiple of what the recorded twins
   of that step showed in the same arithmetic (`lossgap.parity.evidence`).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lossgap.corpus import Corpus, open_corpus
from lossgap.errors import CorpusError
from lossgap.parity.bundle import Bundle, BundlePoint
from lossgap.parity.drawing import draw, new_draws
from lossgap.parity.evidence import Item, teacher_gradients
from lossgap.parity.reference import (
    BATCHES,
    DATA,
    GRADIENT,
    LOSS,
    Direction,
    Key,
    Step,
    data_of,
    gradient_key,
    inputs_of,
    is_of_unit,
    matters,
)
from lossgap.parity.rounding import Arithmetic, arithmetic
from lossgap.parity.sketch import distance, relative_error, sketch
from lossgap.schedule import learning_rate
from lossgap.training.numerics import Numerics, before_cuda

Verdict = Literal["within", "out of bounds", "below what this dtype can show", "not judged"]
RATE_ALLOWED = 1e-12
"""The error allowed for a learning rate: the cosine of two C libraries, which no dtype rounds."""
CODE_DIFFERS = "the code differs"
"""How the reason of a check begins where float64, which no device rounds, is another one here."""
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""A corpus of such a name is looked for; a path in a stranger's bundle is not followed."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class StepCheck:
    """One value of one recorded step."""

    iteration: int
    name: str
    """The unit (`transformer.h.0.mlp.c_fc`), the parameter, or `whole step`, `AdamW`, `val loss`, `inputs`, ..."""
    direction: Direction
    what: str
    """The value of the unit: its output, the gradient of its input, ..."""
    error: float | None
    """Relative, in the 2-norm, against float64; None where it is not finite or not judged, with `why`."""
    allowed: float | None
    reference_error: float | None
    """The recording machine's in the same arithmetic; None if it did not run it."""
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The verdict on all recorded steps."""

    arithmetic: Arithmetic
    checks: tuple[StepCheck, ...]
    """In the order of iterations, and in each of the data flow: data, forward, backward, optimizer, evaluation."""

    @property
    def first(self) -> StepCheck | None:
        """The first value out of bounds."""
        return next((check for check in self.checks if check.verdict == "out of bounds"), None)

    @property
    def below(self) -> StepCheck | None:
        """The first value that differs, but by less than this arithmetic can show."""
        return next((check for check in self.checks if check.verdict == "below what this dtype can show"), None)

    @property
    def code_differs(self) -> bool:
        """True if the first value out of bounds is another one in float64, too: then no kernel made the fault."""
        return self.first is not None and self.first.why.startswith(CODE_DIFFERS)

    def worst(self) -> list[StepCheck]:
        """Return the check that is furthest out for each name and direction, in the order of their first appearance."""
        found: dict[tuple[str, Direction], StepCheck] = {}
        for check in self.checks:
            place = (check.name, check.direction)
            found[place] = max(found.get(place, check), check, key=_rank)
        return list(found.values())


def _rank(check: StepCheck) -> tuple[int, float]:
    order = ("not judged", "within", "below what this dtype can show", "out of bounds")
    if check.error is None or not check.allowed:
        return order.index(check.verdict), math.inf if check.error else 0.0
    return order.index(check.verdict), check.error / check.allowed


def judge(bundle: Bundle, numerics: Numerics, *, say: Say = lambda line: None) -> Steps:
    """Judge every recorded step in these numerics: layers eager, the whole step as `numerics` says, compiled or not.

    `say` is told, in a line, what takes its time.
    """
    before_cuda(numerics.deterministic, numerics.device)
    checks = [*drawn_checks(bundle)]
    for point in bundle.points:
        say(f"judging the step of iteration {point.iteration}")
        checks += _Judging(bundle, point, numerics).checks()
    return Steps(arithmetic=arithmetic(numerics), checks=tuple(checks))


class _Judging:
    """One recorded step."""

    def __init__(self, bundle: Bundle, point: BundlePoint, numerics: Numerics) -> None:
        self.bundle, self.point, self.kind = bundle, point, arithmetic(numerics)
        self.items = {item.key: item for item in point.items}
        self.job = bundle.job()
        self.exact = Step(self.job, None, point.moment)
        self.layers = Step(self.job, dataclasses.replace(numerics, compile=False), point.moment)
        self.device = Step(self.job, numerics, point.moment) if numerics.compile else self.layers

    def checks(self) -> list[StepCheck]:
        data = self._each(lambda key: key in DATA, data_of(self.job, self.point.iteration))
        data += self._weights()
        forward, backward = self._units(training=True)
        exact, found = self.exact.gradients(), self.device.gradients()
        forward += self._each(lambda key: key == LOSS, exact, found)
        backward += self._each(lambda key: key.what == GRADIENT, exact, found)
        optimizer = [self._rate(), *self._updates(exact)]
        evaluation = self._units(training=False)[0] if self.bundle.config.dropout > 0 else []
        evaluation += self._each(lambda key: key.what == BATCHES, self.exact.evaluation(), self.device.evaluation())
        return [*data, *forward, *backward, *optimizer, *evaluation]

    def _units(self, *, training: bool) -> tuple[list[StepCheck], list[StepCheck]]:
        """Forward checks in the order of the forward pass, backward ones in that of the backward pass."""
        found: dict[str, list[StepCheck]] = {}
        for unit in self.exact.units(training=training):
            given = {key: tensor for key, tensor in inputs_of(unit).items() if key in self.items}
            changed = [key for key, tensor in given.items() if self._apart(key, tensor) > self.items[key].exact]
            found[unit.name] = self._each(
                partial(is_of_unit, name=unit.name, training=training),
                self.exact.unit(unit),
                self.layers.unit(unit),
                changed,
            )
        place = self.exact.order()
        order = sorted(found, key=lambda name: place.get(name, len(place)))
        forward = [check for checks in found.values() for check in checks if check.direction != "backward"]
        return forward, [check for name in order for check in found[name] if check.direction == "backward"]

    def _updates(self, exact: Mapping[Key, Tensor]) -> list[StepCheck]:
        gradients, changed = self.point.gradients, []
        if gradients is None:
            gradients = teacher_gradients(exact, self.point.moment.weights)
            keys = (gradient_key(name) for name in gradients)
            changed = [k for k in keys if k in exact and self._apart(k, exact[k]) > self.items[k].exact]
        here, found = self.exact.update(gradients), self.device.update(gradients)
        return self._each(lambda key: key.direction == "optimizer", here, found, changed)

    def _weights(self) -> list[StepCheck]:
        """Check that the device holds the recorded weights, bit for bit."""
        here = {name: parameter.detach().cpu() for name, parameter in self.device.model.named_parameters()}
        errors = {n: relative_error(here[n].double(), given.double()) for n, given in self.point.moment.weights.items()}
        wrong = [name for name, error in errors.items() if error]
        return [_exact(self.point.iteration, name, "weights", errors[name], "not the recorded ones") for name in wrong]

    def _rate(self) -> StepCheck:
        here, recorded = learning_rate(self.bundle.config, self.point.iteration), self.point.lr
        error = abs(here - recorded) / recorded if recorded else abs(here)
        same = error <= RATE_ALLOWED
        return StepCheck(
            iteration=self.point.iteration,
            name="learning rate",
            direction="optimizer",
            what="value",
            error=error,
            allowed=RATE_ALLOWED,
            reference_error=0.0,
            verdict="within" if same else "out of bounds",
            why="" if same else f"{here!r} here, {recorded!r} recorded",
        )

    # ---------------------------------------------------------------------------------------------
    # One value

    def _each(
        self,
        chosen: Callable[[Key], bool],
        exact: Mapping[Key, Tensor],
        found: Mapping[Key, Tensor] | None = None,
        changed: Sequence[Key] = (),
    ) -> list[StepCheck]:
        """A check of every recorded value that is `chosen`; `found` None is what `exact` is."""
        found = exact if found is None else found
        items = (item for key, item in self.items.items() if item.allowances and chosen(key))
        return [
            self._check(item, exact.get(item.key), found.get(item.key), [k for k in changed if matters(k, item.key)])
            for item in items
        ]

    def _apart(self, key: Key, tensor: Tensor) -> float:
        """Relative distance of a float64 value from the recorded one."""
        return distance(sketch(tensor), self.items[key].sketch)

    def _check(self, item: Item, exact: Tensor | None, found: Tensor | None, changed: Sequence[Key]) -> StepCheck:
        allowance = item.allowances.get(self.kind)
        if allowance is None:
            return self._made(item, None, None, None, "not judged", f"the bundle says nothing about {self.kind} here")
        code = 1.0 if exact is None else distance(sketch(exact), item.sketch)
        same = code <= item.exact
        own = 1.0 if found is None or exact is None else relative_error(found, exact)
        apart = 1.0 if found is None else distance(sketch(found), item.sketch)
        # Where the code differs, this device may be right by a kernel that the faulty part does not run.
        error = own if same or changed else max(code, apart)
        allowed, reference = allowance.allowed, allowance.error
        if not all(map(math.isfinite, (own, code, apart))):
            return self._made(item, None, allowed, reference, "out of bounds", "it is not finite here")
        if error > allowed:
            return self._made(
                item, error, allowed, reference, "out of bounds", _cause(found, same or bool(changed), code)
            )
        if same:
            return self._made(item, error, allowed, reference, "within")
        if changed:
            given = f"its {changed[0].what} differs already from the recorded one"
            return self._made(item, None, allowed, reference, "not judged", given)
        return self._made(item, code, allowed, reference, "below what this dtype can show", _cause(found, False, code))

    def _made(
        self,
        item: Item,
        error: float | None,
        allowed: float | None,
        reference: float | None,
        verdict: Verdict,
        why: str = "",
    ) -> StepCheck:
        return StepCheck(
            iteration=self.point.iteration,
            name=item.key.name,
            direction=item.key.direction,
            what=item.key.what,
            error=error,
            allowed=allowed,
            reference_error=reference,
            verdict=verdict,
            why=why,
        )


def _cause(found: Tensor | None, same: bool, code: float) -> str:
    """Return what is off, as far as it can be told: the code, or this device's computing of it."""
    if found is None:
        return "there is none here"
    if same:
        return "this device computes it otherwise than float64 does here"
    return f"{CODE_DIFFERS}: in float64, too, it is {code:.2g} from the recorded one"


# ---------------------------------------------------------------------------------------------
# What this machine draws


def drawn_checks(bundle: Bundle) -> Iterator[StepCheck]:
    """Check that this machine draws the recorded tokens and initial weights by itself, bit for bit.

    The tokens are compared where the corpus is here, which has the recorded hash.
    """
    with torch.random.fork_rng(devices=[]):
        yield from _drawn(bundle)


def _drawn(bundle: Bundle) -> Iterator[StepCheck]:
    config, shape = bundle.config, bundle.shape
    if config.rng != "counter":
        yield _unjudged(bundle, "inputs", "rng=nanogpt draws from a generator whose state a bundle does not hold")
        return
    corpus = _corpus(bundle)
    draws = new_draws(config)
    if isinstance(corpus, str):
        yield _unjudged(bundle, "inputs", corpus)
    else:
        drawn = draw(config, shape, corpus, draws, bundle.first, bundle.iterations, 1)
        x, y = zip(*(bundle.batches(bundle.first + n) for n in range(bundle.iterations)), strict=True)
        yield _equal(bundle, "inputs", drawn.x, torch.stack(x))
        yield _equal(bundle, "targets", drawn.y, torch.stack(y))
    if bundle.start.step == 0 and bundle.first == 0:
        weights = dict(draws.new_model(shape).named_parameters())
        apart = [name for name, given in bundle.start.weights.items() if not torch.equal(weights[name].detach(), given)]
        error = len(apart) / len(weights)
        yield _exact(bundle.first, "initial weights", "drawn here", error, f"{apart[0]} differs" if apart else "")


def _corpus(bundle: Bundle) -> Corpus | str:
    """The recorded corpus as it is here, or why it is not to be had."""
    name, wanted = str(bundle.corpus.get("name")), bundle.corpus.get("tokens_sha256")
    if not _PLAIN_NAME.fullmatch(name):
        return "the corpus was a file of the recording machine"
    try:
        corpus = open_corpus(name)
    except CorpusError:
        return f"the corpus {name} is not here"
    return corpus if corpus.tokens_sha256 == wanted else f"the corpus {name} has other tokens here"


def _equal(bundle: Bundle, name: str, here: Tensor, recorded: Tensor) -> StepCheck:
    """Tokens (iterations, n, B, T) that this machine draws, and the recorded ones."""
    differs = (here != recorded).flatten(1).any(1)
    where = int(differs.int().argmax()) if bool(differs.any()) else 0
    error = float((here != recorded).double().mean())
    why = f"this machine draws others from iteration {bundle.first + where} on" if error else ""
    return _exact(bundle.first + where, name, "drawn here", error, why)


def _exact(iteration: int, name: str, what: str, error: float, why: str) -> StepCheck:
    return StepCheck(
        iteration=iteration,
        name=name,
        direction="forward",
        what=what,
        error=error,
        allowed=0.0,
        reference_error=0.0,
        verdict="out of bounds" if error else "within",
        why=why,
    )


def _unjudged(bundle: Bundle, name: str, why: str) -> StepCheck:
    return StepCheck(
        iteration=bundle.first,
        name=name,
        direction="forward",
        what="drawn here",
        error=None,
        allowed=None,
        reference_error=None,
        verdict="not judged",
        why=why,
    )
