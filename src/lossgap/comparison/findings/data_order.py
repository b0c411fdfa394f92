"""R7: whether both runs were trained on the same batches. nanoGPT's fixed seed does not say so.

nanoGPT draws the initial weights, training batches, evaluation batches and, on a CPU, dropout masks from torch's one
CPU generator (train.py: `torch.manual_seed(1337 + seed_offset)`, `get_batch`, `estimate_loss`). So whatever changes
the number of draws changes every batch after it. Measured with torch 2.13 on a CPU: the numbers drawn after a dropout
layer are others with 0.0 (which draws nothing) than with 0.2, and the same with 0.1, 0.2 and 0.5. On CUDA and MPS the
masks come from the device's own generator. Our trainer's batches depend on the seed, the iteration and the position
alone, unless it runs with rng=nanogpt.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lossgap.comparison.fact import Fact, Known, Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.likeness import Likeness, between
from lossgap.comparison.rules import Finding, Pair, Result, lacking, remark, rule, ruled_out

_MODEL = ("n_layer", "n_embd", "vocab_size", "block_size")
_BATCH = ("batch_size", "gradient_accumulation_steps")


@dataclass
class _Order:
    """The settings' evidence: reasons why the batches differ, and what is missing to say that they do not."""

    differ: list[str] = field(default_factory=list)
    inferred: bool = False
    """True if a value in `differ` is inferred. nanoGPT's seed is in its source, and counts as said."""
    missing: tuple[list[Unknown], list[Unknown]] = field(default_factory=lambda: ([], []))

    def compare(self, name: str, first: Fact[object], second: Fact[object], why: str) -> None:
        """Note a setting that must be equal."""
        for side, fact in zip(self.missing, (first, second), strict=True):
            if isinstance(fact, Unknown):
                side.append(fact)
        if first.known and second.known and first.value != second.value:
            self.differ.append(f"{name} {first.value} and {second.value}: {why}")
            self.inferred |= name != "seed" and "inferred" in (first.evidence, second.evidence)


@rule("data-order", title="The runs read different batches", group="D", order=7)
def data_order(pair: Pair) -> Result:
    """From the settings of both trainers, and from the losses of single iterations, which tell the batches apart."""
    alike = between(pair.control, pair.test)
    order = _from_settings(pair)
    if order is not None and order.differ:
        yield _differs(pair, order, alike)
    elif order is not None and not any(order.missing):
        yield from _should_agree(pair, alike)
    elif alike is not None and alike.same is not None:
        yield from _by_losses(alike)
    elif order is not None:
        unknown = [_joined(side) for side in order.missing]
        yield lacking(*unknown, what="whether both runs saw the same batches")


def _from_settings(pair: Pair) -> _Order | None:
    """None where a trainer is not known to us."""
    shared = [_shares_generator(facts) for _, facts in pair.runs]
    if all(shared):
        return _one_generator(pair)
    if pair.control.is_own and pair.test.is_own and not any(shared):
        return _counters(pair)
    return None


def _shares_generator(facts: Facts) -> bool:
    return facts.run.format == "nanogpt" or (facts.is_own and facts.text("rng").value == "nanogpt")


def _counters(pair: Pair) -> _Order:
    """Batches as a function of seed, iteration and position in the batch (lossgap.random)."""
    order = _Order()
    for name, why in (
        ("seed", "it keys every batch"),
        ("dataset", "other data"),
        ("block_size", "other windows"),
    ):
        order.compare(name, pair.control.setting(name), pair.test.setting(name), why)
    order.compare("sequences per update", pair.control.batch, pair.test.batch, "only their first ones are the same")
    return order


def _one_generator(pair: Pair) -> _Order:
    """nanoGPT on a CPU draws everything from one generator; elsewhere everything but the dropout masks."""
    control, test = pair.control, pair.test
    order = _Order()
    order.compare("seed", control.seed, test.seed, "all draws differ")
    order.compare("dataset", control.dataset, test.dataset, "other data")
    for name in _MODEL:
        first, second = (facts.vocab_size if name == "vocab_size" else facts.size(name) for facts in (control, test))
        order.compare(name, first, second, "the initial weights take another number of draws before the first batch")
    for name in _BATCH:
        order.compare(name, control.size(name), test.size(name), "batches of another shape")
    order.compare("eval_iters", control.eval_iters, test.eval_iters, _EVALUATION)
    order.compare("eval_interval", control.size("eval_interval"), test.size("eval_interval"), _EVALUATION)
    _masks(order, control, test)
    for label, facts in pair.runs:
        if facts.run.seams or facts.text("init_from").value == "resume":
            order.differ.append(f"{label} was resumed, and nanoGPT seeds its generator again when it resumes")
    return order


