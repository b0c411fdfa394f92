"""The script that measures the spread of a recipe, on a recipe of a few seconds."""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lossgap.comparison.spread import read_table
from lossgap.errors import LossgapError
from lossgap.runs.run import read_run

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_spread.py"
TINY = ["--n_layer=1", "--n_head=1", "--n_embd=8", "--block_size=64", "--batch_size=2", "--max_iters=4"]
QUICK = [*TINY, "--lr_decay_iters=4", "--warmup_iters=1", "--eval_interval=2", "--eval_iters=3", "--threads=1"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_spread", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "measure_spread", module)
    spec.loader.exec_module(module)
    return module


def test_two_seeds_make_an_entry_and_a_second_call_trains_nothing(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "spreads.json"
    bound = {"value": 0.05, "reason": "a test"}
    old = {"id": "kept", "format": "x", "sd": 0.1, "df": 3, "source": "a test"}
    table.write_text(json.dumps({"spreads": [old], "windows": [], "seed_bound": bound, "evaluation_bound": bound}))
    monkeypatch.setattr(script, "TABLE", table)
    arguments = ["shakespeare_char_cpu", "--seeds=2", f"--runs={tmp_path / 'runs'}", "--id=tiny", *QUICK]
    assert script.main(arguments) == 0
    first = read_table(json.loads(table.read_text()))
    assert [item.id for item in first.spreads] == ["kept", "tiny"]
    runs = [read_run(tmp_path / "runs" / f"seed-{seed}") for seed in (1, 2)]
    finals = [float(run.evals.filter(run.evals["kind"] == "final")["val_loss"][-1]) for run in runs]
    assert first.spreads[1].sd == pytest.approx(statistics.stdev(finals), abs=1e-6)
    assert first.spreads[1].df == 1
    assert first.spreads[1].recipe["batch"] == 2
    assert [item.context for item in first.windows] == [64]
    trained = [run.created for run in runs]
    assert script.main(arguments) == 0
    assert [item.id for item in read_table(json.loads(table.read_text())).spreads] == ["kept", "tiny"]
    assert [read_run(tmp_path / "runs" / f"seed-{seed}").created for seed in (1, 2)] == trained
    assert "seed 1: done" in capsys.readouterr().err


def test_a_failed_training_is_told(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(LossgapError) as error:
        script.main(["no-such-preset", "--seeds=2", f"--runs={tmp_path}", "--dry=True"])
    assert error.value.slug == "spread-training-failed"


def test_one_seed_has_no_spread(script: ModuleType) -> None:
    with pytest.raises(LossgapError, match="2 seeds"):
        script.main(["shakespeare_char_cpu", "--seeds=1"])
