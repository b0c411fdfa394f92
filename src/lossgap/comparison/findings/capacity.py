"""R2: the model and the data: parameters, context, corpus."""

from __future__ import annotations

import math

from lossgap.comparison.fact import Known, Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings import weighing
from lossgap.comparison.findings.command import retrain
from lossgap.comparison.rules import Evidence, Finding, Pair, Result, cause, lacking, remark, rule, ruled_out

SHAPE = ("n_layer", "n_head", "n_embd", "bias")
SIZES = ("n_layer", "n_embd")
PARAMETER_EXPONENT = 0.076
"""L falls as N to this power: Kaplan et al. 2020 (arXiv:2001.08361), table 1."""
CONTEXT_EFFECT = 0.05
"""Nats per e-fold of context, trained and evaluated: rough, see `same_metric.CONTEXT_EFFECT`."""
SHAPE_EFFECT = 0.03
"""Nats of another shape at equal parameters (heads, biases). A choice."""
SAME_SIZE = 0.005
"""Relative difference of parameters that is a matter of counting (biases, positions, padding)."""
ALIASES = {"tinyshakespeare": "shakespeare_char"}


@rule("capacity", title="Model size or shape differs", group="A", order=2)
def capacity(pair: Pair) -> Result:
    """Parameters by nanoGPT's count, and the shape."""
    shape = weighing.differing(pair, *SHAPE)
    control, test = pair.control.n_params, pair.test.n_params
    if isinstance(control, Unknown) or isinstance(test, Unknown):
        if shape:
            said = ", ".join(f"{item.name} {item.control} and {item.test}" for item in shape)
            weight = weighing.weigh(pair, SHAPE)
            yield cause(weight.strength, weighing.of_settings(shape), f"The models differ: {said}.{weight.said}")
        else:
            yield lacking(control, test, what="whether the models have the same size")
        return
    ratio = test.value / control.value
    numbers: dict[str, object] = {"control": control.value, "test": test.value, "ratio": ratio}
    if abs(ratio - 1) <= SAME_SIZE and not shape:
        yield ruled_out("computed", f"Both models have {control.value:,} parameters.", numbers=numbers)
        return
    if not shape and all(pair.control.setting(name).known and pair.test.setting(name).known for name in SIZES):
        yield remark(
            "computed",
            f"The control has {control.value:,} parameters, the test {test.value:,}, and both have the same layers and "
            "channels: the vocabularies differ, and with them the data or its tokens.",
            numbers=numbers,
        )
        return
    numbers |= {item.name: [item.control, item.test] for item in shape}
    said = f" ({', '.join(f'{item.name} {item.control} and {item.test}' for item in shape)})" if shape else ""
    effect = -PARAMETER_EXPONENT * weighing.level(pair) * math.log(ratio)
    unsure = abs(ratio - 1) <= SAME_SIZE or weighing.overfits(pair)
    size = max(abs(effect), SHAPE_EFFECT)
    weight = weighing.weigh(pair, SHAPE, signed=None if unsure else effect, size=size)
    # The vocabulary may be inferred from the corpus's name; which model is the larger one is not.
    known: Evidence = weighing.of_settings(shape) if shape else weighing.evidence(control, test)
    yield cause(
        weight.strength,
        known,
        f"The control has {control.value:,} parameters, the test {test.value:,}: {ratio:.3g} times{said}.{weight.said}",
        numbers=numbers,
        effect=weight.effect,
        size=weight.size,
        settle="Train the test's model with everything else as in the control.",
        command=retrain(pair.control, **{item.name: item.test for item in shape}) if shape else "",
        title=_times_as_many(ratio, "parameters") if abs(ratio - 1) > SAME_SIZE else "Model shape differs",
    )


def _times_as_many(ratio: float, what: str) -> str:
    """`13.4x as many parameters`, `4x fewer parameters`: of the test, against the control."""
    return f"{ratio:.3g}x as many {what}" if ratio > 1 else f"{1 / ratio:.3g}x fewer {what}"


@rule("context", title="Context length differs", group="A", order=2)
def context(pair: Pair) -> Result:
    """block_size: how far back a model looks, how many tokens a batch has, and where its loss is measured."""
    control, test = pair.control.block_size, pair.test.block_size
    if isinstance(control, Unknown) or isinstance(test, Unknown):
        yield lacking(control, test, what="whether both models see the same context")
        return
    if control.value == test.value:
        yield ruled_out("computed", f"Both have a context of {control.value:,} tokens.")
        return
    ratio = test.value / control.value
    # More context also means more tokens per update, as far as the batch does not make up for it.
    effect = -CONTEXT_EFFECT * math.log(ratio)
    weight = weighing.weigh(pair, ("block_size",), signed=None if weighing.overfits(pair) else effect, size=abs(effect))
    yield cause(
        weight.strength,
        weighing.evidence(control, test),
        f"The control is trained and evaluated at a context of {control.value:,} tokens, the test at {test.value:,}: "
        f"{ratio:.3g} times. A longer context makes more tokens predictable, and raises the tokens per update."
        f"{weight.said}",
        numbers={"control": control.value, "test": test.value, "ratio": ratio},
        effect=weight.effect,
        size=weight.size,
        settle="Train the test's recipe at the control's context, and compare again.",
        command=retrain(pair.test, block_size=control.value),
    )


