"""The calibration as Markdown: what `make truth` writes into docs/explain-calibration.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from unittest import mock

import numpy as np
from scipy import stats

from attribution.truth.bank import Bank
from attribution.truth.calibrate import (
    ALIGNMENTS,
    DRAWS,
    FEW,
    KINDS,
    MANY,
    REPETITIONS,
    SHARE,
    Experiment,
    budgeted,
    contributions,
)
from attribution.truth.nulls import BESIDES, Alarms, Null
from attribution.truth.recipes import text
from lossgap.attribution import effects
from lossgap.attribution.design import Design, Kind

COMMAND = "make truth"
NULL_SEEDS = (3, 5, 10, 15)
NULL_MANY = 4_000


def page(banks: Sequence[Bank], held_out: Sequence[Bank]) -> str:
    """The whole page. `held_out` are the same pairs with other seeds."""
    arms = sum(bank.losses["last"].size for bank in banks)
    parts = [
        "# Calibration of explain: how often its intervals are right",
        f"Written by `{COMMAND}`, from `tests/attribution/truth/bank.json`: {len(banks)} pairs of small recipes "
        "(`recipes.py`: one layer, 16 to 24 channels, 40 to 100 iterations on a made text of 24,000 characters), all "
        f"2^k arms of each with {len(banks[0].seeds)} seeds, {arms:,} trainings with our own trainer on one thread of "
        "a CPU (`make_bank.py`). The truth of a pair is the Shapley values of its mean game over all seeds. This says "
        "how intervals do on such recipes, whose seeds lie far apart; it says nothing of the size of any effect on "
        "others.",
        "## The pairs",
        truths(banks),
        "`sd` and `excess kurtosis` (0 for normal numbers) are over the 60 seeds. In pair `three` the weight decay "
        "changes almost nothing, but one seed of 60 amplifies it to several times its usual effect: the reason for the "
        "least half width below.",
        f"## A quarter of the bank's runs ({SHARE:.0%})",
        "Covered: all intervals of an experiment hold the truth at once; the goal is 90% to 99%. First: the true top "
        "factor has the largest contribution; the goal is 95%. Drawn `with`: each seed is drawn from all 60; the bank "
        "is the population, and the drawn seeds tell the truth no better than an experiment's own do. Drawn `without`: "
        "no seed twice; the truth is then in part the mean of the very seeds that were drawn (a quarter of them for "
        "factorial, 48 of 60 for permutations of `five`), and is covered more often by construction. "
        f"Of {REPETITIONS} repetitions the count, by the project's own `design`, `effects` and `mean`; of {MANY:,} the "
        "share, read from a table of the same values. Intervals in brackets are exact (Clopper and Pearson), 95%. The "
        "mean half width is in nats per token, over factors and repetitions.",
        _coverage(banks),
        "## Held out",
        "The bank was not only scored but looked at: the least half width and the interval of a single factor (both "
        "below) were introduced after its first scoring, in which Student's t alone covered the truth of pair `three` "
        "in 88% at last and 90% at best; and the rate of that pair's test was changed (0.005 to 0.007), as its second "
        "factor came too near its first. So the same pairs were trained once more, with seeds "
        f"{held_out[0].seeds[0]} to {held_out[0].seeds[-1]} (`held_out.json`), after which nothing was changed. The "
        "truth is that of these seeds, which are drawn `with`.",
        _held_out(held_out),
        "## Smaller budgets",
        "Seeds drawn with replacement.",
        _few(banks),
        "## Without a least half width",
        f"The same as the first table, `with`, {MANY:,} repetitions, if the intervals were Student's t alone. "
        f"Agreement of a few seeds is no evidence that the others agree; so no interval is narrower than "
        f"{effects.RESOLUTION} nats per token, a tenth of the usual margin, unless all seeds give exactly the same.",
        _plain(banks),
        "## Nulls",
        "A seed that poses as a factor (`--factor luck=seed`) changes nothing but luck: its truth is 0. Its arms come "
        "from the bank, two seeds for each of the experiment's. Counted is any `different` among the factors without "
        "effect. `eval_interval` and `log_interval` as factors make no arms of their own (their arms are equal by "
        "content, and trained once): their contribution is exactly 0, never `different`; beside luck they are counted "
        "with it. The goal is at most 5%. A single factor is held to the interval that two have (`design.together`): "
        "at 95% it would be called different in 5% of such pairs at last, and in more at last or best.",
        _nulls(banks),
    ]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _share(hits: int, total: int) -> str:
    """With its exact 95% interval."""
    found = stats.binomtest(hits, total).proportion_ci()
    return f"{hits / total:.1%} ({found.low:.1%} to {found.high:.1%})"


def truths(banks: Sequence[Bank]) -> str:
    """The table of true contributions, and what the pairs are like."""
    rows = []
    for bank in banks:
        for place, name in enumerate(bank.factors):
            row = [bank.name, name]
            for at in ALIGNMENTS:
                values = contributions(bank, "factorial", at)[0][:, place]
                row += [f"{values.mean():+.4f}", f"{np.std(values, ddof=1):.4f}", f"{stats.kurtosis(values):.1f}"]
            rows.append(row)
        row = [bank.name, "gap"]
        for at in ALIGNMENTS:
            gaps = bank.losses[at][:, -1] - bank.losses[at][:, 0]
            row += [f"{gaps.mean():+.4f}", f"{np.std(gaps, ddof=1):.4f}", f"{stats.kurtosis(gaps):.1f}"]
        rows.append(row)
    return (
        _table(["pair", "factor", "last", "sd", "excess kurtosis", "best", "sd", "excess kurtosis"], rows)
        + "\n\n"
        + "\n".join(f"- {_ends(bank)}" for bank in banks)
    )


def _ends(bank: Bank) -> str:
    """Where a pair's losses begin and end, and its largest interaction."""
    ends = bank.losses["last"].mean(axis=0)
    numbers = tuple(range(len(bank.seeds)))
    found = bank.draw(Design(kind="factorial", factors=bank.factors, seeds=numbers), numbers, "last")
    means, errors = found.interactions.mean(axis=0), stats.sem(found.interactions, axis=0)
    largest = int(np.argmax(np.abs(means)))
    return (
        f"`{bank.name}`: from {ends[0]:.3f} to {ends[-1]:.3f} nats per token (letter frequencies alone: "
        f"{_entropy():.3f}); the largest interaction at last is {' x '.join(found.pairs[largest])}, "
        f"{means[largest]:+.4f} (standard error {errors[largest]:.4f})."
    )


