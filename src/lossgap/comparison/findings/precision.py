"""R8: how a training computed: precision as it ran, weights kept in half precision, and other choices of arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lossgap.comparison.fact import Unknown
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.chance import (
    ATTENTION,
    LARGEST,
    MACHINES,
    Chance,
    chance,
    could_be_worse_for,
    is_beyond,
    only_numerics,
    times,
)
from lossgap.comparison.rules import Evidence, Finding, Pair, Result, cause, lacking, remark, rule, ruled_out
from lossgap.strangers import short

_SOURCES = {
    MACHINES: "one recipe on two kinds of accelerators (Open-Athena/MarinFold#173)",
    ATTENTION: "two attention kernels on the same machines (Open-Athena/MarinFold#173)",
}

_WEIGHTS = (
    "param_dtype",
    "params_dtype",
    "model_dtype",
    "torch_dtype",
    "weight_dtype",
    "weights_dtype",
    "training.dtype",
)
_PURE = ("bf16-true", "16-true", "bfloat16-true", "float16-true", "pure_bf16")
_HALF = ("bfloat16", "bf16", "float16", "fp16", "half", "torch.bfloat16", "torch.float16")


@rule("effective-dtype", title="The precision as it ran", group="E", order=8)
def effective_dtype(pair: Pair) -> Result:
    """nanoGPT ignores dtype on everything but CUDA: what was asked for is not what ran."""
    control, test = pair.control.dtype, pair.test.dtype
    ignored = [_ignored(label, facts) for label, facts in pair.runs]
    said = " ".join(text for text in ignored if text)
    if said:
        yield remark("computed", said, numbers=_numbers(pair), title="dtype was asked for and not applied")
    if isinstance(control, Unknown) or isinstance(test, Unknown):
        if is_beyond(pair) or chance(pair) is None:
            yield lacking(control, test, what="in which precision both ran")
        return
    numbers = _numbers(pair)
    evidence: Evidence = "inferred" if "inferred" in (control.evidence, test.evidence) else "computed"
    ran = [_ran_in(facts) for _, facts in pair.runs]
    if ran[0] == ran[1]:
        yield ruled_out(evidence, f"Both ran in {ran[0]}.", numbers=numbers, title="Another precision")
    else:
        yield _sized(pair, f"control ran in {ran[0]}, test in {ran[1]}.", numbers, MACHINES)


def _ran_in(facts: Facts) -> str:
    dtype = facts.dtype.value or ""
    if facts.run.format == "nanogpt" and dtype == "float32" and facts.device_kind.value == "cuda":
        return "float32 with TF32 products, which nanoGPT allows on CUDA"
    return dtype


def _ignored(label: str, facts: Facts) -> str:
    asked, ran = facts.run.config.get("dtype"), facts.dtype.value
    if ran is None or asked in (None, ran, "auto"):
        return ""
    why = "nanoGPT ignores dtype on a CPU or on MPS" if facts.is_nanogpt else "its record says so"
    return f"{label} asked for {short(asked)} and ran in {ran}: {why}."


def _numbers(pair: Pair) -> dict[str, object]:
    return {
        f"{label}_{what}": value
        for label, facts in pair.runs
        for what, value in (("asked", facts.run.config.get("dtype")), ("ran", facts.dtype.value))
        if isinstance(value, str)
    }


def _sized(pair: Pair, said: str, numbers: dict[str, object], size: float, *, may_cause: bool = True) -> Finding:
    """A difference of arithmetic: a possible cause only of a gap of its size that nothing else is there to make."""
    found = chance(pair)
    text = f"{said} Healthy differences of this kind are small: {size:g} after 400 steps between {_SOURCES[size]}"
    numbers = numbers | {"expected": size}
    settle = "Train both in float32, with the same attention."
    if found is None:
        return remark("computed", f"{text}.", numbers=numbers)
    gap = abs(found.gap)
    if may_cause and is_beyond(pair) and only_numerics(pair) and gap <= LARGEST:
        text += f"; this gap is {found.gap:+.4f}, and no other setting that is known differs."
        effect = math.copysign(min(size, gap), found.gap)
        return cause("possible", "computed", text, numbers=numbers, effect=effect, settle=settle)
    if gap > size and is_beyond(pair):
        return remark("computed", f"{text}; this gap of {found.gap:+.4f} is {times(gap / size)} that.", numbers=numbers)
    return remark("computed", f"{text}.", numbers=numbers)


# ---------------------------------------------------------------------------------------------
# Weights in half precision


@rule("pure-half-precision", title="The weights themselves are in half precision", group="E", order=8)
def pure_half_precision(pair: Pair) -> Result:
    """bfloat16 weights have 8 significant bits, so an update below 1/512 of a weight is lost."""
    kept = [_weights(facts) for _, facts in pair.runs]
    for (label, _), mine, other in zip(pair.runs, kept, reversed(kept), strict=True):
        if mine is None or (other is not None and other.dtype == mine.dtype):
            continue
        text = (
            f"{label} keeps its weights in {mine.dtype} ({mine.said}), not only the products. An update smaller than "
            "half a unit in a weight's last place is rounded away, late in the training first (AiM#10, big_vision#41)."
        )
        settle = f"Train {label} with float32 weights and autocast to {mine.dtype}."
        numbers: dict[str, object] = {"run": label, "weights": mine.dtype}
        if could_be_worse_for(pair, label):
            yield cause("likely", "computed", text, numbers=numbers, settle=settle)
        else:
            yield remark("computed", f"{text} But its loss is the lower one.", numbers=numbers, settle=settle)


@dataclass(frozen=True)
class _Weights:
    dtype: str
    said: str


def _weights(facts: Facts) -> _Weights | None:
    """Half precision that a setting names for the weights, not for the products alone."""
    for name in ("precision", "dtype"):
        value = str(facts.setting(name).value).lower()
        if value in _PURE:
            return _Weights("bfloat16" if "bf" in value else "float16", f"{name} = {value}")
    for name in sorted(facts.names):
        if name in _WEIGHTS or name.rpartition(".")[2] in _WEIGHTS:
            value = str(facts.setting(name).value).lower()
            if value in _HALF:
                return _Weights(
                    "bfloat16" if "b" in value.removeprefix("torch.")[:2] else "float16", f"{name} = {value}"
                )
    return None


# ---------------------------------------------------------------------------------------------
# Other choices

_CHOICES = ("tf32", "attention", "flash", "adamw", "fused", "deterministic", "threads", "compile")
_WORDS = {
    "tf32": "TF32 products keep 10 bits of the mantissa",
    "attention": "another attention algorithm sums in another order",
    "flash": "another attention algorithm sums in another order",
    "compile": "compiled code fuses operations and sums in another order",
}


@rule("numeric-choices", title="Numerics differ", group="E", order=8)
def numeric_choices(pair: Pair) -> Result:
    """TF32, attention, compiled code, AdamW's implementation: rounding, unless one of them has a fault."""
    found = [item for name in _CHOICES if (item := pair.settings.differing(name)) is not None]
    if not found:
        return
    said = ", ".join(f"{item.name} ({item.control} and {item.test})" for item in found)
    why = "; ".join(dict.fromkeys(_WORDS[item.name] for item in found if item.name in _WORDS))
    names = {item.name for item in found}
    size = ATTENTION if names & {"attention", "flash"} else MACHINES
    text = f"Chosen differently: {said}{f'; {why}' if why else ''}."
    found_chance = chance(pair)
    if found_chance is not None and names & _MAY_FAIL and _is_too_large(found_chance) and only_numerics(pair):
        yield _faulty(text, sorted(names), found_chance.gap)
        return
    # Compiled and eager code compute the same but for rounding; alone that does not cause a small gap.
    may_cause = bool(names & {"tf32", "attention", "flash"})
    yield _sized(pair, text, {"settings": sorted(names)}, size, may_cause=may_cause)


_MAY_FAIL = frozenset(("compile", "attention", "flash", "fused", "adamw"))
"""Choices between two programs for one and the same formula, either of which may have a fault."""


def _is_too_large(found: Chance) -> bool:
    """True if chance does not make the gap, and rounding has not been seen to."""
    return found.is_beyond and abs(found.gap) > LARGEST


def _faulty(text: str, names: list[str], gap: float) -> Finding:
    """A gap far beyond rounding, where nothing that is known differs but the program: one of the two has a fault."""
    return cause(
        "likely",
        "inferred",
        f"{text} Nothing else that is known differs, and the gap of {gap:+.4f} is far beyond what healthy arithmetic "
        f"makes ({LARGEST:g} at the most, Open-Athena/MarinFold#173): one of the two computes something else. "
        "Known: losses of 6.09 and 5.125 with and without compiled code (DeepSpeed#6811).",
        numbers={"settings": names, "largest": LARGEST},
        settle="Run a few iterations both ways from one checkpoint and compare loss and gradient norm; "
        "`lossgap canary` holds each operation against float64.",
        title="One way to compute has a fault",
    )