_EVALUATION = "the evaluations draw from the generator of the batches, so those after the first evaluation differ"


def _masks(order: _Order, control: Facts, test: Facts) -> None:
    """Dropout masks draw from the CPU's generator if dropout is on and the device is a CPU."""
    drops = [facts.dropout for facts in (control, test)]
    kinds = [facts.device_kind for facts in (control, test)]
    draws: list[bool | None] = []
    for side, dropout, kind in zip(order.missing, drops, kinds, strict=True):
        if isinstance(dropout, Unknown):
            side.append(dropout)
            draws.append(None)
        elif dropout.value == 0:
            draws.append(False)
        elif isinstance(kind, Unknown):
            side.append(kind)
            draws.append(None)
        else:
            draws.append(kind.value == "cpu")
    if None in draws or draws[0] == draws[1]:
        return
    which = [
        f"{label}{f' on {kind.value}' if kind.known else ''} with dropout {dropout.value}"
        for label, kind, dropout in zip(("control", "test"), kinds, drops, strict=True)
    ]
    order.differ.append(
        f"dropout masks draw from the generator of the batches on a CPU, and only there: {which[0]}, {which[1]}"
    )


def _joined(unknown: list[Unknown]) -> Fact[object]:
    """All that one run lacks."""
    needs = tuple(dict.fromkeys(name for item in unknown for name in item.needs))
    if len(needs) > 3:
        return Unknown(f"{', '.join(needs[:3])} and {len(needs) - 3} more are not in the record", needs)
    return Unknown("; ".join(dict.fromkeys(item.why for item in unknown)), needs) if unknown else _NOTHING


_NOTHING: Fact[object] = Known(None, "stated", "")


def _differs(pair: Pair, order: _Order, alike: Likeness | None) -> Finding:
    seeds = pair.control.seed.value, pair.test.seed.value
    same_seed = seeds[0] is not None and seeds[0] == seeds[1]
    although = f", although both have seed {seeds[0]}" if same_seed else ""
    seen = ""
    if alike is not None and alike.same is False:
        seen = f" The losses of single iterations agree with that ({alike.said})."
    elif alike is not None and alike.same:
        seen = f" The losses of single iterations still follow each other ({alike.said}): most batches were the same."
    return remark(
        "inferred" if order.inferred else "computed",
        f"The runs were not trained on the same batches{although}: {'; '.join(order.differ[:3])}."
        f"{f' And {len(order.differ) - 3} reasons more.' if len(order.differ) > 3 else ''}{seen} "
        "Other batches cost what another seed costs, no more.",
        numbers={"reasons": list(order.differ), **_numbers(alike)},
        settle="Train both with a trainer whose batches depend on the seed alone (lossgap train).",
    )


def _should_agree(pair: Pair, alike: Likeness | None) -> Result:
    guessed = any(facts.seed.evidence == "inferred" for _, facts in pair.runs)
    if guessed and (alike is None or alike.same is None):
        # nanoGPT's seed is read off its source, and a copy may have another: only the losses could show it.
        return
    if alike is not None and alike.same is False:
        yield remark(
            "inferred",
            "By their settings both runs saw the same batches, but the losses of their single iterations do not follow "
            f"each other ({alike.said}): something differs that the records do not say, such as the data, the seed or "
            "the code.",
            numbers=_numbers(alike),
            settle="Compare the data files and the code of the two runs.",
            title="The settings say the same batches, the losses say others",
        )
        return
    seen = (
        f"; the losses of single iterations agree with that ({alike.said})" if alike is not None and alike.same else ""
    )
    yield ruled_out(
        "computed",
        f"By their settings both runs were trained on the same batches in the same order{seen}.",
        numbers=_numbers(alike),
        title="Other batches",
    )


def _by_losses(alike: Likeness) -> Result:
    if alike.same:
        yield ruled_out(
            "inferred",
            f"Both runs saw the same batches in the same order: their iterations' losses rise and fall together "
            f"({alike.said}).",
            numbers=_numbers(alike),
            title="Other batches",
        )
        return
    yield remark(
        "inferred",
        f"The runs saw other batches, or the same in another order: their iterations' losses do not follow each other "
        f"({alike.said}). That costs what another seed costs, no more.",
        numbers=_numbers(alike),
    )


def _numbers(alike: Likeness | None) -> dict[str, object]:
    return {} if alike is None else {"correlation": alike.correlation, "losses": alike.count}
