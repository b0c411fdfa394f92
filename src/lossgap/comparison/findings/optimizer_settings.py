"""R3: weight decay, the rest of the optimizer, and settings that lossgap has no rule for."""

from __future__ import annotations

import math

from lossgap.comparison.differences import ComparedSetting
from lossgap.comparison.fact import Unknown
from lossgap.comparison.findings import weighing
from lossgap.comparison.findings.bookkeeping import is_bookkeeping
from lossgap.comparison.findings.command import retrain
from lossgap.comparison.findings.processes import NAMES as PROCESSES
from lossgap.comparison.findings.processes import NODES
from lossgap.comparison.rules import Pair, Result, cause, lacking, rule, ruled_out
from lossgap.config import TrainConfig
from lossgap.runs.values import as_float, as_int, as_mapping
from lossgap.settings import settings_of

ADAM = ("beta1", "beta2", "grad_clip", "optimizer")
DECAY_EFFECT = 0.1
"""Nats per unit of weight_decay x rate x updates, the exponent by which decay alone shrinks a weight. A choice; the
gallery's plant of a decay of 20 costs 0.5 nats at an exponent of 9."""
MOST = 0.5
"""Nats that an optimizer's setting is expected to make at the most. A choice."""
MEMORY_EFFECT = 0.02
MEMORY_CURVATURE = 0.05
"""Nats per e-fold x of 1 / (1 - beta) or of grad_clip, and per x^2: small near the usual value, and far from it the
training fails. Choices, as nobody known to us has published them; the gallery's beta1 of 0.99 costs 0.55 nats at 2.3
e-folds, a grad_clip of 0.9 instead of 1 nothing."""
MOST_NAMED = 8
_RULED = frozenset(
    (
        *("n_layer", "n_head", "n_embd", "bias", "vocab_size", "block_size", "dataset", "dropout", "weight_decay"),
        *("batch_size", "gradient_accumulation_steps", "max_iters", "init_from"),
        *("learning_rate", "min_lr", "warmup_iters", "lr_decay_iters", "decay_lr"),
    )
)
"""Settings of lossgap that other rules weigh."""


@rule("weight-decay", title="Weight decay differs", group="A", order=3)
def weight_decay(pair: Pair) -> Result:
    """AdamW's, held against what it can do in as many updates at that rate; and which parameters it decays."""
    yield from _other_groups(pair)
    control, test = pair.control.weight_decay, pair.test.weight_decay
    if isinstance(control, Unknown) or isinstance(test, Unknown):
        yield lacking(control, test, what="whether both have the same weight decay")
        return
    if control.value == test.value:
        yield ruled_out("computed", f"Both have a weight decay of {control.value:g}.")
        return
    updates = max((facts.last_iter or 0 for _, facts in pair.runs), default=0)
    rates = [facts.learning_rate.value or 6e-4 for _, facts in pair.runs]
    shrunk = abs(test.value - control.value) * max(rates) / 2 * updates
    weight = weighing.weigh(pair, ("weight_decay",), size=min(MOST, DECAY_EFFECT * shrunk))
    yield cause(
        weight.strength,
        weighing.evidence(control, test),
        f"The weight decay is {control.value:g} in the control and {test.value:g} in the test; over {updates:,} "
        f"updates the difference shrinks weights by a factor of about exp(-{shrunk:.2g}).{weight.said}",
        numbers={"control": control.value, "test": test.value, "exponent": shrunk},
        effect=weight.effect,
        size=weight.size,
        settle="Train the test with the control's weight_decay.",
        command=retrain(pair.test, weight_decay=control.value),
    )


def _other_groups(pair: Pair) -> Result:
    """nanoGPT prints how many parameters are decayed: 2-dimensional ones, so they follow from the shape."""
    groups = [as_mapping(facts.run.parameters.get("by_group")) for _, facts in pair.runs]
    decayed = [as_int(group.get("decayed")) for group in groups]
    shape = ("n_layer", "n_embd", "block_size", "vocab_size", "bias")
    if None in decayed or decayed[0] == decayed[1] or weighing.differing(pair, *shape):
        return
    if pair.control.vocab_size.value != pair.test.vocab_size.value:
        return
    yield cause(
        "likely",
        "computed",
        f"The control decays {decayed[0]:,} parameters, the test {decayed[1]:,}, at one shape: the code of the model, "
        "or of its optimizer's groups, is not the same.",
        numbers={"control": decayed[0], "test": decayed[1]},
        settle="Compare the code of both: which parameters there are, and which of them are decayed.",
        title="Other parameters are decayed",
    )


@rule("optimizer", title="Optimizer settings differ", group="A", order=3)
def optimizer(pair: Pair) -> Result:
    """beta1, beta2, grad_clip, or the optimizer by name."""
    items = weighing.differing(pair, *ADAM)
    if not items:
        known = [pair.control.number("beta2"), pair.test.number("beta2")]
        if all(item.known for item in known):
            yield ruled_out("computed", "Both have the same betas and clipping, as far as the records say.")
        else:
            yield lacking(known[0], known[1], what="whether both have the same optimizer (beta1, beta2, grad_clip)")
        return
    weight = weighing.weigh(pair, ADAM, size=sum(_memory(item) for item in items))
    said = ", ".join(f"{item.name} {item.control} and {item.test}" for item in items)
    yield cause(
        weight.strength,
        weighing.of_settings(items),
        f"The optimizers differ (control and test): {said}.{weight.said}",
        numbers={item.name: [_plain(item.control), _plain(item.test)] for item in items},
        effect=weight.effect,
        size=weight.size,
        settle="Train the test with the control's optimizer.",
        command=retrain(pair.test, **{item.name: item.control for item in items if item.name != "optimizer"}),
    )


def _memory(item: ComparedSetting) -> float:
    first, second = as_float(item.control), as_float(item.test)
    if first is None or second is None:
        return 0.1
    if item.name.startswith("beta"):
        first, second = 1 - first, 1 - second
    if first <= 0 or second <= 0:
        return MEMORY_EFFECT
    folds = abs(math.log(first / second))
    return min(MOST, MEMORY_EFFECT * folds + MEMORY_CURVATURE * folds**2)


@rule("other-settings", title="Other settings differ", group="A", order=3)
def other_settings(pair: Pair) -> Result:
    """Settings without a rule of their own, of other trainers and of lossgap; bookkeeping left out by name."""
    ours = settings_of(TrainConfig)
    items = [
        item
        for item in pair.settings.differ
        if (item.name not in ours or (weighing.explains(item) and item.name not in _RULED))
        and item.name not in ADAM
        and not is_bookkeeping(item.name)
        and item.name not in (*PROCESSES, *NODES)
        and item.name
        not in ("micro_steps", "vocab_size", "n_params", "tokens_per_iter", "epochs", "num_epochs", "num_train_epochs")
    ]
    if not items:
        return
    said = ", ".join(f"{item.name} {_plain(item.control)} and {_plain(item.test)}" for item in items[:MOST_NAMED])
    more = f" and {len(items) - MOST_NAMED} more" if len(items) > MOST_NAMED else ""
    alone = not weighing.others(pair, (item.name for item in items))
    yield cause(
        "likely" if alone else "possible",
        weighing.of_settings(items),
        f"The settings differ in {said}{more} (control and test). lossgap knows nothing of their effect.",
        numbers={item.name: [_plain(item.control), _plain(item.test)] for item in items[:MOST_NAMED]},
        settle="Train the test with the control's values, one at a time.",
    )


def _plain(value: object) -> object:
    """A JSON value, short."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)[:60]
