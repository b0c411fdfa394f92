"""Rules R6 to R11 on whatever a log may hold: they never raise, and swapping the runs fires the same rules."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import polars as pl
import pytest

from comparison.made import GPU, LAPTOP, run
from lossgap.comparison import compare
from lossgap.comparison.rules import rules
from lossgap.runs.run import ITER_COLUMNS, Run

MINE = [item for item in rules() if item.order >= 6]
FORMATS = ("nanogpt", "figures", "lossgap", "llmc", "csv", "modded-nanogpt")
NAMES = (*LAPTOP, "seed", "rng", "vocab_size", "attention", "tf32", "compile", "init_from", "precision")
VALUES: tuple[object, ...] = (
    None,
    True,
    False,
    -5,
    0,
    1,
    10**12,
    0.2,
    -1e6,
    1e300,
    "",
    "x",
    "resume",
    "cuda",
    "float16",
    "auto",
    [1],
    {},
)
SEAMS: tuple[object, ...] = (
    None,
    "x",
    {},
    {"iter": None},
    {"iter": -9},
    {"iter": 40, "changed": ["x"]},
    {"iter": 20, "exact": True},
)
LOSSES = (None, 0.0, 1e-300, 1e60, -1.0)


def _number(draw: random.Random) -> float | None:
    return draw.choice(LOSSES) if draw.random() < 0.1 else draw.uniform(0, 5)


def _any(seed: int) -> Run:
    """A record with odd values in any place, the same for the same seed."""
    draw = random.Random(seed)
    places = sorted(draw.sample(range(0, 5000, 50), draw.randrange(12)))
    odd = {draw.choice(NAMES): draw.choice(VALUES) for _ in range(draw.randrange(6))}
    made = run({at: _number(draw) for at in places}, config=draw.choice(({}, LAPTOP, GPU)) | odd)
    count = draw.choice((0, 1, 3, 60, 90))
    rows: dict[str, list[object]] = {name: [None] * count for name in ITER_COLUMNS}
    rows["iter"] = [draw.choice((index, index, draw.randrange(90))) for index in range(count)]
    for name in ("loss", "ms", "mfu", "lr"):
        rows[name] = [_number(draw) for _ in range(count)]
    rows["why"] = [draw.choice((None, None, None, "loss is nan", "x")) for _ in range(count)]
    return replace(
        made,
        iters=pl.DataFrame(rows, schema=ITER_COLUMNS),
        seams=[draw.choice(SEAMS) for _ in range(draw.randrange(3))],
        format=draw.choice(FORMATS),
        device=draw.choice((None, "RTX 4090", "a CPU", "Zx")),
    )


@pytest.mark.parametrize("block", range(10))
def test_no_rule_raises_and_no_text_holds_nan(block: int) -> None:
    for seed in range(20 * block, 20 * block + 20):
        control, test = _any(seed), _any(1000 + seed)
        for first, second in ((control, test), (control, control)):
            found = compare(first, second, rules=MINE, sources=("a", "b"))
            for text in [*(item.text for item in found.findings), *(item.text for item in found.ruled_out)]:
                assert text
                assert not re.search(r"(?<!is )(?<!became )\b(nan|inf)\b", text), text


@pytest.mark.parametrize("block", range(5))
def test_which_run_is_called_the_control_changes_no_set_of_rules(block: int) -> None:
    for seed in range(20 * block, 20 * block + 20):
        control, test = _any(2000 + seed), _any(3000 + seed)
        one = compare(control, test, rules=MINE, sources=("a", "b"))
        two = compare(test, control, rules=MINE, sources=("a", "b"))
        assert sorted(item.id for item in one.findings) == sorted(item.id for item in two.findings), seed


def test_numbers_that_no_run_prints() -> None:
    vals = {at: 4.0 - at / 1000 for at in range(0, 2001, 250)}
    made = run(vals, losses=dict.fromkeys(range(100), 3.0), seams=[{"iter": 50}], config=GPU)
    huge = made.iters.with_columns(
        *(
            pl.when(pl.col("iter") % 7 == 3).then(1e300).otherwise(1.0).alias(name)
            for name in ("loss", "ms", "mfu", "lr")
        )
    )
    found = compare(made, replace(made, iters=huge), rules=MINE, sources=("a", "b"))
    assert found.findings
