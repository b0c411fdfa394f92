"""R2: known recipes, what they give, and runs that give something else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from lossgap.comparison.curve import Value
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings import weighing
from lossgap.comparison.findings.capacity import PARAMETER_EXPONENT
from lossgap.comparison.findings.command import retrain, retrain_settings
from lossgap.comparison.metric import Metric
from lossgap.comparison.rules import Evidence, Finding, Pair, Result, Strength, cause, remark, rule
from lossgap.config import TrainConfig
from lossgap.config_hash import RECIPE_FIELDS
from lossgap.runs.readers.recipe_match import Reference, match, references
from lossgap.runs.values import as_text

GROUPS = 3
"""Groups of settings that differ from which two runs are two recipes."""
DECIDING = (
    "n_layer",
    "n_head",
    "n_embd",
    "block_size",
    "batch_size",
    "gradient_accumulation_steps",
    "dropout",
    "learning_rate",
    "min_lr",
    "warmup_iters",
    "lr_decay_iters",
    "weight_decay",
    "beta1",
    "beta2",
    "grad_clip",
    "decay_lr",
    "dataset",
    "max_iters",
)
"""Settings of nanoGPT's that must all be known and equal before a run is a run of a reference."""
FLOOR = 1.40
"""Nats per character of Tiny Shakespeare. The lowest published val loss of a model trained on it from scratch is 1.46
to 1.47 (nanoGPT's README and five logs of its GPU recipe); an open question in nanoGPT#234 is one of 1.2164."""
FLOOR_CORPUS = "shakespeare_char"


@rule("different-recipes", title="Two different recipes", group="A", order=2)
def different_recipes(pair: Pair) -> Result:
    """Three groups of settings or more differ: together, with the products that count."""
    items = [item for item in pair.settings.differ if weighing.explains(item) and item.name != "init_from"]
    groups = {item.factor for item in items} & {"capacity", "context", "batch", "length", "regularisation", "data"}
    if len(groups) < GROUPS:
        return
    ratios = {name: value for name, value in _ratios(pair) if abs(value - 1) > 0.005}
    said = ", ".join(f"{value:,.3g}x {name}" for name, value in ratios.items() if name != "iterations")
    named = [as_text(facts.run.setting("recipe")) for _, facts in pair.runs]
    known = weighing.of_settings(items)
    origin = ""
    if any(named):
        parts = [
            f"the {label}'s from its figures as {name}"
            for (label, _), name in zip(pair.runs, named, strict=True)
            if name
        ]
        origin = f" Settings are inferred: {' and '.join(parts)}; another recipe may end with the same figures."
    settings = ", ".join(f"{item.name} {item.control} and {item.test}" for item in items[:8])
    gap = pair.alignment.gap("last")
    expected = _expected(pair, ratios)
    beside = ""
    strength: Strength = "likely"
    if expected is None or gap is None:
        beside = " What they do together is not known in advance."
    elif expected * gap < 0:
        strength = "possible"
        beside = f" By their sizes alone (Kaplan et al. 2020) the gap would be about {expected:+.2f}, which it is not."
        expected = None
    else:
        beside = f" By their sizes alone (Kaplan et al. 2020) the gap would be about {expected:+.2f}."
        fits = abs(gap) <= weighing.MOST_TIMES * abs(expected)
        strength = "strong" if fits and weighing.all_known(pair) else "likely" if fits else "possible"
    yield cause(
        strength,
        known,
        f"They are two different recipes: test over control {said or 'with other settings'}. "
        f"They differ in {settings}{' and more' if len(items) > 8 else ''}.{beside}{origin}",
        numbers={**ratios, "settings": [item.name for item in items]},
        effect=expected,
        settle="Train one recipe on both machines, or change one factor at a time.",
        command=retrain(pair.test) if pair.test.device_kind.value != "cpu" else retrain(pair.control),
    )