def _entropy() -> float:
    """Of the text's letters, nats: what a model without any context could reach."""
    return float(stats.entropy(list(Counter(text()).values())))


def _kinds(bank: Bank) -> list[tuple[Kind, int]]:
    """The kinds with the seeds that the budget gives them."""
    return [(kind, len(budgeted(bank, kind).seeds)) for kind in KINDS]


def _coverage(banks: Sequence[Bank]) -> str:
    rows = []
    for bank in banks:
        for kind, seeds in _kinds(bank):
            chosen = " (chosen)" if budgeted(bank).kind == kind else ""
            for draw in DRAWS:
                for at in ALIGNMENTS:
                    made = Experiment(bank=bank, kind=kind, seeds=seeds, at=at, draw=draw)
                    few, many = made.score(REPETITIONS), made.score(MANY)
                    row = [bank.name, f"{kind}{chosen}", str(seeds), str(made.runs), draw, at]
                    row += [f"{few.covered}/{REPETITIONS}", _share(many.covered, MANY)]
                    row += [f"{few.first}/{REPETITIONS}", f"{many.first / MANY:.1%}", f"{many.width:.4f}"]
                    rows.append(row)
    head = ["pair", "design", "seeds", "runs", "drawn", "at"]
    return _table([*head, "covered", f"of {MANY:,}", "first", f"of {MANY:,}", "mean half width"], rows)