@rule("data", title="Training data differ", group="A", order=2)
def data(pair: Pair) -> Result:
    """The corpus, by the hash of its tokens where the record has one, else by name."""
    hashes = pair.control.run.corpus.get("sha256"), pair.test.run.corpus.get("sha256")
    if hashes[0] is not None and hashes[1] is not None:
        if hashes[0] == hashes[1]:
            tokens = [facts.run.corpus.get("tokens_sha256") for _, facts in pair.runs]
            if None not in tokens and tokens[0] != tokens[1]:
                yield _other_order(pair)
                return
            yield ruled_out("computed", "Both have the same corpus, by its hash.")
            return
        yield _other_data(pair, "by the hash of their tokens", "computed")
        return
    control, test = pair.control.dataset, pair.test.dataset
    sizes = pair.control.train_tokens.value, pair.test.train_tokens.value
    said = [facts.run.corpus.get("train_tokens") for _, facts in pair.runs]
    if sizes[0] and sizes[0] == sizes[1] and any(said) and pair.control.vocab_size.value == pair.test.vocab_size.value:
        yield ruled_out("computed", f"Both train on {sizes[0]:,.0f} tokens of one vocabulary.")
        return
    if isinstance(control, Known) and isinstance(test, Known):
        names = [ALIASES.get(item.value, item.value).rstrip("/") for item in (control, test)]
        if names[0] != names[1] and not _same_place(names):
            yield _other_data(pair, "by name", weighing.evidence(control, test))
            return
    if sizes[0] and sizes[1] and abs(sizes[1] / sizes[0] - 1) > 0.001:
        yield _other_data(pair, "by their sizes", "computed")
        return
    if not (control.known and test.known) and not (sizes[0] and sizes[1]):
        yield lacking(control, test, what="whether both are trained on the same data")
        return
    shown = _at_the_start(pair)
    if shown is not None:
        yield shown
    else:
        yield ruled_out("computed", "Nothing in the records indicates different data.")


def _other_order(pair: Pair) -> Finding:
    """One text in other numbers: harmless from the start, and noise to weights that were trained on the other order."""
    goes_on = [facts.text("init_from").value not in (None, "scratch") or facts.run.seams for _, facts in pair.runs]
    text = "Both have the same text, by its hash, and other tokens: the vocabulary is in another order."
    if any(goes_on):
        return cause(
            "likely",
            "computed",
            f"{text} A run that goes on from trained weights reads it as other text.",
            settle="Build both from one vocabulary file (meta.pkl).",
            title="The vocabulary is in another order",
        )
    said = f"{text} From scratch that is no more than another seed."
    return remark("computed", said, title="The vocabulary is in another order")


def _at_the_start(pair: Pair) -> Finding | None:
    """One split's loss equal to the last digit before any training, and the other's not: that split is other text.

    Equal initial weights and equal windows are needed for the first; nanoGPT draws train's windows and val's from one
    generator, so the second then has the same places in another text.
    """
    splits = [(facts.train_eval, facts.val) for _, facts in pair.runs]
    ends = [
        [None if curve is None or curve.iters[0] != 0 else curve.first.value for curve in pair_] for pair_ in splits
    ]
    if None in ends[0] or None in ends[1] or any(facts.run.format != "nanogpt" for _, facts in pair.runs):
        return None
    equal = [ends[0][index] == ends[1][index] for index in (0, 1)]
    if equal[0] == equal[1]:
        return None
    other = "train" if equal[1] else "val"
    same = "val" if equal[1] else "train"
    index = 0 if equal[1] else 1
    return cause(
        "likely",
        "inferred",
        f"At iteration 0 the {same} losses are equal to the last digit ({ends[0][1 - index]:.4f}), so weights and "
        f"windows are the same, and the {other} losses are not ({ends[0][index]:.4f} and {ends[1][index]:.4f}): the "
        f"{other} splits are different text.",
        numbers={"split": other, "control": ends[0][index], "test": ends[1][index]},
        settle=f"Compare the {other} files of both runs by their hashes.",
    )


def _same_place(names: list[str]) -> bool:
    """True if two paths end in the same folder name: data prepared on two machines."""
    ends = [name.replace("\\", "/").rsplit("/", 1)[-1] for name in names]
    return ends[0] == ends[1]


def _other_data(pair: Pair, by: str, known: Evidence) -> Finding:
    names = [_named(facts) for _, facts in pair.runs]
    weight = weighing.weigh(pair, ("dataset", "vocab_size"), size=0.5 * weighing.level(pair))
    return cause(
        "likely" if weight.strength == "possible" else weight.strength,
        known,
        f"The corpora differ, {by}: {names[0]} and {names[1]}. Losses on different texts say nothing about the models."
        f"{weight.said}",
        numbers={"control": names[0], "test": names[1]},
        effect=weight.effect,
        size=weight.size,
        settle="Evaluate both models on one val split.",
    )


def _named(facts: Facts) -> str:
    size = facts.train_tokens.value
    return f"{facts.dataset.value or 'unnamed'} ({f'{size:,.0f} tokens to train on' if size else 'size not known'})"