def _expected(pair: Pair, ratios: dict[str, float]) -> float | None:
    """L x (-0.076 ln(parameters) - 0.095 ln(tokens)) of the ratios (Kaplan et al. 2020, table 1); None if unknown.

    It holds for new data; where a run overfits, or the data differ, the sign is not known.
    """
    if "parameters" not in ratios and "tokens" not in ratios:
        return None
    if pair.settings.differing("dataset") is not None:
        return None
    by = PARAMETER_EXPONENT * math.log(ratios.get("parameters", 1.0))
    by += weighing.DATA_EXPONENT * math.log(ratios.get("tokens", 1.0))
    return -weighing.level(pair) * by


def _ratios(pair: Pair) -> Iterator[tuple[str, float]]:
    """Test over control: parameters, tokens, FLOPs, iterations, where known for both."""
    sides = []
    for _, facts in pair.runs:
        end = facts.last_iter or facts.max_iters.value or 0
        values = {
            "parameters": facts.n_params.value,
            "tokens": facts.tokens_at(end).value if end else None,
            "FLOPs": facts.flops_at(end).value if end else None,
            "iterations": float(end) or None,
        }
        sides.append(values)
    for name, value in sides[1].items():
        if value and sides[0][name]:
            yield name, value / (sides[0][name] or 1)


# ---------------------------------------------------------------------------------------------
# Runs of a known recipe


def reference_of(facts: Facts) -> tuple[Reference, Evidence] | None:
    """The shipped reference whose recipe this run has: by all its settings, or as the reading inferred it."""
    inferred = as_text(facts.run.setting("recipe"))
    for item in references():
        if item.name == inferred:
            return item, "inferred"
        if not unlike(facts, item.settings):
            return item, "computed"
    return None


def unlike(facts: Facts, settings: Mapping[str, object]) -> dict[str, tuple[object, object]]:
    """The deciding settings that are not equal, as (the run's, those of `settings`).

    Settings of our recipes decide, too; where one is not stated it is at its default, as in nanoGPT, which has none.
    """
    defaults: dict[str, object] = {name: getattr(TrainConfig, name) for name in RECIPE_FIELDS}
    found = {}
    for name in (*DECIDING, *RECIPE_FIELDS):
        mine: object = facts.dataset.value if name == "dataset" else facts.setting(name).value
        theirs = settings.get(name)
        mine, theirs = (defaults.get(name) if value is None else value for value in (mine, theirs))
        if not _equal(mine, theirs):
            found[name] = (mine, theirs)
    return found


def _equal(value: object, expected: object) -> bool:
    if isinstance(value, float | int) and isinstance(expected, float | int):
        return math.isclose(value, expected, rel_tol=1e-9)
    return value == expected


@rule("recipe-result", title="What the recipe of a run gives", group="A", order=2)
def recipe_result(pair: Pair) -> Result:
    """A run of a known recipe gives what it gives, or something is not as its settings say."""
    if not isinstance(pair.alignment.metric, Metric) or pair.alignment.metric.name != "val_loss":
        return
    for label, facts in pair.runs:
        found, curve = reference_of(facts), facts.val
        if found is None or curve is None or curve.meaning.unit == "bits/byte":
            continue
        reference, known = found
        last = curve.last
        expected = reference.evals.get(int(last.iter))
        if expected is None or last.iter < min(100, max(reference.evals)):
            continue
        # Of a run whose settings are stated only the val loss is judged: its MFU may be of another peak than nanoGPT's.
        contradicted = known == "inferred" and bool(match(facts.run, reference).contradict)
        if contradicted or abs(last.value - expected[1]) > 2 * reference.tolerance["val"]:
            yield _off(label, last, expected[1], reference, known)
            continue
        yield remark(
            "inferred" if known == "inferred" else "computed",
            f"The {label} shows what its recipe ({reference.name}) gives: val loss {last.value:.4g} at iteration "
            f"{last.iter:,.0f}, where the reference has {expected[1]:.4f}. Nothing is wrong with this run"
            f"{'' if known == 'computed' else ', if that is its recipe'}.",
            strength="strong",
            numbers={"run": label, "recipe": reference.name, "val": last.value, "reference": expected[1]},
            title=f"The {label} shows what its recipe gives",
        )
        yield from _best(label, last, reference, known)
        yield from _continued(pair, label, last, reference)


