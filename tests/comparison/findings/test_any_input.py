"""Rules R6 to R11 on whatever a log may hold: they never raise, and swapping the runs swaps what is said."""

from __future__ import annotations

from dataclasses import replace

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comparison.made import GPU, LAPTOP, run
from lossgap.comparison import compare
from lossgap.comparison.finding import Finding, rules
from lossgap.runs.run import ITER_COLUMNS, Run

MINE = [item for item in rules() if item.order >= 6]
finite = st.floats(-1e6, 1e6)
numbers = st.one_of(st.none(), finite, st.sampled_from([0.0, 1e-300, 1e300, -1.0]))
words = st.sampled_from(["nanogpt", "figures", "lossgap", "llmc", "csv", "modded-nanogpt"])
settings_ = st.dictionaries(
    st.sampled_from([*LAPTOP, "seed", "rng", "vocab_size", "attention", "tf32", "compile", "init_from", "precision"]),
    st.one_of(st.none(), st.booleans(), st.integers(-5, 10**12), finite, st.text(max_size=5), st.just("resume")),
    max_size=8,
)
rows = st.lists(
    st.tuples(st.integers(0, 90), numbers, numbers, numbers, numbers, st.sampled_from([None, "loss is nan", "x"])),
    max_size=90,
)
seams: st.SearchStrategy[list[object]] = st.lists(
    st.one_of(
        st.none(),
        st.text(max_size=3),
        st.fixed_dictionaries({"iter": st.one_of(st.none(), st.integers(-9, 99)), "changed": st.just(["x"])}),
    ),
    max_size=3,
)


@st.composite
def _runs(draw: st.DrawFn) -> Run:
    vals = draw(st.dictionaries(st.integers(0, 5000), numbers, max_size=12))
    made = run(dict(sorted(vals.items())), config=draw(st.sampled_from([{}, LAPTOP, GPU])) | draw(settings_))
    table: dict[str, list[object]] = {name: [] for name in ITER_COLUMNS}
    for at, loss, ms, mfu, lr, why in draw(rows):
        cells = {"iter": at, "loss": loss, "ms": ms, "mfu": mfu, "lr": lr, "why": why}
        for name, column in table.items():
            column.append(cells.get(name))
    return replace(
        made,
        iters=pl.DataFrame(table, schema=ITER_COLUMNS),
        seams=list(draw(seams)),
        format=draw(words),
        device=draw(st.sampled_from([None, "RTX 4090", "a CPU", "Zx"])),
    )


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_runs(), _runs())
def test_no_rule_raises_and_numbers_are_json(control: Run, test: Run) -> None:
    for first, second in ((control, test), (test, control), (control, control)):
        found = compare(first, second, rules=MINE, sources=("a", "b"))
        for text in [*(item.text for item in found.findings), *(item.text for item in found.ruled_out)]:
            assert text
            assert "nan" not in text.replace("nanoGPT", "").replace("is nan", "").replace("became nan", ""), text
        assert {item.id for item in found.findings if isinstance(item, Finding)} <= {rule.id for rule in MINE}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_runs(), _runs())
def test_which_run_is_called_the_control_changes_no_set_of_rules(control: Run, test: Run) -> None:
    one = compare(control, test, rules=MINE, sources=("a", "b"))
    two = compare(test, control, rules=MINE, sources=("a", "b"))
    assert sorted(item.id for item in one.findings) == sorted(item.id for item in two.findings)