def _held_out(banks: Sequence[Bank]) -> str:
    rows = []
    for bank in banks:
        for kind, seeds in _kinds(bank):
            row = [bank.name, kind, str(seeds)]
            for at in ALIGNMENTS:
                made = Experiment(bank=bank, kind=kind, seeds=seeds, at=at)
                few, many = made.score(REPETITIONS), made.score(MANY)
                row += [f"{few.covered}/{REPETITIONS}", _share(many.covered, MANY), f"{many.first / MANY:.1%}"]
                with mock.patch.object(effects, "RESOLUTION", 0.0):
                    row.append(f"{made.score(MANY).covered / MANY:.1%}")
            alone = Null(bank=bank, beside="nothing", kind="factorial", seeds=15)
            row += [f"{alone.alarms(REPETITIONS).either}/{REPETITIONS}"]
            row += [f"{alone.alarms(NULL_MANY).either / NULL_MANY:.1%}"]
            rows.append(row)
    head = ["pair", "design", "seeds"]
    for at in ALIGNMENTS:
        head += [f"{at}: covered", f"of {MANY:,}", "first", "by Student's t alone"]
    return _table([*head, "luck alone `different`, 15 seeds", f"of {NULL_MANY:,}"], rows)


def _few(banks: Sequence[Bank]) -> str:
    rows = []
    for bank in banks:
        for kind in KINDS:
            for seeds in FEW:
                row = [bank.name, kind, str(seeds)]
                for at in ALIGNMENTS:
                    made = Experiment(bank=bank, kind=kind, seeds=seeds, at=at)
                    few, many = made.score(REPETITIONS), made.score(MANY)
                    row += [f"{few.covered}/{REPETITIONS}", f"{many.covered / MANY:.1%}"]
                    row += [f"{many.first / MANY:.1%}", f"{many.width:.4f}"]
                rows.append(row)
    head = ["pair", "design", "seeds"]
    for at in ALIGNMENTS:
        head += [f"{at}: covered", f"of {MANY:,}", "first", "half width"]
    return _table(head, rows)


def _plain(banks: Sequence[Bank]) -> str:
    rows = []
    with mock.patch.object(effects, "RESOLUTION", 0.0):
        for bank in banks:
            for kind, seeds in _kinds(bank):
                made = [Experiment(bank=bank, kind=kind, seeds=seeds, at=at) for at in ALIGNMENTS]
                rows.append([bank.name, kind, str(seeds), *(_share(item.score(MANY).covered, MANY) for item in made)])
    return _table(["pair", "design", "seeds", *ALIGNMENTS], rows)


def _nulls(banks: Sequence[Bank]) -> str:
    rows = []
    for beside in BESIDES:
        for kind in KINDS if beside == "all real factors" else KINDS[:1]:
            for seeds in NULL_SEEDS:
                made = [Null(bank=bank, beside=beside, kind=kind, seeds=seeds) for bank in banks]
                few = [item.alarms(REPETITIONS) for item in made]
                many = [item.alarms(NULL_MANY) for item in made]
                row = [beside, kind, str(seeds), ", ".join(str(item.either) for item in few)]
                row += [", ".join(f"{item.either / NULL_MANY:.1%}" for item in many)]
                rows.append([*row, *(_sum(many, at) for at in (*ALIGNMENTS, "either"))])
    head = ["beside luck", "design", "seeds", f"last or best, of {REPETITIONS} by pair", f"of {NULL_MANY:,} by pair"]
    return _table([*head, *(f"{at}, all pairs" for at in (*ALIGNMENTS, "last or best"))], rows)


def _sum(found: Sequence[Alarms], at: str) -> str:
    return _share(sum(getattr(item, at) for item in found), sum(item.repetitions for item in found))