def _best(label: str, last: Value, reference: Reference, known: Evidence) -> Result:
    at, best = min(((at, val) for at, (_, val) in reference.evals.items()), key=lambda item: item[1])
    above = last.value - best
    if above <= 2 * reference.tolerance["val"] or at >= last.iter:
        return
    yield remark(
        "inferred" if known == "inferred" else "computed",
        f"The last val loss of the {label}, {last.value:.4g}, is {above:.2f} above the best of that recipe, {best:.4f} "
        f"at iteration {at:,}: it overfits after it. A comparison of last values hides that.",
        strength="strong",
        numbers={"run": label, "last": last.value, "recipe_best": best, "recipe_best_iter": at, "above_best": above},
        settle="Compare best with best.",
        title=f"The {label}'s last value is above its recipe's best",
    )


def _continued(pair: Pair, label: str, last: Value, reference: Reference) -> Result:
    """The result of the same recipe at the other run's length, where a reference gives one."""
    both = weighing.curves(pair)
    if both is None:
        return
    other = both[1 if label == "control" else 0].last.iter
    length = ("max_iters", "lr_decay_iters")
    for item in references():
        same = all(item.settings[name] == reference.settings[name] for name in DECIDING if name not in length)
        if item.name == reference.name or not same or item.settings["max_iters"] != other or other not in item.evals:
            continue
        end = item.evals[int(other)][1]
        yield remark(
            "computed",
            f"At {other:,.0f} iterations, the length of the other run, the {label}'s recipe itself ends near {end:.2f} "
            f"(reference {end:.4f}): {end - last.value:+.2f} from its {last.value:.4g} at {last.iter:,.0f}.",
            numbers={"run": label, "iteration": other, "reference": end, "change": end - last.value},
            title=f"What the {label}'s recipe gives at the other's length",
            command=retrain_settings(item.settings, pair.runs[1 if label == "control" else 0][1]),
            settle="Train it as long as the other run.",
        )


def _off(label: str, last: Value, expected: float, reference: Reference, known: Evidence) -> Finding:
    by = last.value - expected
    return cause(
        "strong" if known == "computed" else "possible",
        "inferred",
        f"The {label} has the settings of {reference.name} and not its losses: val loss {last.value:.4g} at iteration "
        f"{last.iter:,.0f}, {by:+.4f} from the reference's {expected:.4f}. Something ran otherwise than its "
        "settings say.",
        numbers={"run": label, "recipe": reference.name, "val": last.value, "reference": expected, "off": by},
        effect=by if label == "test" else -by,
        settle="Repeat the recipe with lossgap and compare.",
        command=retrain_settings(reference.settings),
        title=f"The {label} does not give what its recipe gives",
    )


@rule("below-what-is-possible", title="A val loss is below what the recipe can reach", group="C", order=2)
def below_what_is_possible(pair: Pair) -> Result:
    """Below the lowest known losses: a leak, other data, a missing causal mask, or another metric."""
    for label, facts in pair.runs:
        curve = facts.val
        if curve is None or facts.dataset.value not in (FLOOR_CORPUS, "tinyshakespeare"):
            continue
        start = facts.text("init_from").value
        if curve.best.value >= FLOOR or curve.meaning.unit != "nats/token" or (start or "scratch") != "scratch":
            continue
        by = curve.best.value - FLOOR
        yield cause(
            "strong",
            "inferred",
            f"The {label} has a val loss of {curve.best.value:.4f} on Tiny Shakespeare's characters. The lowest "
            "published one of a model trained on it from scratch is about 1.46; lower ones had val text in the "
            "training data, targets within sight (no causal mask), other data, or another metric.",
            numbers={"run": label, "best": curve.best.value, "floor": FLOOR},
            effect=by if label == "test" else -by,
            settle="Evaluate the checkpoint on the whole val split (compare --reevaluate).",
            title=f"The {label}'s val loss is lower than its recipe can give",
        )
