"""The price of an experiment, for whoever decides whether it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache

from lossgap.attribution import measure
from lossgap.attribution.arm import Arm
from lossgap.attribution.design import NO_INTERVAL, ORDER_SPREAD, Switched, least_cost, width
from lossgap.attribution.effects import RESOLUTION
from lossgap.attribution.explanation import Scale
from lossgap.attribution.price import Price, ShapeTiming
from lossgap.attribution.pricing import Experiment, Pricing, some_arms
from lossgap.attribution.speed import flops, shape
from lossgap.comparison import Comparison
from lossgap.comparison.spread import seed_spread


def quote(
    experiment: Experiment,
    pricing: Pricing,
    comparison: Comparison,
    notes: Sequence[str],
    arm_of: Callable[[Switched, int], Arm],
) -> Price:
    """Return what the experiment takes on this machine, and the smallest contribution that it can resolve."""
    plan, speed, main = experiment.plan, experiment.speed, experiment.design or experiment.screening
    assert main is not None
    left, cached = [], 0
    for seed, switched in experiment.arms():
        if measure.stored(arm_of(switched, seed).key, pricing.root) is not None:
            cached += 1
        else:
            left.append(plan.settings(switched))
    # Arms that screening leads to are not known yet; they cost what the known ones do, on average.
    open_runs = experiment.runs - main.runs if experiment.design is None else 0
    work = pricing.seconds(left, plan, speed)
    work *= (len(left) + open_runs) / max(len(left), 1)
    resolvable, why = _resolvable(experiment, comparison)
    told = list(notes)
    if speed.predicted:
        told.append(f"{speed.predicted} large shapes were not timed; the highest FLOP/s measured here predicts them")
    return Price(
        kind=main.kind,
        factors=plan.names,
        seeds=len(main.seeds),
        arms_per_seed=main.arms_per_seed,
        repeated=main.repeated,
        arms=main.runs + open_runs,
        cached=cached,
        seconds=work / speed.workers.at_once,
        at_once=speed.workers.at_once,
        threads=speed.workers.threads,
        resolvable=resolvable,
        resolvable_why=why,
        asked=pricing.allowance.text,
        scale=experiment.scale,
        true_scale_seconds=_true_seconds(experiment, pricing),
        timings=_timings(left, experiment),
        not_switched=plan.not_switched,
        notes=tuple(told),
    )


def _timings(left: Sequence[dict[str, object]], experiment: Experiment) -> tuple[ShapeTiming, ...]:
    counted = Counter((shape(config), config["max_iters"]) for config in left)
    texts = {}
    for config in left:
        dropout = f", dropout {config['dropout']}" if config["dropout"] else ""
        texts[shape(config), config["max_iters"]] = (
            f"{config['n_layer']} layers, {config['n_embd']} channels, context {config['block_size']}, "
            f"batch {int(str(config['batch_size'])) * int(str(config['gradient_accumulation_steps']))}{dropout}"
        )
    return tuple(
        ShapeTiming(
            shape=texts[key], arms=count, iterations=int(str(key[1])), seconds_per_iter=experiment.speed.seconds[key[0]]
        )
        for key, count in counted.items()
        if key[0] in experiment.speed.seconds
    )


def _resolvable(experiment: Experiment, comparison: Comparison) -> tuple[float | None, str]:
    """Half width that the measured spread over seeds lets expect, as if the arms of a seed had nothing in common."""
    main = experiment.design or experiment.screening
    assert main is not None
    expected = width(main)
    if expected >= NO_INTERVAL:
        return None, f"{len(main.seeds)} seed{'s' * (len(main.seeds) != 1)} of this design give no interval"
    if not experiment.scale.true:
        return None, "the spread over seeds is unknown for recipes at this scale; the result will show it"
    found = [seed_spread(facts) for facts in (comparison.control, comparison.test)]
    known = [item for item in found if item is not None]
    if not known:
        return None, "the spread over seeds is unknown for these recipes; the result will show it"
    widest = max(known, key=lambda item: item.sd)
    half = max(expected * widest.sd, RESOLUTION)
    only = "" if len(known) == len(found) else " (of one of the two recipes; the other's is not known)"
    if main.single:
        return half, f"from {widest.how}{only}"
    if main.kind == "permutations":
        return (
            half,
            f"from {widest.how}{only}, and over orders {ORDER_SPREAD:g} times it, a cautious choice",
        )
    return half, f"from {widest.how}{only}; arms of one seed share their draws, which can make it smaller"


def _true_seconds(experiment: Experiment, pricing: Pricing) -> float | None:
    """The cheapest design that gives intervals, at the true scale and the FLOP/s of the fastest shape measured here."""
    speed, vocab = experiment.speed, pricing.vocab_size
    if experiment.scale.true or not speed.seconds:
        return None
    rate = 0.0
    for switched in some_arms(experiment.plan.names):
        config = experiment.plan.settings(switched)
        rate = max(rate, flops({**config, "max_iters": 0}, vocab) / speed.seconds[shape(config)])
    true = pricing.plan_at(Scale())
    least = least_cost(true.names, cache(lambda switched: flops(true.settings(switched), vocab)))
    return least / rate / speed.workers.at_once
