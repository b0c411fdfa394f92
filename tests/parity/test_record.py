"""What `lossgap record` takes, keeps and says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch

import lossgap
from lossgap import schemas
from lossgap.cli.main import main
from lossgap.errors import LossgapError
from lossgap.parity import record as module
from lossgap.parity.bundle import Bundle, document
from lossgap.parity.bundle_file import read_bundle
from lossgap.parity.evidence import Item, StepAllowance, gather
from lossgap.parity.reference import LOSS
from lossgap.parity.sketch import WIDTH
from lossgap.training.checkpoint import load

from .small import SETTINGS, rows, train

FLAGS = [f"--{name}={value}" for name, value in {**SETTINGS, "n_layer": 1, "n_embd": 16}.items()]


@pytest.fixture(autouse=True)
def without_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are not about the evidence, which takes seconds."""
    item = Item(key=LOSS, sketch=np.zeros(WIDTH), exact=1e-12, allowances={"float32": StepAllowance(0.0, 1e-7)})
    monkeypatch.setattr(module, "gather", lambda *given: [item])
    # On a busy machine the price of seconds of work is worth a line, which is not what these tests count.
    monkeypatch.setattr(module, "WORTH_SAYING", float("inf"))


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*argv: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["record", *argv])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def small(*flags: str, out: str = "bundle") -> Bundle:
    assert main(["record", *FLAGS, "--iters=4", "-o", out, *flags]) == 0
    return read_bundle(Path(out))


def refused(command: Command, slug: str, *argv: str) -> str:
    code, _, err = command(*argv)
    lines = err.strip().splitlines()
    assert code == 1
    assert len(lines) == 1, err
    assert lines[0].endswith(f"[{slug}]"), lines
    return lines[0]


def test_a_config(command: Command) -> None:
    code, out, err = command(*FLAGS, "--iters", "5", "-o", "bundle", "--learning_rate=0.02")
    assert (code, err) == (0, "")
    assert "contains text of the corpus text.txt" in " ".join(out.split())
    assert "MB" in out
    assert "0 to 4; loss " in out
    assert "before 0, 4, in full" in out
    bundle = read_bundle(Path("bundle"))
    assert bundle.config.learning_rate == 0.02
    assert (bundle.first, bundle.iterations, bundle.start.step) == (0, 5, 0)
    assert bundle.corpus["name"] == "text.txt"
    assert bundle.environment["torch"] == torch.__version__
    assert bundle.numerics["dtype"] == "float32"


def test_it_is_the_training(here: Path) -> None:
    run = train("run", n_layer=1, n_embd=16, dtype="bfloat16", dropout=0.2)
    bundle = small("--dtype=bfloat16", "--dropout=0.2")
    recorded = rows(run, "iter")
    assert list(bundle.losses) == [row["loss"] for row in recorded[:4]]
    assert list(bundle.grad_norms) == [row["grad_norm"] for row in recorded[:4]]
    first = rows(run, "eval")[0]
    assert bundle.evaluations[:2] == ((0, "train", first["train_loss"]), (0, "val", first["val_loss"]))
    assert [iteration for iteration, _, _ in bundle.evaluations] == [0, 0, 3, 3, 4, 4]


def test_a_run_folder_stands_for_its_config() -> None:
    run = train("run", n_layer=1, n_embd=16, learning_rate=0.005)
    assert main(["record", "run", "--iters=3", "-o", "bundle"]) == 0
    bundle = read_bundle(Path("bundle"))
    assert bundle.config.learning_rate == 0.005
    assert list(bundle.losses) == [row["loss"] for row in rows(run, "iter")[:3]]
    (run / "run.json").unlink()
    assert main(["record", "run", "--iters=3", "-o", "again"]) == 0
    assert read_bundle(Path("again")).losses == bundle.losses


@pytest.mark.parametrize("how", [["run/ckpt-000004.pt"], ["run", "--from", "run/ckpt-000004.pt"],
                                 [*FLAGS, "--from=run/ckpt-000004.pt"]], ids=["file", "run", "config"])  # fmt: skip
def test_from_a_checkpoint(how: list[str]) -> None:
    run = train("run", n_layer=1, n_embd=16, checkpoint_at=(4,), dropout=0.1)
    flags = ["--dropout=0.1"] if len(how) > 2 else []
    assert main(["record", *how, *flags, "--iters=3", "-o", "bundle"]) == 0
    bundle = read_bundle(Path("bundle"))
    assert (bundle.first, bundle.start.iteration, bundle.start.step) == (4, 4, 4)
    assert list(bundle.losses) == [row["loss"] for row in rows(run, "iter")[4:7]]
    state = load(run / "ckpt-000004.pt").model
    assert all(torch.equal(state[name], weight) for name, weight in bundle.start.weights.items())
    assert bundle.points[0].gradients is not None


def test_from_a_run_folder_is_from_its_newest_checkpoint() -> None:
    train("run", n_layer=1, n_embd=16)
    assert main(["record", "run", "--from=run", "--iters=2", "-o", "bundle"]) == 0
    assert read_bundle(Path("bundle")).first == 10


def test_a_run_of_nanogpts_generator() -> None:
    run = train("run", n_layer=1, n_embd=16, rng="nanogpt", dtype="float32", eval_interval=2)
    state = torch.get_rng_state()
    bundle = small("--rng=nanogpt", "--dtype=float32", "--eval_interval=2")
    assert torch.equal(torch.get_rng_state(), state)
    assert list(bundle.losses) == [row["loss"] for row in rows(run, "iter")[:4]]


