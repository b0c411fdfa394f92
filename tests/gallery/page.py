"""The scores as Markdown: what `make gallery` prints and docs/gallery.md holds."""

from __future__ import annotations

import datetime
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Sequence

from gallery.plants import HELD_OUT, NULL_SEEDS, PLANTS, RECIPES, SPREAD_SEEDS, TEST_SEEDS
from gallery.score import MODES, Outcome, Scores, interval, rule_ids
from lossgap.comparison.spread_model import SCALES, Scale, bank, left_out

COMMAND = "make gallery"

Both = Sequence[tuple[str, Scores]]
"""The scores by what is known of the spread."""


def page(measured: Scores, unknown: Scores, date: datetime.date) -> str:
    """The whole page: scores with the measured spreads of the recipes, and as if they were unknown."""
    kinds = [sum(plant.kind == kind for plant in PLANTS) for kind in ("cause", "harmless", "told")]
    both = (("measured", measured), ("unknown", unknown))
    parts = [
        "# Gallery: how often the rules are right",
        f"Written by `{COMMAND}` on {date.isoformat()}, from the runs in `tests/gallery/data`, which "
        "`PYTHONPATH=tests python -m gallery.make_gallery` trained on one thread of a CPU. What is planted is in "
        f"`tests/gallery/plants.py`: {kinds[0]} causes, {kinds[1]} differences that make no gap and {kinds[2]} that a "
        f"remark must name, each with {len(TEST_SEEDS)} pairs of seeds, five ways: visible (all settings), decoy "
        "(another setting differs that does no harm), stripped (nothing but the lines of the losses, as nanoGPT prints "
        "them), nanogpt (its stdout with all settings), huggingface (the state of its Trainer: steps, batch and "
        f"rates). The recipes are small ({', '.join(RECIPES)}: 2 layers, 32 to 48 "
        "channels, 300 iterations): this says how the rules do on such runs, not on large ones. At these rates a seed "
        "now and then stays on the first plateau of the loss for longer, so the spread over seeds has a long tail.",
        "Everything is scored twice. Spread unknown: as if the three recipes were new to lossgap, so without what the "
        "shipped model of spreads learned from them. Spread measured: with the spread of each recipe over seeds 1 to "
        f"{SPREAD_SEEDS}, which no pair here uses, from `tests/gallery/data/spreads.json`, beside it.",
        "## Null pairs",
        f"All pairs among {len(NULL_SEEDS)} seeds of each recipe. The intervals are exact (Clopper and Pearson) for "
        "independent pairs; these share runs, so they are too narrow. The goal is at most 5% with any cause.",
        _null_table(both),
        _null_causes(both),
        _false_alarms(both),
        "Three recipes say little about false alarms: one seed that stays on the plateau is in 14 of the 105 pairs of "
        "its recipe. What counts are recipes: each of those whose losses the bank of spreads keeps, left out of the "
        "model in turn (`python scripts/measure_spread_bank.py --check=True`).",
        _left_out(),
        "## Planted causes, by mode",
        "Rank of the true cause among the causes. Named: missed, but a remark names the planted setting as missing; "
        "every bare log gets such a list, nulls too, so it is counted apart and not as right. No gap: missed, and the "
        "verdict was not 'different'. Right: first or second. Shown: right among the pairs whose planted setting the "
        "mode shows and whose gap lies beyond the margin of 0.01: a smaller one needs no cause. Diff: the trivial "
        "baseline, a diff of the two configs as printed, right where a planted setting is the first or second that "
        "differs. One rule was changed after a scoring had shown all pairs: `not-in-the-settings` now takes the few "
        "seeds of a measured spread into account (Student's t), which took its blame from 28 of 315 null pairs, and "
        "three planted faults with it. So the nulls with a measured spread are not held out. After the first scoring "
        "the labels of three plants (corpus-upper, corpus-tiny, beta2) got a second rule that is true of them too, and "
        "plain-resume was trained again, with another trick, as it had not repeated its batches. The thresholds of "
        "`looks-like-another-rate`, which counts as right for a planted rate, warm-up or clipping, and the sizes of "
        "the optimizer's settings were set on these runs, so there neither half is held out. The levels of "
        "`not-in-the-settings` for a gap that closes were chosen after these nulls and faults were seen, so for that "
        "rule neither half is held out. Held out: seeds "
        f"{_words(HELD_OUT)}.",
        _mode_table(both),
        "## Confusion",
        "Rows: the rule whose cause was planted. Columns: the first cause that was given, with all settings visible; "
        "`none` where there is none.",
        *(f"Spread {name}:\n\n{_confusion(scores)}" for name, scores in both),
        "## Differences that do no harm",
        "Right is no cause; for `plain-resume` and `setting-not-applied`, with all settings, also a remark that says "
        "so. Told: how often a remark of the rule is there.",
        *(f"Spread {name}:\n\n{_harmless_table(scores)}" for name, scores in both),
        "## By rule",
        "Recall: of the pairs whose planted truth is this rule, those answered right: by it or a rule that says the "
        "same, first or second. Precision: of all pairs in which the "
        "rule gave a cause (plants in all modes, and nulls), those in which it is true. `-`: not planted, never fired.",
        *(f"Spread {name}:\n\n{_rule_table(scores)}" for name, scores in both),
        "## Causes that are not true",
        *(f"Spread {name}:\n\n{_wrong(scores)}" for name, scores in both),
        "## By plant",
        "The ranks of the three pairs of seeds; n is named, `-` is missed, and a gap in brackets is inside the noise.",
        *(f"Spread {name}:\n\n{_plant_table(scores)}" for name, scores in both),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _words(seeds: Sequence[int]) -> str:
    return " and ".join(map(str, seeds))


def _share(hits: int, total: int) -> str:
    return f"{hits}/{total}" if total else "-"


def _null_table(both: Both) -> str:
    rows = []
    for (name, scores), form in itertools.product(both, ("folder", "stripped", "stdout", "huggingface")):
        for recipe in (*RECIPES, ""):
            mine = [item for item in scores.nulls if item.form == form and recipe in ("", item.recipe)]
            hits = sum(bool(item.answer.causes) for item in mine)
            low, high = interval(hits, len(mine))
            words = [sum(item.answer.word == word for item in mine) for word in ("different", "equivalent")]
            share = f"{hits / len(mine):.1%} ({low:.1%} to {high:.1%})"
            shown = {"folder": "visible", "stdout": "nanogpt"}.get(form, form)
            rows.append([name, shown, recipe or "all", _share(hits, len(mine)), share, *map(str, words)])
    return _table(["spread", "mode", "recipe", "any cause", "share, 95%", "'different'", "'equivalent'"], rows)


def _null_causes(both: Both) -> str:
    """How many pairs each rule blames, and which seeds are in most of them."""
    lines = []
    for name, scores in both:
        found: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for item in scores.nulls:
            for id in item.answer.causes:
                found.setdefault((id, item.recipe), []).append(item.seeds)
        for (id, recipe), pairs in sorted(found.items()):
            seed, count = Counter(itertools.chain(*pairs)).most_common(1)[0]
            said = f"{len(pairs)} pairs of {recipe}, {count} of them with seed {seed}"
            lines.append(f"- spread {name}: `{id}` blames {said}")
    return "\n".join(lines) or "No null pair has a cause."


def _left_out() -> str:
    shown: dict[str, tuple[Scale, ...] | None] = {
        "all": None,
        "settings, no curve": tuple(name for name in SCALES if name != "fall"),
        "curve, no settings": ("fall", "iterations"),
    }
    rows = []
    for said, scales in shown.items():
        found = left_out(bank(), scales)
        rates = [item.beyond / item.pairs for item in found]
        width = statistics.median(item.reach / (item.sd * math.sqrt(2)) for item in found)
        beyond, pairs = sum(item.beyond for item in found), sum(item.pairs for item in found)
        share = f"{statistics.fmean(rates):.1%} ({max(rates):.0%})"
        rows.append([said, str(len(found)), share, _share(beyond, pairs), f"{width:.1f}"])
    head = ["the records show", "recipes", "false 'different', mean (most)", "of all pairs", "half width / sd of a gap"]
    return _table(head, rows)


def _false_alarms(both: Both) -> str:
    """False causes and false verdicts on the nulls, in one sentence per spread, beside those of a diff of configs."""
    lines = []
    for name, scores in both:
        total = len(scores.nulls)
        causes = sum(bool(item.answer.causes) for item in scores.nulls)
        different = sum(item.answer.word == "different" for item in scores.nulls)
        diff = sum(bool(item.answer.differ) for item in scores.nulls)
        lines.append(
            f"- spread {name}: of {total} null pairs {causes} ({causes / total:.1%}) have a false cause and "
            f"{different} ({different / total:.1%}) a false 'different'; a diff of the configs blames {diff}"
        )
    return "\n".join(lines)


def _confusion(scores: Scores) -> str:
    """The first cause against the planted one, over all pairs with a planted cause in the visible mode."""
    counts: dict[str, Counter[str]] = {}
    for item in scores.planted("visible"):
        first = item.answer.causes[0] if item.answer.causes else "none"
        counts.setdefault(item.plant.truth, Counter())[first] += 1
    columns = sorted({first for found in counts.values() for first in found})
    rows = [
        [truth, *(str(counts[truth][first]) if counts[truth][first] else "" for first in columns)]
        for truth in rule_ids()
        if truth in counts
    ]
    return _table(["planted", *columns], rows)


def _mode_table(both: Both) -> str:
    halves: tuple[tuple[str, tuple[bool, ...]], ...] = (
        ("all", (False, True)),
        ("first", (False,)),
        ("held out", (True,)),
    )
    rows = []
    for (spread, scores), mode, (half, belongs) in itertools.product(both, MODES, halves):
        mine = [item for item in scores.planted(mode) if item.held_out in belongs]
        rows.append([spread, mode, half, *_counts(mine, mode)])
    head = [
        "spread",
        "mode",
        "half",
        "pairs",
        "first",
        "second",
        "later",
        "named",
        "no gap",
        "missed",
        "right, 95%",
        "shown",
        "diff",
    ]
    return _table(head, rows)


def _counts(mine: Sequence[Outcome], mode: str) -> list[str]:
    ranks = [item.rank for item in mine]
    missed = [item for item in mine if item.rank is None]
    named = [item for item in missed if item.named and mode == "stripped"]
    no_gap = [item for item in missed if item not in named and item.answer.word != "different"]
    hits = sum(item.right for item in mine)
    low, high = interval(hits, len(mine))
    later = sum(rank is not None and rank > 2 for rank in ranks)
    numbers = [len(mine), ranks.count(1), ranks.count(2), later, len(named), len(no_gap)]
    left = len(missed) - len(named) - len(no_gap)
    diff = sum(item.by_diff for item in mine)
    shown = [item for item in mine if item.shown and not item.no_need]
    share = _share(sum(item.right for item in shown), len(shown))
    right = f"{hits / len(mine):.0%} ({low:.0%} to {high:.0%})"
    return [*map(str, [*numbers, left]), right, share, _share(diff, len(mine))]


def _harmless_table(scores: Scores) -> str:
    rows = []
    for plant in PLANTS:
        if plant.kind == "cause":
            continue
        cells = []
        for mode in MODES:
            mine = [item for item in scores.outcomes if item.plant is plant and item.mode == mode]
            blamed = sorted({id for item in mine for id in item.answer.causes})
            told = sum(bool({plant.truth, *plant.also} & set(item.answer.remarks)) for item in mine)
            cells.append(
                f"{_share(sum(item.right for item in mine), len(mine))}, told {told}"
                f"{': ' + ', '.join(blamed) if blamed else ''}"
            )
        rows.append([plant.name, plant.truth, *cells])
    return _table(["plant", "rule", *MODES], rows)


def _rule_table(scores: Scores) -> str:
    rows = []
    for id in rule_ids():
        fires, right = scores.fired.get(id, (0, 0))
        recalls = [scores.recall(id, mode) for mode in MODES]
        if fires or any(total for total, _ in recalls):
            precision = f"{right / fires:.0%} ({right}/{fires})" if fires else "-"
            rows.append([id, *(_share(hits, total) for total, hits in recalls), precision])
    silent = [id for id in rule_ids() if id not in scores.fired and not any(scores.recall(id, m)[0] for m in MODES)]
    table = _table(["rule", *(f"recall, {mode}" for mode in MODES), "precision"], rows)
    return f"{table}\n\nNot planted, and never a cause here: {', '.join(silent)}."


def _cell(item: Outcome) -> str:
    if item.rank is not None:
        return str(item.rank)
    return "n" if item.mode == "stripped" and item.named else "-"


def _plant_table(scores: Scores) -> str:
    rows = []
    for plant in PLANTS:
        if plant.kind == "cause":
            mine = [item for item in scores.outcomes if item.plant is plant]
            seen = [item.answer for item in mine if item.mode == "visible"]
            gaps = [
                "none" if a.gap is None else f"{a.gap:+.2f}" if a.word == "different" else f"({a.gap:+.2f})"
                for a in seen
            ]
            cells = [" ".join(_cell(item) for item in mine if item.mode == mode) for mode in MODES]
            rows.append([plant.name, plant.truth, " ".join(gaps), *cells])
    return _table(["plant", "rule", "gaps (nats)", *MODES], rows)


def _wrong(scores: Scores) -> str:
    lines = []
    for id in rule_ids():
        if id in scores.wrong:
            said = ", ".join(f"{where} {count}" for where, count in sorted(scores.wrong[id].items()))
            lines.append(f"- `{id}`: {said}")
    return "\n".join(lines) or "None."
