"""What a newcomer types first: each is answered in one line that says what to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from gallery import stored

from lossgap.cli.main import main
from lossgap.config import TrainConfig
from lossgap.errors import LossgapWarning
from lossgap.training.numerics import resolve, warn_slow


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "did you mean train?"),
        (["train", "--preset=shakespeare_char_cpu"], "a preset is given by its name alone"),
        (["train"], "lossgap train shakespeare_char_cpu"),
        (["compare", "--html"], "write --html=FILE"),
        (["resume"], "lossgap train shakespeare_char_cpu makes one"),
        (["train", "--init_from=resume", "--out_dir=out-nope"], "there is no run in out-nope to resume"),
        (["sample", "nope"], "train one first"),
    ],
)
def test_one_line_says_what_to_write(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


def test_a_sample_without_its_run_names_those_that_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stored.write(next(iter(stored.load().values())), Path("out-a"), "folder")
    assert main(["sample", "nope"]) == 1
    assert "runs here: out-a" in capsys.readouterr().err


def test_help_of_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "compare"]) == 0
    assert capsys.readouterr().out.startswith("usage: lossgap compare CONTROL TEST")


def test_float16_on_a_cpu_is_warned_of() -> None:
    config = TrainConfig.from_dict({"device": "cpu", "compile": False, "dtype": "float16"})
    with pytest.warns(LossgapWarning, match="float32 is the usual choice"):
        warn_slow(resolve(config, "cpu", 1, {})[0])