def test_states_between(here: Path) -> None:
    assert [point.iteration for point in small("--iters=9", "--checkpoints=3").points] == [0, 4, 8]
    assert [point.iteration for point in small("--iters=2", "--checkpoints=9", "--overwrite").points] == [0, 1]
    assert [point.iteration for point in small("--checkpoints=1", "--overwrite").points] == [0]


def test_json(command: Command) -> None:
    code, out, err = command(*FLAGS, "--iters=2", "--out=bundle", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    jsonschema.validate(found, schemas.load("record"))
    assert found["bytes"] == Path("bundle").stat().st_size
    assert found["checkpoints"] == [0, 1]
    assert found["corpus_tokens"] == read_bundle(Path("bundle")).tokens
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**found, "bytes": -1}, schemas.load("record"))


def test_the_price_is_told_beforehand(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORTH_SAYING", 0.0)
    _, _, err = command(*FLAGS, "--iters=2", "-o", "bundle")
    assert err.startswith("lossgap: recording 2 iterations and the evidence of 2 checkpoints takes about ")
    assert err.count("\n") == 1


def test_help(command: Command) -> None:
    for argv in ([], ["--help"]):
        code, out, _ = command(*argv)
        assert code == 0
        assert out.startswith("usage: lossgap record")


def test_refusals(command: Command, here: Path) -> None:
    refused(command, "record-device-masks", *FLAGS, "--dropout=0.1", "--dropout_rng=device")
    refused(command, "record-device-masks", *FLAGS, "--dropout=0.1", "--rng=nanogpt", "--dtype=float32")
    refused(command, "record-needs-checkpoint", *FLAGS, "--init_from=gpt2")
    refused(command, "bad-setting", *FLAGS, "--iters=0")
    refused(command, "bad-setting", *FLAGS, "--checkpoints=-1")
    refused(command, "missing-value", *FLAGS, "--from")
    refused(command, "missing-value", *FLAGS, "-o")
    refused(command, "unknown-flag", *FLAGS, "--iterz=3")
    refused(command, "unknown-flag", *FLAGS, "--start=x")
    refused(command, "no-such-config", "nothing.pt")
    refused(command, "no-checkpoint", *FLAGS, "--from=nothing.pt")
    refused(command, "unknown-corpus", *FLAGS, "--dataset=nothing")
    (here / "empty").mkdir()
    refused(command, "no-checkpoint", "empty")
    refused(command, "too-many-arguments", "empty", "empty")
    assert not (here / "bundle.lossgap").exists()


def test_a_diverging_stretch(command: Command) -> None:
    line = refused(command, "record-not-finite", *FLAGS, "--learning_rate=1e30", "--grad_clip=0.0", "--iters=9")
    assert "iteration" in line


def test_nothing_is_written_over_before_the_work(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("bundle").write_text("mine")
    monkeypatch.setattr(module, "open_corpus", lambda *given: pytest.fail("the work has begun"))
    refused(command, "bundle-exists", *FLAGS, "-o", "bundle")


def test_what_is_no_bundle_is_never_written_over(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.py").write_text("n_layer = 1\n")
    Path("folder").mkdir()
    Path("empty").touch()
    monkeypatch.setattr(module, "open_corpus", lambda *given: pytest.fail("the work has begun"))
    line = refused(command, "bundle-exists", *FLAGS, "-o", "config.py", "--overwrite")
    assert "not a bundle" in line
    assert "--overwrite" not in line
    assert "folder" in refused(command, "bundle-exists", *FLAGS, "-o", "folder", "--overwrite")
    assert Path("config.py").read_text() == "n_layer = 1\n"
    with pytest.raises(pytest.fail.Exception):
        command(*FLAGS, "-o", "empty", "--overwrite")


def test_where_nothing_can_be_written_nothing_is_done(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "open_corpus", lambda *given: pytest.fail("the work has begun"))
    refused(command, "bundle-unwritable", *FLAGS, "-o", "missing/bundle")
    refused(command, "bundle-unwritable", *FLAGS, "-o", "/proc/bundle")


def test_the_python_call() -> None:
    settings = {**SETTINGS, "n_layer": 1, "n_embd": 16}
    recorded = lossgap.record(iters=2, out="bundle", **settings)  # type: ignore[arg-type]  # settings by name
    assert recorded.path == Path("bundle")
    assert document(read_bundle(recorded.path)) == document(recorded.bundle)
    with pytest.raises(LossgapError):
        lossgap.record(iters=2, out="bundle", **settings)  # type: ignore[arg-type]


def test_an_unwritten_bundle_leaves_nothing(command: Command, here: Path) -> None:
    refused(command, "bundle-unwritable", *FLAGS, "--iters=1", "-o", "missing/bundle")
    assert sorted(path.name for path in here.iterdir()) == ["data", "text.txt"]


def test_the_laptop_recipe_fits() -> None:
    """50 iterations of the laptop recipe, by default: weights, moments, gradients, tokens, and room for evidence."""
    recorded = lossgap.record("shakespeare_char_cpu", out="bundle")
    assert recorded.bundle.iterations == 50
    assert recorded.bytes < 24_000_000, recorded.bytes


@pytest.mark.slow
def test_the_laptop_recipe_fits_with_its_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "gather", gather)
    recorded = lossgap.record("shakespeare_char_cpu", out="bundle")
    assert recorded.bytes < 25_000_000, recorded.bytes
