"""What `--budget` says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgap.attribution.allowance import Allowance, parse
from lossgap.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("20m", 1200, "seconds"),
        ("20min", 1200, "seconds"),
        ("90s", 90, "seconds"),
        ("1.5h", 5400, "seconds"),
        ("2d", 172800, "seconds"),
        (" 20 M ", 1200, "seconds"),
        ("30runs", 30, "runs"),
        ("30 runs", 30, "runs"),
        ("1run", 1, "runs"),
        ("30.9runs", 30, "runs"),
        ("5e14flops", 5e14, "flops"),
        ("5e+14flops", 5e14, "flops"),
        ("1flop", 1, "flops"),
    ],
)
def test_budgets_parse(text: str, amount: float, unit: str) -> None:
    assert parse(text) == Allowance(text=text.strip(), amount=amount, unit=unit)  # type: ignore[arg-type]  # parametrised


@pytest.mark.parametrize(
    "text",
    [
        "", "20", "m", "0m", "0runs", "0.5runs", "-5m", "nan m", "inf h", "1e999flops", "1e30s", "20 parsecs",
        "20m30s", "20mm", "1,5h", "٣m", "5e-3h", "20\nm", "m" * 5000, "1" * 5000 + "m", "\x1b[31m5",
    ],
)  # fmt: skip
def test_a_bad_budget_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert caught.value.slug == "bad-budget"
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@given(st.text(max_size=30) | st.from_regex(r"[0-9.e]{1,9} ?[a-z]{1,5}", fullmatch=True))
def test_any_text_is_a_budget_or_one_clear_line(text: str) -> None:
    said = ""
    try:
        found = parse(text)
    except ConfigError as error:
        said = str(error)
    if said:
        assert said.isprintable()
        assert "--budget=" in said
    else:
        assert 0 < found.amount < 1e36
