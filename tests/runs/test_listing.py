"""A listing says how long a running training still takes, and nothing where it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossgap.runs import listing as listings
from lossgap.runs.listing import listing

from .example import eval_row, iter_row, new_record


def listed(folder: Path, status: str, patch: pytest.MonkeyPatch, *rows: dict[str, object]) -> listings.RunSummary:
    record = new_record(folder / "a")
    for row in rows:
        record.append(row)
    patch.setattr(listings, "true_status", lambda *about: status)
    (found,) = listing(folder).runs
    return found


def test_the_time_left_is_at_the_pace_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [eval_row(0), iter_row(0, seconds=0.0), iter_row(500, seconds=60.0), eval_row(500)]
    assert listed(tmp_path, "running", monkeypatch, *rows).seconds_left == pytest.approx(180.0)  # 1,500 more of 2,000


@pytest.mark.parametrize(
    ("status", "rows"),
    [
        ("finished", [iter_row(500)]),
        ("running", []),
        ("running", [eval_row(0)]),
        ("running", [iter_row(0)]),
        ("running", [iter_row(5, seconds=None)]),
    ],
)
def test_no_time_left_where_none_is_known(
    status: str, rows: list[dict[str, object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert listed(tmp_path, status, monkeypatch, *rows).seconds_left is None


def test_the_listing_fits_a_screen_and_breaks_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        record = new_record(tmp_path / f"out-shakespeare-char-cpu-{number:02}")
        record.append(eval_row(0, 4.0 - number / 100))
    text = listing(tmp_path).text()
    lines = text.splitlines()
    assert len(lines) <= 24
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 80
    assert "The lowest val loss is 3.7100 at iteration 0, in out-shakespeare-char-cpu-29." in " ".join(text.split())
    assert all(
        line.split()[0].startswith("out-shakespeare-char-cpu-") for line in lines if "out-shakespeare" in line[:20]
    )
    assert "more; --full shows all" in text
    assert listing(tmp_path).text(full=True).count("out-shakespeare-char-cpu-") >= 30
    assert len(repr(listing(tmp_path))) < 250
