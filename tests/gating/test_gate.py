"""The gate: its levels, its verdicts, its files, its command and its fixture."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from comparison.made import LAPTOP, run, table

from lossgap import schemas
from lossgap.cli.main import main
from lossgap.errors import ConfigError
from lossgap.gating.accepted import make_baseline, read_baseline
from lossgap.gating.boundary import LOOKS, boundary, p_values, spent
from lossgap.gating.judge import gate
from lossgap.report import gate_view
from lossgap.runs.run import EVAL_COLUMNS, ITER_COLUMNS, Run

SD = 0.001


def _runs(count: int, shift: float = 0.0, *, seed: int = 0, norm: float = 1.0, **config: object) -> list[Run]:
    """Runs whose curves are the same but for a level of their own."""
    chance = np.random.default_rng(seed)
    made = []
    for number in range(count):
        own = shift + float(chance.normal(0, SD))
        vals = {at: 3.0 + own + (1000 - at) / 1000 for at in range(0, 1001, 50)}
        rows = [
            {"iter": at, "loss": 3.0 + own, "grad_norm": norm * math.exp(float(chance.normal(0, 0.05)) + own)}
            for at in range(0, 1000, 10)
        ]
        made.append(run(vals, config=LAPTOP | {"seed": 100 * seed + number} | config, iters=table(ITER_COLUMNS, rows)))
    return made


# ---------------------------------------------------------------------------------------------
# Levels


@pytest.mark.parametrize("n", [4, 8])
def test_looking_after_every_run_makes_no_more_false_alarms_than_stated(n: int) -> None:
    chance = np.random.default_rng(5)
    old, new = chance.normal(0, 1, (20_000, n)), chance.normal(0, 1, (20_000, LOOKS))
    called = (p_values(old, new, 0.0) <= np.array(boundary(n, 0.02))).any(axis=1).mean()
    # Both this and the boundary are simulated: two standard errors of each.
    assert 0.016 <= called <= 0.023


def test_all_of_the_false_alarms_are_spent_in_the_end_and_most_of_them_early() -> None:
    assert spent(LOOKS, 0.02) == pytest.approx(0.02, rel=0.01)
    assert spent(4, 0.02) > 0.01
    assert all(spent(look, 0.02) < spent(look + 1, 0.02) for look in range(1, LOOKS))


def test_the_p_value_is_students() -> None:
    from scipy import stats

    chance = np.random.default_rng(1)
    old, new = chance.normal(0, 1, (3, 6)), chance.normal(0.5, 1, (3, 4))
    for row in range(3):
        oracle = stats.ttest_ind(new[row], old[row] + 0.2, alternative="greater").pvalue
        assert p_values(old, new, 0.2)[row, -1] == pytest.approx(oracle)


# ---------------------------------------------------------------------------------------------
# Verdicts


def test_a_planted_shift_fails_and_none_passes() -> None:
    baseline = make_baseline(_runs(8), margin=0.004)
    worse = gate(_runs(4, 0.005, seed=1), baseline)
    assert (worse.verdict, worse.exit_code) == ("fail", 2)
    assert "worse" in worse.reason
    same = gate(_runs(6, seed=2), baseline)
    assert (same.verdict, same.exit_code) == ("pass", 0)
    better = gate(_runs(6, -0.01, seed=3), baseline)
    assert better.verdict == "pass"


def test_two_runs_are_not_enough_and_it_says_how_many_are() -> None:
    found = gate(_runs(2, seed=4), make_baseline(_runs(4), margin=0.005))
    assert (found.verdict, found.exit_code) == ("needs more", 3)
    assert found.more is not None
    assert 1 <= found.more <= LOOKS
    assert str(found.more) in gate_view.advice(found)


def test_a_margin_below_what_any_number_of_runs_can_show() -> None:
    found = gate(_runs(3, seed=4), make_baseline(_runs(4)), margin=1e-6)
    assert found.verdict == "needs more"
    assert found.more is None
    assert "margin" in gate_view.advice(found)


def test_the_end_of_the_curve_counts_where_the_last_value_hides_it() -> None:
    """Only the last value was mended."""
    runs = _runs(4, 0.006, seed=1)
    hidden = []
    for made, good in zip(runs, _runs(4, seed=2), strict=True):
        values = made.evals["val_loss"].to_list()
        values[-1] = good.evals["val_loss"].to_list()[-1]
        rows = [row | {"val_loss": value} for row, value in zip(made.evals.to_dicts(), values, strict=True)]
        hidden.append(run({}, config=made.config, iters=made.iters, evals=table(EVAL_COLUMNS, rows)))
    found = gate(hidden, make_baseline(_runs(8)))
    assert found.verdict == "fail"
    assert found.reason.startswith("curve")


def test_a_change_of_the_gradient_norm_is_shown_and_fails_only_if_nothing_may_change() -> None:
    baseline = make_baseline(_runs(8), margin=0.004)
    runs = _runs(6, seed=2, norm=1.3)
    loose, strict = gate(runs, baseline), gate(runs, baseline, strict=True)
    row = next(item for item in loose.rows if item.name == "grad_norm")
    assert row.change == "changed"
    assert (loose.verdict, strict.verdict) == ("pass", "fail")
    assert gate(_runs(6, -0.01, seed=3), baseline, strict=True).verdict == "fail"


def test_a_loss_that_is_not_finite_fails() -> None:
    broken = run({0: 4.0, 500: 3.5, 1000: math.nan})
    found = gate([*_runs(2, seed=2), broken], make_baseline(_runs(4)))
    assert found.verdict == "fail"
    assert "not finite" in found.reason
    jsonschema.validate(gate_view.document(found), schemas.load("gate"))
    assert "not finite" in gate_view.text(found)


def test_runs_that_all_agree_decide_at_once() -> None:
    same = [run(dict.fromkeys(range(0, 1001, 100), 3.0)) for _ in range(4)]
    assert gate(same[:1], make_baseline(same, margin=0.001)).verdict == "pass"
    other = run(dict.fromkeys(range(0, 1001, 100), 3.1))
    assert gate([other], make_baseline(same, margin=0.001)).verdict == "fail"


def test_settings_of_the_change_are_noted() -> None:
    found = gate(_runs(3, seed=2, learning_rate=5e-4), make_baseline(_runs(4)))
    assert any("learning_rate" in note for note in found.notes)


# ---------------------------------------------------------------------------------------------
# Files


def test_a_baseline_is_readable_json_and_comes_back(tmp_path: Path) -> None:
    made = make_baseline(_runs(5), margin=0.004)
    path = tmp_path / "baseline.json"
    made.write(path)
    body = json.loads(path.read_text())
    jsonschema.validate(body, schemas.load("baseline"))
    assert read_baseline(path) == made
    assert {"last", "curve", "train", "grad_norm"} <= set(made.values)


def test_the_margin_is_four_standard_deviations_unless_stated() -> None:
    made = make_baseline(_runs(5))
    assert made.margin == pytest.approx(4 * made.sd)
    assert not made.margin_stated


def _refused(slug: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_baseline(path)
    assert error.value.slug == slug


def test_bad_baselines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 3"):
        make_baseline(_runs(2))
    with pytest.raises(ConfigError, match="margin"):
        make_baseline(_runs(4), margin=0.0)
    _refused("bad-baseline", "not JSON", tmp_path)
    _refused("bad-baseline", "{}", tmp_path)
    body = make_baseline(_runs(4)).document()
    _refused("bad-baseline", json.dumps(body | {"margin": -1}), tmp_path)
    _refused("bad-baseline", json.dumps(body | {"values": {"last": [1.0, 2.0, 3.0], "curve": [1.0]}}), tmp_path)
    _refused("baseline-too-small", json.dumps(body | {"values": {"last": [1.0, 2.0]}}), tmp_path)
    with pytest.raises(ConfigError) as error:
        read_baseline(tmp_path / "none.json")
    assert error.value.slug == "bad-baseline"


def test_documents_and_comments(tmp_path: Path) -> None:
    for runs in (_runs(4, 0.006, seed=1), _runs(6, seed=2), _runs(1, 0.002, seed=4)):
        found = gate(runs, make_baseline(_runs(8), margin=0.004))
        body = gate_view.document(found)
        jsonschema.validate(body, schemas.load("gate"))
        assert json.loads(json.dumps(body, allow_nan=False)) == body
        said = gate_view.markdown(found)
        assert "| last val loss (judged) |" in said
        assert gate_view.view(found).first


def test_a_name_cannot_break_the_comment() -> None:
    cell = gate_view._escaped("[x](http://e) <img src=x> @team | `\n")
    assert not set("[]<>|`@\n") & set(cell.replace("&#", "").replace(";", ""))


# ---------------------------------------------------------------------------------------------
# Command and fixture


def _logs(folder: Path, ends: Sequence[float]) -> None:
    folder.mkdir()
    for number, end in enumerate(ends):
        lines = [
            f"step {at}: train loss {end + 0.5:.4f}, val loss {end + (1000 - at) / 1e3:.4f}"
            for at in range(0, 1001, 100)
        ]
        (folder / f"{number}.log").write_text("\n".join(lines) + "\n")


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _logs(tmp_path / "main", [3.0, 3.001, 2.999, 3.0005, 2.9995])
    _logs(tmp_path / "same", [3.0002, 2.9998, 3.0004, 2.9999])
    _logs(tmp_path / "worse", [3.011, 3.012, 3.0105])
    file = str(tmp_path / "baseline.json")
    assert main(["baseline", str(tmp_path / "main"), "-o", file, "--margin=0.004"]) == 0
    assert main(["gate", str(tmp_path / "same"), f"--baseline={file}"]) == 0
    assert "PASS" in capsys.readouterr().out
    assert main(["gate", str(tmp_path / "worse"), f"--baseline={file}", "--md"]) == 2
    assert "FAIL" in capsys.readouterr().out
    assert main(["gate", str(tmp_path / "same" / "0.log"), f"--baseline={file}", "--json"]) in (0, 3)
    jsonschema.validate(json.loads(capsys.readouterr().out), schemas.load("gate"))
    assert main(["gate", f"--baseline={file}"]) == 1


def test_the_fixture_fails_skips_and_passes(tmp_path: Path, pytester: pytest.Pytester) -> None:
    _logs(tmp_path / "main", [3.0, 3.001, 2.999, 3.0005, 2.9995])
    _logs(tmp_path / "same", [3.0002, 2.9998, 3.0004, 2.9999])
    _logs(tmp_path / "worse", [3.011, 3.012, 3.0105])
    file = tmp_path / "baseline.json"
    assert main(["baseline", str(tmp_path / "main"), "-o", str(file), "--margin=0.004"]) == 0
    pytester.makepyfile(
        f"""
        def test_same(loss_gate):
            assert loss_gate({str(tmp_path / "same")!r}, baseline={str(file)!r}).verdict == "pass"

        def test_worse(loss_gate):
            loss_gate({str(tmp_path / "worse")!r}, baseline={str(file)!r})

        def test_undecided(loss_gate):
            loss_gate({str(tmp_path / "same" / "0.log")!r}, baseline={str(file)!r}, margin=1e-6)
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1, skipped=1)
