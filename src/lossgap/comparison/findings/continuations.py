"""R7: two runs that go on from one checkpoint: what is common to them, and what each did since."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lossgap import suggestion
from lossgap.comparison.curve import Curve, Value
from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.chance import named
from lossgap.comparison.findings.seams import Seam, seams
from lossgap.comparison.rules import Evidence, Finding, Pair, Result, remark, rule
from lossgap.config import TrainConfig
from lossgap.runs.values import as_int, as_list, as_mapping, as_text
from lossgap.settings import settings_of

FIRST = 50
"""Iterations after the checkpoint over which the losses are held against each other; `lossgap record` takes as many."""
ENOUGH = 10
"""Equal losses before the seam that show one past."""
SAME_RATE = 1e-6
_HOW: tuple[str | None, ...] = ("device", "numerics")
"""Factors that decide how a training is computed, not what it is."""
_LOSSES = {"evals.val_loss": "val loss", "evals.train_loss": "train loss", "iters.loss": "loss"}


@dataclass(frozen=True, kw_only=True)
class Continuation:
    """The checkpoint that both runs go on from."""

    at: int
    source: str
    evidence: Evidence
    how: str
    seams: tuple[Seam, Seam]

    @property
    def rates_part(self) -> bool:
        """True if the learning rates differ right after the checkpoint."""
        rates = [seam.rates[1] for seam in self.seams if seam.rates is not None]
        return len(rates) == 2 and abs(rates[0] - rates[1]) > SAME_RATE * max(rates)


def continuation(pair: Pair) -> Continuation | None:
    """The last checkpoint that both go on from; None where none is known.

    The same one by its digest, or because everything before it is equal to the last digit.
    """
    both = [{seam.at: seam for seam in seams(facts)} for _, facts in pair.runs]
    for at in sorted(both[0].keys() & both[1].keys(), reverse=True):
        said = [_said(facts, at) for _, facts in pair.runs]
        digests = [as_text(item.get("digest")) for item in said]
        if digests[0] and digests[1]:
            same, how = digests[0] == digests[1], "both records have its digest"
        else:
            equal = _equal_before(pair, at)
            same, how = equal >= ENOUGH, f"the {equal:,} losses before it are equal to the last digit"
        if same:
            source = as_text(said[0].get("from")) or ""
            return Continuation(at=at, source=source, evidence="computed", how=how, seams=(both[0][at], both[1][at]))
    return None


def _said(facts: Facts, at: int) -> dict[str, object]:
    found = [item for item in map(as_mapping, as_list(facts.run.seams)) if as_int(item.get("iter")) == at]
    return found[-1] if found else {}


def _equal_before(pair: Pair, at: int) -> int:
    """How many losses before iteration `at` are equal; 0 if one is not."""
    curves = [facts.train for _, facts in pair.runs]
    if curves[0] is None or curves[1] is None:
        return 0
    _, places, others = np.intersect1d(curves[0].iters, curves[1].iters, return_indices=True)
    early = curves[0].iters[places] < at
    first, second = curves[0].values[places[early]], curves[1].values[others[early]]
    return len(first) if bool((first == second).all()) else 0


@rule("continuations", title="Both runs continue one checkpoint", group="D", order=7)
def continuations(pair: Pair) -> Result:
    """The effect of the machines on equal weights, and of more iterations, as far as two records show it."""
    found = continuation(pair)
    if found is None:
        return
    yield _since(pair, found)
    yield from _further(pair, found)


def _since(pair: Pair, found: Continuation) -> Finding:
    """The machines' part: both losses from equal weights on."""
    text = f"Both continue the checkpoint of iteration {found.at:,} ({found.how}): whatever parts them arose after it."
    apart = _apart(pair, found)
    numbers: dict[str, object] = {"iteration": found.at, "from": found.source, **apart}
    machines = " and ".join(dict.fromkeys(named(facts) or "an unknown machine" for _, facts in pair.runs))
    text += f" {_differ(pair, machines)}"
    if not apart:
        text += " They have no iteration after it in common whose losses are in both records."
    elif found.rates_part:
        text += " Their learning rates differ from there on, so the losses say nothing of the machines."
    elif apart["largest"] == 0:
        text += f" Their losses are equal to the last digit over the {apart['over']:,} iterations that both have."
    else:
        text += (
            f" Over the first {apart['over']:,} iterations that both have, their losses part by at most "
            f"{apart['largest']:.2g}. Whether rounding explains that can only be told against an envelope, by a replay."
        )
    return remark(
        found.evidence,
        text,
        numbers=numbers,
        settle="Record the stretch after the checkpoint on one machine and replay it on the other (lossgap replay): "
        "that gives the hardware's part with its bound. --checkpoint_at keeps a checkpoint for that.",
        command=_record(pair, found),
    )


