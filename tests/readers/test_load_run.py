"""`load_run`: everything that names a run, and what the user adds to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from runs.example import eval_row, iter_row, new_record

from lossgap.errors import ConfigError, LossgapError, LossgapWarning
from lossgap.runs.readers.base import SourceError
from lossgap.runs.readers.source import load_run, load_runs

GOLDEN = Path(__file__).parents[1] / "golden" / "nanogpt_tiny_ckpt.pt"
LOG = (
    "Overriding: batch_size = 4\nOverriding: block_size = 16\ntokens per iteration will be: 128\n"
    "step 0: train loss 4.1000, val loss 4.2000\niter 0: loss 4.3000, time 30.50ms, mfu 1.50%\n"
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "train.log"
    path.write_text(LOG)
    return path


def slug(call: object, *args: object, **kwargs: object) -> str:
    assert callable(call)
    with pytest.raises(LossgapError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return caught.value.slug


def test_log_and_its_numbers(log: Path) -> None:
    assert load_run(log).evals["val_loss"].to_list() == [4.2]
    log.write_text(LOG + LOG.replace("4.2000", "4.9000"))
    assert load_run(f"{log}#2").evals["val_loss"].to_list() == [4.9]
    with pytest.warns(LossgapWarning, match="holds 2 runs .*taking #1"):
        assert load_run(log).evals["val_loss"].to_list() == [4.2]
    assert [run.number for run in load_runs(log)] == [1, 2]
    assert [run.number for run in load_runs(f"{log}#2")] == [2]
    assert slug(load_run, f"{log}#3") == "no-such-number"


def test_a_name_with_a_hash_is_a_name_first(tmp_path: Path) -> None:
    (tmp_path / "run#2").write_text(LOG)
    assert load_run(tmp_path / "run#2").number == 1


def test_run_folder(tmp_path: Path) -> None:
    with new_record(tmp_path / "out") as record:
        record.append(eval_row(0, 4.2))
        record.append(iter_row(0))
    run = load_run(tmp_path / "out")
    assert run.format == "lossgap"
    assert run.evals.select("val_loss", "line").rows() == [(4.2, 1)]
    assert run.series["evals.val_loss"].kind == "eval-mean"
    assert run.iters["line"].to_list() == [2]


def test_preset_and_config_file(tmp_path: Path) -> None:
    assert load_run("shakespeare_char").tokens_per_iter == 16_384
    path = tmp_path / "config.py"
    path.write_text("batch_size = 3\nblock_size = 2 * 8\ngradient_accumulation_steps = 1\n")
    run = load_run(path)
    assert (run.format, run.config["block_size"], run.tokens_per_iter) == ("config", 16, 48)
    assert run.config_sources["block_size"].endswith("line 2")


def test_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    data = GOLDEN.read_bytes()
    (tmp_path / "ckpt.pt").write_bytes(data)
    for spec in (tmp_path / "ckpt.pt", tmp_path):
        run = load_run(spec)
        assert run.format == "checkpoint"
        assert (run.config["batch_size"], run.config["n_layer"], run.corpus["vocab_size"]) == (12, 2, 65)
        ((metric, at, value, line),) = run.others.rows()
        assert (metric, at, line) == ("best_val_loss", 20, None)
        assert value == pytest.approx(4.1475, abs=1e-4)
        assert run.tokens_per_iter == 384
    (tmp_path / "torn.pt").write_bytes(data[:50_000])
    assert slug(load_run, tmp_path / "torn.pt") == "bad-checkpoint"


def test_standard_input() -> None:
    code = (
        "from lossgap.runs.readers.source import load_run; r = load_run('-'); "
        "print(r.evals['val_loss'][0], r.tokens_per_iter)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=LOG, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["4.2", "128"]


def test_nothing_here_imports_torch(log: Path) -> None:
    code = (
        "import sys; from lossgap.runs.readers.source import load_run; import lossgap.cli.read; "
        f"load_run({str(log)!r}); load_run('shakespeare_char'); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text(LOG)
    (tmp_path / "prose.txt").write_text("nothing of the kind\n")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(SourceError, match=r"did you mean train\.log"):
        load_run(tmp_path / "trian.log")
    with pytest.raises(SourceError, match="did you mean shakespeare_char"):
        load_run("shakespear_char")
    for name in ("prose.txt", "empty", ""):
        assert slug(load_run, tmp_path / name) == "format-not-recognised"
    assert slug(load_run, "x" * 5000) == "no-such-run"
    assert slug(load_run, "a\0b") == "no-such-run"
    assert slug(load_run, "") == "no-such-run"
    assert slug(load_run, tmp_path / "train.log", format="nanogtp") == "unknown-format"
    assert slug(load_run, tmp_path / "prose.txt", format="nanogpt") == "no-rows"
    assert slug(load_run, tmp_path, format="nanogpt") == "not-this-format"


def test_given_settings_fill_and_win(log: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.py"
    config.write_text("batch_size = 99\nn_layer = 5\n")
    run = load_run(log, config=config, set=["dropout=0.1"], device="RTX 4070 Ti")
    assert (run.config["batch_size"], run.config["n_layer"], run.config["dropout"]) == (4, 5, 0.1)
    assert (run.config_sources["dropout"], run.device) == ("--set", "RTX 4070 Ti")
    assert run.config_sources["n_layer"].endswith("c.py line 2")
    with pytest.warns(LossgapWarning, match="the given value is taken"):
        assert load_run(log, set={"batch_size": 8}).config["batch_size"] == 8
    assert load_run(log, config="shakespeare_char_cpu").config["n_embd"] == 128
    assert slug(load_run, log, set=["batch_sze=1"]) == "unknown-setting"
    assert slug(load_run, log, set=["batch_size=x"]) == "wrong-type"
    assert slug(load_run, log, set=["batch_size"]) == "missing-value"


def test_what_follows_is_inferred_not_said(log: Path) -> None:
    run = load_run(log)
    assert run.setting("gradient_accumulation_steps") == 2
    assert "gradient_accumulation_steps" not in run.config
    # 4 x 16 x 40 is not 128, so a config file must be missing from the log, and no default may be assumed.
    assert run.setting("n_layer") is None


def test_defaults_only_where_a_size_bears_them_out(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(LOG.replace("128", "2,560"))
    run = load_run(path)
    assert (run.setting("n_layer"), run.setting("dropout"), run.setting("learning_rate")) == (12, 0.0, 6e-4)
    assert run.setting("dtype") is None
    path.write_text(LOG.replace("128", "2,560\nnumber of parameters: 0.80M"))
    assert load_run(path).setting("n_layer") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[run]\nval_loss = 1.7\n", "each row needs one"),
        ("[run]\niteration = 5\nval_loss = 'x'\n", "write a number"),
        ("[run]\niteration = 5\nval_los = 1.7\n", "did you mean val_loss"),
        ("[run]\niteration = 5.5\nval_loss = 1.7\n", "an int"),
        ("[run]\niteration = 5\nmfu = 250\n", "between 0 and 100"),
        ("[run]\niteration = 5\nval_loss = inf\n", "between 0"),
        ("[run]\nname = 5\n", "write a text"),
        ("[run]\niteration = 5\nval_loss = 1.0\n[[evals]]\niteration = 5\nval_loss = 2.0\n", "twice"),
        ("[run]\n[evals]\niteration = 5\n", "must be written as"),
        ("[run]\niteration = \n", "not TOML"),
    ],
)
def test_figures_are_checked(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "f.toml"
    path.write_text(text)
    with pytest.raises(SourceError, match=problem) as caught:
        load_run(path)
    assert "\n" not in str(caught.value)


def test_figures_know_their_rounding(tmp_path: Path) -> None:
    path = tmp_path / "f.toml"
    path.write_text(
        "[run]\niteration = 5\nval_loss = 1.70\ntrain_loss = 0.625\n[[evals]]\niteration = 3\ntrain_loss = 0.6\n"
    )
    run = load_run(path)
    assert (run.series["evals.val_loss"].digits, run.series["evals.train_loss"].digits) == (2, 1)


def test_bad_given_config(log: Path) -> None:
    with pytest.raises(ConfigError):
        load_run(log, config="no_such_preset")
