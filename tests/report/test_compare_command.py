"""`lossgap compare` from the command line, with logs on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from lossgap import schemas
from lossgap.arguments import build, parse_arguments
from lossgap.cli.compare import main
from lossgap.cli.runs_named import said
from lossgap.errors import LossgapError
from lossgap.options import CompareFlags
from lossgap.settings import settings_of

HEADING = """Overriding: device = cpu
Overriding: compile = False
Overriding: eval_iters = 20
Overriding: block_size = 64
Overriding: batch_size = 12
Overriding: n_layer = 4
Overriding: n_head = 4
Overriding: n_embd = 128
Overriding: dropout = 0.0
Overriding: gradient_accumulation_steps = 1
Overriding: dataset = shakespeare_char
Overriding: max_iters = 1000
Overriding: lr_decay_iters = 1000
tokens per iteration will be: 768
number of parameters: 0.80M
"""


def _log(path: Path, end: float, heading: str = HEADING) -> str:
    rows = []
    for at in range(0, 1001, 250):
        loss = end + (4.17 - end) * (1 - at / 1000) ** 3
        rows.append(f"step {at}: train loss {loss - 0.05:.4f}, val loss {loss:.4f}")
        rows.append(f"iter {at}: loss {loss:.4f}, time 37.50ms, mfu 0.03%")
    path.write_text(heading + "\n".join(rows) + "\n")
    return str(path)


@pytest.fixture
def logs(tmp_path: Path) -> list[str]:
    return [_log(tmp_path / f"{name}.log", end) for name, end in (("a", 1.9), ("b", 2.4), ("c", 1.9))]


def test_text_and_document(logs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(logs[:2]) == 0
    answer = capsys.readouterr().out
    assert answer.startswith("a ends 0.50 lower than b, beyond chance")
    assert "+0.5000 nats/token" in answer
    assert len(answer.splitlines()) <= 24
    assert main([*logs[:2], "--full"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 24
    assert main([*logs[:2], "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    jsonschema.validate(body, schemas.load("comparison"))
    assert body["gap"]["last"] == pytest.approx(0.5)
    assert body["control"]["config"]["batch_size"] == 12


def test_exit_codes(logs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*logs[:2], "--max-gap=0.1"]) == 2
    assert main([logs[1], logs[0], "--max_gap", "0.1"]) == 0
    assert main([logs[0], logs[2], "--max-gap=0.1"]) == 0
    assert main([*logs, "--json", "--max-gap=0.1"]) == 2
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["comparisons"]) == 2


def test_what_the_user_says_of_one_run(logs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare = _log(tmp_path / "bare.log", 2.4, heading="")
    config = tmp_path / "config.py"
    config.write_text("n_layer = 4\nbatch_size = 12\n")
    said = ["--config", f"test={config}", "--set", "test.block_size=128", "--set=test.dropout=0.1"]
    assert main([logs[0], bare, *said, "--device", "test=RTX 4070 Ti", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    jsonschema.validate(body, schemas.load("comparison"))
    assert body["test"]["config"] == {"n_layer": 4, "batch_size": 12, "block_size": 128, "dropout": 0.1}
    assert body["test"]["device"] == "RTX 4070 Ti"
    assert body["control"]["config"]["block_size"] == 64
    differ = {item["name"]: (item["control"], item["test"]) for item in body["settings"]["differ"]}
    assert differ == {"block_size": (64, 128), "dropout": (0.0, 0.1)}


def test_columns_of_a_table_are_those_of_its_run(
    logs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "made.csv"
    path.write_text("n,quality\n0,4.17\n500,2.2\n1000,1.8\n")
    said = ["--columns", "test=iter:n,val_loss:quality", "--format", "test=csv"]
    assert main([logs[0], str(path), *said, "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["test"]["last"]["val_loss"] == 1.8


def test_flags_of_a_run() -> None:
    words = ["a", "--set", "control.x=1", "--set=control.y=a=b", "--format=nanogpt", "--format", "test=jsonl", "b"]
    given = parse_arguments([*words, "--columns", "test=iter:step,val_loss:v", "--json"], CompareFlags)
    about = said(build(CompareFlags, given))
    assert given.positionals == ("a", "b")
    assert about["control"].set == ["x=1", "y=a=b"]
    assert (about[""].format, about["test"].format) == ("nanogpt", "jsonl")
    assert about["test"].columns == {"iter": "step", "val_loss": "v"}
    assert parse_arguments(["a", "--", "--set"], CompareFlags).positionals == ("a", "--set")


@pytest.mark.parametrize(
    ("arguments", "slug"),
    [
        ([], "too-few-runs"),
        (["a"], "too-few-runs"),
        (["-", "-"], "stdin-twice"),
        (["a", "b", "--set", "block_size=64"], "bad-run-flag"),
        (["a", "b", "--set", "control.block_size"], "bad-run-flag"),
        (["a", "b", "--device", "RTX"], "bad-run-flag"),
        (["a", "b", "--device", "test="], "bad-run-flag"),
        (["a", "b", "--config"], "missing-value"),
        (["a", "b", "--device", "tset=RTX"], "no-such-label"),
        (["a", "b", "--device", "test2=RTX"], "no-such-label"),
        (["a", "b", "--margin=-1"], "no-such-run"),
        (["a", "b", "--tolerance=1"], "unknown-flag"),
    ],
)
def test_mistakes(arguments: list[str], slug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LossgapError) as error:
        main(arguments)
    assert error.value.slug == slug
    assert "\n" not in str(error.value)


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"--{item.flag}" in shown for item in settings_of(CompareFlags).values())


def test_torch_is_never_loaded(logs: list[str]) -> None:
    code = "import sys; from lossgap.cli.compare import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *logs[:2]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verdict" in done.stdout
