"""Real nanoGPT as the runner, unchanged: NANOGPT_DIR=path/to/nanoGPT pytest THIS_FILE."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import nanogpt_reference as reference
import pytest

from lossgap.attribution.arm import ArmFailed, ArmResult, Measurement
from lossgap.attribution.foreign import launcher
from lossgap.attribution.foreign.runner import Runner, run_foreign
from lossgap.config import TrainConfig
from lossgap.corpus import open_corpus
from lossgap.evaluation.splits import Evaluator
from lossgap.gpt import GPT, GPTConfig
from lossgap.training import checkpoint
from lossgap.training.numerics import resolve

COMMAND = f"{sys.executable} train.py config/train_shakespeare_char.py --device=cpu --compile=False {{overrides}}"
SETTINGS: dict[str, object] = {
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 24,
    "batch_size": 8,
    "gradient_accumulation_steps": 1,
    "dropout": 0.1,
    "learning_rate": 0.02,
    "min_lr": 0.002,
    "max_iters": 40,
    "lr_decay_iters": 40,
    "warmup_iters": 2,
    "dataset": "shakespeare_char",
}
MEASUREMENT = Measurement(context=12, evaluations=4, tokens=2048)
EVALUATION = ["--eval_interval=10", "--eval_iters=5", "--always_save_checkpoint=True"]


def hashes(folder: Path) -> dict[str, str]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


@pytest.fixture(scope="module")
def nanogpt() -> Iterator[Path]:
    if not os.environ.get("NANOGPT_DIR"):
        pytest.skip("NANOGPT_DIR is not set: it names a checkout of nanoGPT")
    folder = Path(os.environ["NANOGPT_DIR"]).resolve()
    before = hashes(folder)
    yield folder
    assert hashes(folder) == before, "nanoGPT's checkout was changed"


@pytest.fixture(scope="module")
def runner(nanogpt: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    base = tmp_path_factory.mktemp("live")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSGAP_CACHE", str(base / "cache"))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        yield Runner.parse(COMMAND, reader="nanogpt", folder=reference.workspace(nanogpt, base / "nanogpt"))


@pytest.fixture(scope="module")
def results(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ArmResult]:
    """Seed 0, seed 1, and seed 1 again, each where nothing is cached."""
    found = {}
    for name, seed in (("0", 0), ("1", 1), ("1 again", 1)):
        found[name] = run_foreign(runner.arm(SETTINGS, seed, MEASUREMENT), tmp_path_factory.mktemp("root"), threads=1)
    return found


def log(result: ArmResult) -> list[str]:
    return reference.loss_lines(Path(result.run).read_text())


def test_the_same_seed_repeats_to_the_digit_and_another_does_not(results: dict[str, ArmResult]) -> None:
    one, again, other = results["1"], results["1 again"], results["0"]
    assert log(one) == log(again)
    losses = [(item.val_loss, item.best_val_loss, item.own_val_loss, item.curve) for item in (one, again, other)]
    assert losses[0] == losses[1]
    assert all(mine != its for mine, its in zip(losses[0], losses[2], strict=True))
    assert f"torch.manual_seed(1337) ran as torch.manual_seed({1337 + launcher.STEP})" in one.note


def test_an_arm_is_nanogpts_own_run_evaluated_exactly(runner: Runner, results: dict[str, ArmResult]) -> None:
    """Seed 0 against nanoGPT alone: its log, and our evaluation of the ckpt.pt that it leaves."""
    flags = [f"--{name}={value}" for name, value in SETTINGS.items()]
    words = [*COMMAND.split()[1:-1], *flags, *EVALUATION, "--out_dir=alone"]
    alone = reference.run_program(words, runner.folder)
    result = results["0"]
    assert log(result) == reference.loss_lines(alone)
    assert [at for at, _ in result.curve] == [0, 10, 20, 30, 40]
    found = checkpoint.load(runner.folder / "alone" / "ckpt.pt")
    assert found.iter_num == 40
    model = GPT(GPTConfig(**found.model_args))  # type: ignore[arg-type]  # checked when it was loaded
    checkpoint.fill(model, found)
    numerics, _ = resolve(TrainConfig(device="cpu", dtype="float32", compile=False, attention="plain"), "cpu", 1, {})
    evaluator = Evaluator(open_corpus(str(runner.folder / "data" / "shakespeare_char")), numerics)
    for mine, context in ((result.val_loss, 12), (result.own_val_loss, 24)):
        assert mine == pytest.approx(evaluator.exact(model, 40, context).val_loss, abs=2e-6)
    assert result.exact
    assert result.standard_error == 0
    assert abs(result.val_loss - result.own_val_loss) > 1e-5, "the test would not see the contexts exchanged"


def test_both_states_are_exact_and_no_checkpoint_stays(results: dict[str, ArmResult]) -> None:
    for result in results.values():
        best = min(result.curve[1:], key=lambda point: point[1])
        assert result.best_iter == best[0]
        assert (result.best_iter == 40) == (result.best_val_loss == result.val_loss)
        assert not [path for path in Path(result.run).parent.rglob("*") if path.suffix == ".pt"]


def test_what_nanogpt_refuses_is_told(runner: Runner, tmp_path: Path) -> None:
    arm = runner.arm({**SETTINGS, "hidden": 3}, 1, MEASUREMENT, ends=({"hidden": 2}, {"hidden": 3}))
    with pytest.raises(ArmFailed, match="ValueError: Unknown config key: hidden"):
        run_foreign(arm, tmp_path, threads=1)


def test_a_diverging_arm_is_not_finite(runner: Runner, tmp_path: Path) -> None:
    arm = runner.arm({**SETTINGS, "learning_rate": 1e30, "grad_clip": 0.0, "warmup_iters": 0}, 1, MEASUREMENT)
    with pytest.raises(ArmFailed) as caught:
        run_foreign(arm, tmp_path, threads=1)
    assert caught.value.failure == "not-finite"
