"""`lossgap read`: what it prints for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lossgap import schemas
from lossgap.cli import read
from lossgap.cli.runs_named import columns
from lossgap.errors import ConfigError

from . import test_contract
from .contract import ReaderContract

SAMPLES = [item for item in vars(test_contract).values() if isinstance(item, type) and issubclass(item, ReaderContract)]


def document(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert read.main([*argv, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out, parse_constant=lambda name: pytest.fail(name))
    jsonschema.validate(found, schemas.load("read"))
    return found


@pytest.mark.parametrize("sample", [item for item in SAMPLES if item is not ReaderContract])
def test_every_format(sample: type[ReaderContract], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / sample.file_name
    path.write_bytes(sample.sample if isinstance(sample.sample, bytes) else sample.sample.encode())
    found = document(capsys, str(path))
    assert found["format"] == sample.reader
    metrics = found["runs"][0]["metrics"]
    losses = [row for row in sample.expected if row[1] is not None]
    if losses:
        best = min(losses, key=lambda row: row[1] or 0.0)
        assert metrics["iters.loss"]["count"] == len(losses)
        assert metrics["iters.loss"]["first"] == {"iter": losses[0][0], "line": losses[0][2], "value": losses[0][1]}
        assert metrics["iters.loss"]["best"]["value"] == best[1]
    assert read.main([str(path)]) == 0
    shown = capsys.readouterr().out
    assert sample.reader in shown
    assert "lines not understood" in shown


def test_settings_and_presets(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "shakespeare_char", "--set=dropout=0.2", "--device=RTX")
    assert found["format"] == "preset"
    assert found["runs"][0]["device"] == "RTX"
    assert found["runs"][0]["metrics"] == {}


def test_lines_that_mean_nothing_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.log"
    path.write_text(
        "iter 0: loss 4.0000, time 1.00ms, mfu 1.00%\nwhat is this\niter 1: loss nan, time 1.00ms, mfu 1.00%\n"
    )
    (run,) = document(capsys, str(path))["runs"]
    assert run["not_understood"] == {"count": 1, "lines": [2]}
    assert read.main([str(path)]) == 0
    shown = capsys.readouterr().out
    assert "1 lines not understood (line 2)" in shown
    assert "1 values not finite" in shown


def test_hostile_names_are_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.log"
    path.write_text("Overriding: evil = [red]\x07\u2028\x9b31m\niter 0: loss 4.0000\n")
    document(capsys, str(path))
    assert read.main([str(path), "--full"]) == 0
    shown = capsys.readouterr().out
    assert "[red]" in shown
    assert "\x07" not in shown
    assert "\x9b" not in shown


def test_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert read.main(["--help"]) == 0
    assert "usage: lossgap read RUN" in capsys.readouterr().out
    for argv, slug in (
        ([], "too-many-arguments"),
        (["a", "b"], "too-many-arguments"),
        (["a", "--columns=x"], "bad-columns"),
        (["a", "--max_iter_rows=5"], "bad-setting"),
    ):
        with pytest.raises(ConfigError) as caught:
            read.main(argv)
        assert caught.value.slug == slug
    assert columns("iter:step, val_loss:eval/loss") == {"iter": "step", "val_loss": "eval/loss"}


def test_no_number_is_cut_off_to_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.log"
    tail = "time 119975.84ms, mfu 15.34%\n"
    path.write_text(f"iter 123456789: loss 10.9774, {tail}iter 223456789: loss 3.8853, {tail}")
    assert read.main([str(path)]) == 0
    brief = capsys.readouterr().out
    assert "3.8853 @223456789" in brief
    assert len(brief.splitlines()) <= 24
    assert read.main([str(path), "--full"]) == 0
    shown = capsys.readouterr().out
    assert "119975.84 @223456789" in shown
    assert "3.8853 @223456789" in shown
