"""R7: batches that a resumed run reads again."""

from __future__ import annotations

from collections.abc import Iterator

from lossgap.comparison.facts import Facts
from lossgap.comparison.findings.chance import could_be_worse_for
from lossgap.comparison.findings.likeness import Likeness, within
from lossgap.comparison.findings.seams import seams
from lossgap.comparison.metric import Metric
from lossgap.comparison.rules import Finding, Pair, Result, RuledOut, cause, remark, rule, ruled_out
from lossgap.runs.values import as_int

SHARE = 0.2
"""Share of the updates on repeated batches from which a lower train loss may come from them. A choice."""


@rule("repeated-batches", title="A resumed run reads the same batches again", group="D", order=7)
def repeated_batches(pair: Pair) -> Result:
    """nanoGPT seeds its generator again at a resume (nanoGPT#467); other trainers may lose their place in the data."""
    for label, facts in pair.runs:
        for at in _restarts(facts):
            found = _again(pair, label, facts, at)
            if found is not None:
                yield found


def _restarts(facts: Facts) -> Iterator[int]:
    """Iterations at which a run went on; the first one of a record that holds the resumed leg only."""
    places = seams(facts)
    yield from (seam.at for seam in places if not seam.exact)
    first = as_int(facts.run.iters["iter"].min())
    if facts.text("init_from").value == "resume" and first is not None and first > 1 and not places:
        yield first


def _again(pair: Pair, label: str, facts: Facts, at: int) -> Finding | RuledOut | None:
    last, alike = facts.last_iter, within(facts, at)
    if last is None or last <= at:
        return None
    if alike is not None and alike.same is False:
        return ruled_out(
            "inferred",
            f"The losses of {label} after its resume at iteration {at:,} do not follow those of its first iterations "
            f"({alike.said}): it did not read the same batches again.",
            numbers={"run": label, "iteration": at, "correlation": alike.correlation},
            title="Batches read again",
        )
    seen = alike if alike is not None and alike.same else None
    if facts.run.format == "nanogpt" or seen is not None:
        return _reads_again(pair, label, facts, at, last, seen)
    return None


def _reads_again(pair: Pair, label: str, facts: Facts, at: int, last: int, seen: Likeness | None) -> Finding:
    again = min(at, last - at)
    share = again / last
    why = "its data began anew"
    if facts.run.format == "nanogpt":
        why = "nanoGPT seeds its generator with 1337 at every start (nanoGPT#467)"
    proof = f", and the losses follow those of the first ones ({seen.said})" if seen is not None else ""
    text = (
        f"{label} was resumed at iteration {at:,} and read the batches of iterations 0 to {again - 1:,} again: "
        f"{why}{proof}. {100 * share:.0f}% of its updates were on batches that it had seen."
    )
    numbers: dict[str, object] = {"run": label, "iteration": at, "again": again, "share": share}
    if seen is not None:
        numbers["correlation"] = seen.correlation
    metric, other = pair.alignment.metric, "test" if label == "control" else "control"
    on_train = isinstance(metric, Metric) and metric.name == "train_loss"
    if on_train and share >= SHARE and could_be_worse_for(pair, other):
        text += " That lowers a train loss without a better model."
        sure = seen is not None
        return cause("likely" if sure else "possible", "inferred", text, numbers=numbers, settle="Compare val losses.")
    return remark("inferred" if seen is not None else "computed", text, numbers=numbers)