def _record(pair: Pair, found: Continuation) -> str:
    """The recording of what followed the checkpoint in the control, with the settings that changed there."""
    if not found.source:
        return ""
    known = settings_of(TrainConfig)
    changed = map(as_mapping, as_list(_said(pair.control, found.at).get("changed")))
    after = {as_text(item.get("setting")) or "": item.get("after") for item in changed}
    recipe = {name: after[name] for name in after if name in known and known[name].factor not in _HOW}
    return suggestion.record(found.source, iters=FIRST, **recipe)


def _differ(pair: Pair, machines: str) -> str:
    names = [item.name for item in pair.settings.differ_in_meaning]
    settings = (
        f"; the settings that differ are {', '.join(names[:6])}{', ...' if len(names) > 6 else ''}" if names else ""
    )
    return f"They ran on {machines} from there on{settings}."


def _apart(pair: Pair, found: Continuation) -> dict[str, float]:
    """How far the printed losses part over the first iterations after the checkpoint; empty where there are none."""
    curves = [facts.train for _, facts in pair.runs]
    if curves[0] is None or curves[1] is None:
        return {}
    iters, places, others = np.intersect1d(curves[0].iters, curves[1].iters, return_indices=True)
    later = np.flatnonzero(iters >= found.at)[:FIRST]
    if not len(later):
        return {}
    differences = curves[1].values[others[later]] - curves[0].values[places[later]]
    return {"over": len(later), "largest": float(np.abs(differences).max()), "first": float(differences[0])}


def _start(pair: Pair, found: Continuation, curve: Curve) -> Value:
    """The last loss up to the checkpoint: one run's past is the other's. Else the first that there is."""
    curves = [each for _, facts in pair.runs for each in (facts.val, facts.train_eval, facts.train) if each is not None]
    past = [each.until(found.at) for each in curves if each.name == curve.name]
    known = [each.last for each in past if len(each)]
    return max(known, key=lambda value: value.iter) if known else curve.first


def _further(pair: Pair, found: Continuation) -> Result:
    """The effect of the iterations after the checkpoint on each run's loss."""
    for (label, facts), seam in zip(pair.runs, found.seams, strict=True):
        curve = facts.val or facts.train_eval or facts.train
        if curve is None or curve.last.iter <= found.at:
            continue
        start = _start(pair, found, curve)
        last, change = curve.last, curve.last.value - start.value
        text = (
            f"The {last.iter - start.iter:,.0f} iterations from {start.iter:,.0f} to {last.iter:,.0f} took the "
            f"{label}'s {_LOSSES.get(curve.name, 'loss')} from {start.value:.4f} to {last.value:.4f} ({change:+.4f})"
        )
        if seam.rates is not None and seam.has_other_rate:
            text += (
                f"; its learning rate went from {seam.rates[0]:.3g} to {seam.rates[1]:.3g} at the checkpoint, so that "
                "is not what the same iterations do in a schedule in one go"
            )
        yield remark(
            "computed",
            f"{text}.",
            numbers={
                "run": label,
                "from": start.value,
                "to": last.value,
                "iterations": last.iter - start.iter,
            },
            title="What the iterations after the common checkpoint did",
        )
