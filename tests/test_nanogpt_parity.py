"""Equality with nanoGPT: against golden files always, against the real one where NANOGPT_DIR names its checkout.

    NANOGPT_DIR=path/to/nanoGPT pytest tests/test_nanogpt_parity.py

The golden files come from scripts/record_nanogpt_golden.py. On the machine and torch that recorded them logs are equal
to the digit; elsewhere other kernels round differently, and a loss after 60 updates may differ in its last digits.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import nanogpt_reference as reference
import pytest
import torch

from lossgap.api import sample
from lossgap.gpt import GPT, GPTConfig
from lossgap.machine.probe import cpu_name
from lossgap.training import checkpoint
from lossgap.training.draws import NanoGPTDraws

GOLDEN = Path(__file__).parent / "golden"
TINY_CHECKPOINT = GOLDEN / "nanogpt_tiny_ckpt.pt"
VARIANTS = [(recipe, bias) for recipe in reference.SHAPES for bias in (False, True)]
FIRST_LINES = 2
"""The first evaluation and the first loss: no update has amplified any rounding yet."""


def golden(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((GOLDEN / name).read_text(encoding="utf-8"))
    return content


def recorded_here(content: dict[str, Any]) -> bool:
    capability = torch.backends.cpu.get_cpu_capability()
    here = {"torch": torch.__version__, "cpu": cpu_name(), "capability": capability}
    return bool(content["machine"] == here)


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOSSGAP_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def nanogpt() -> Path:
    if not os.environ.get("NANOGPT_DIR"):
        pytest.skip("NANOGPT_DIR is not set: it names a checkout of nanoGPT")
    return Path(os.environ["NANOGPT_DIR"]).resolve()


@pytest.fixture(scope="module")
def workspace(nanogpt: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference.workspace(nanogpt, tmp_path_factory.mktemp("live") / "nanogpt")


def ours(command: str, flags: list[str], folder: Path) -> str:
    return reference.run_program(["-m", "lossgap", command, *flags], folder)


def with_preset(flags: list[str]) -> list[str]:
    """nanoGPT's flags with our preset in the place of its config file."""
    assert flags[0] == "config/train_shakespeare_char.py"
    return ["shakespeare_char", *flags[1:], "--rng=nanogpt", "--final_eval=False"]


# ---------------------------------------------------------------------------------------------
# The model


def assert_figures_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Within float32 rounding: 2e-5 of a value, or of the largest one for entries that nearly cancel."""
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)
    torch.testing.assert_close(torch.tensor(found["logits"]), torch.tensor(expected["logits"]), rtol=2e-5, atol=1e-5)
    assert found["gradients"].keys() == expected["gradients"].keys()
    for name, gradient in expected["gradients"].items():
        assert found["gradients"][name]["norm"] == pytest.approx(gradient["norm"], rel=2e-5), name
        slack = 2e-5 * max(abs(entry) for entry in gradient["entries"])
        assert found["gradients"][name]["entries"] == pytest.approx(gradient["entries"], rel=2e-5, abs=slack), name


@pytest.mark.parametrize(("recipe", "bias"), VARIANTS)
@pytest.mark.parametrize("kernel", ["plain", "fused"])
def test_loss_logits_and_gradients_are_nanogpts(recipe: str, bias: bool, kernel: str) -> None:
    shape = reference.SHAPES[recipe]
    model = reference.our_model(shape, bias)
    model.use_attention("plain" if kernel == "plain" else "fused")
    found = reference.figures(model, *reference.batch(shape, 2))
    assert_figures_equal(found, golden("nanogpt_model.json")["from_weights"][f"{recipe}, bias={bias}"])


@pytest.mark.parametrize(("recipe", "bias"), VARIANTS)
def test_initial_weights_are_nanogpts(recipe: str, bias: bool) -> None:
    model = NanoGPTDraws(reference.SEED).new_model(
        GPTConfig.from_model_args({**reference.SHAPES[recipe], "bias": bias})
    )
    found = reference.initial_weights(model)
    expected = golden("nanogpt_model.json")["initial"][f"{recipe}, bias={bias}"]
    assert found.keys() == expected.keys()
    for name, weights in expected.items():
        # torch's normal numbers differ in the last bits between CPU capabilities.
        assert found[name]["first"] == pytest.approx(weights["first"], rel=1e-5, abs=1e-8), name
        assert found[name]["mean_square"] == pytest.approx(weights["mean_square"], rel=1e-6), name


@pytest.mark.parametrize(("recipe", "bias"), VARIANTS)
def test_live_model_is_bit_equal(nanogpt: Path, recipe: str, bias: bool) -> None:
    shape = reference.SHAPES[recipe]
    model = reference.our_model(shape, bias)
    theirs = reference.their_model(nanogpt, {**shape, "bias": bias})
    assert list(theirs.state_dict()) == list(model.state_dict())
    theirs.load_state_dict(model.state_dict())
    x, y = reference.batch(shape, 2)
    logits, loss = model(x, y)
    their_logits, their_loss = theirs(x, y)
    assert loss is not None
    assert torch.equal(logits, their_logits)
    assert torch.equal(loss, their_loss)
    loss.backward()
    their_loss.backward()
    for (name, parameter), (its_name, its_parameter) in zip(
        model.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert name == its_name
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, its_parameter.grad), name


@pytest.mark.parametrize(("recipe", "bias"), VARIANTS)
def test_live_initial_weights_and_dropout_are_bit_equal(nanogpt: Path, recipe: str, bias: bool) -> None:
    shape = reference.SHAPES[recipe]
    x, y = reference.batch(shape, 2)
    model = NanoGPTDraws(reference.SEED).new_model(GPTConfig.from_model_args({**shape, "bias": bias}, dropout=0.2))
    model.use_attention("fused")
    loss = model(x, y)[1]
    assert loss is not None
    torch.manual_seed(reference.SEED)
    theirs = reference.their_model(nanogpt, {**shape, "bias": bias, "dropout": 0.2})
    for (name, mine), its in zip(model.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, its), name
    assert torch.equal(loss, theirs(x, y)[1])


# ---------------------------------------------------------------------------------------------
# Logs


def numbers(line: str) -> list[float]:
    return [float(word.rstrip(",")) for word in line.split() if word[0].isdigit() and "." in word]


def assert_log_equal(found: list[str], name: str) -> None:
    content = golden("nanogpt_logs.json")
    expected = content[name]
    if recorded_here(content):
        assert found == expected
    assert [line.split(":")[0] for line in found] == [line.split(":")[0] for line in expected]
    for index, (line, its_line) in enumerate(zip(found, expected, strict=True)):
        slack = 1.01e-4 if index < FIRST_LINES else 2e-3
        assert numbers(line) == pytest.approx(numbers(its_line), abs=slack), f"{line} (nanoGPT: {its_line})"


def test_log_of_the_readme_command(tmp_path: Path) -> None:
    flags = with_preset([*reference.README_FLAGS, *reference.SHORT_FLAGS])
    assert_log_equal(reference.loss_lines(ours("train", flags, tmp_path)), "readme")


def test_log_with_dropout_and_accumulation(tmp_path: Path) -> None:
    flags = with_preset([*reference.README_FLAGS, *reference.SHORT_FLAGS, *reference.DROPOUT_FLAGS])
    assert_log_equal(reference.loss_lines(ours("train", flags, tmp_path)), "dropout")


def test_log_of_a_run_resumed_from_nanogpts_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    shutil.copyfile(TINY_CHECKPOINT, tmp_path / "tiny" / "ckpt.pt")
    flags = with_preset([*reference.TINY_FLAGS, "--max_iters=40", "--out_dir=tiny", "--init_from=resume"])
    assert_log_equal(reference.loss_lines(ours("train", flags, tmp_path)), "resumed")


def test_live_log_of_the_readme_command_with_nanogpts_config_file(workspace: Path) -> None:
    flags = [*reference.README_FLAGS, *reference.SHORT_FLAGS, *reference.DROPOUT_FLAGS]
    expected = reference.run_program(["train.py", *flags, "--out_dir=theirs"], workspace)
    found = ours("train", [*flags, "--out_dir=ours", "--rng=nanogpt"], workspace)
    assert reference.loss_lines(found) == reference.loss_lines(expected)


# ---------------------------------------------------------------------------------------------
# Checkpoints


def test_nanogpts_checkpoint_loads_here() -> None:
    found = checkpoint.load(TINY_CHECKPOINT)
    assert found.iter_num == 20
    assert found.lossgap == {}
    model = GPT(GPTConfig.from_model_args({**reference.TINY, "bias": False}))
    checkpoint.fill(model, found)
    content = torch.load(TINY_CHECKPOINT, weights_only=True)
    assert {name: tensor.tolist() for name, tensor in model.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in content["model"].items()
    }


def test_live_each_resumes_the_others_checkpoint_with_one_log(workspace: Path) -> None:
    """Four ways to iteration 40: both first halves (theirs, ours) resumed by both trainers."""
    first = [*reference.TINY_FLAGS, "--max_iters=20"]
    reference.run_program(["train.py", *first, "--out_dir=first-theirs"], workspace)
    ours("train", [*first, "--out_dir=first-ours", "--rng=nanogpt", "--final_eval=False"], workspace)
    checkpoints = {
        "theirs": workspace / "first-theirs" / "ckpt.pt",
        "ours": workspace / "first-ours" / "ckpt-000020.pt",
    }
    logs = {}
    for writer, file in checkpoints.items():
        for reader in ("theirs", "ours"):
            folder = workspace / f"{writer}-{reader}"
            folder.mkdir()
            shutil.copyfile(file, folder / "ckpt.pt")
            flags = [*reference.TINY_FLAGS, "--max_iters=40", "--init_from=resume", f"--out_dir={folder.name}"]
            if reader == "theirs":
                output = reference.run_program(["train.py", *flags], workspace)
            else:
                output = ours("train", [*flags, "--rng=nanogpt", "--final_eval=False"], workspace)
            logs[writer, reader] = reference.loss_lines(output)
    expected = logs["theirs", "theirs"]
    assert expected[0].startswith("step 20:")
    assert expected[-1].startswith("iter 40:")
    assert logs["ours", "theirs"] == expected
    assert logs["theirs", "ours"] == expected
    # Our own checkpoint also holds the generator and the batch drawn ahead: we go on, where nanoGPT starts anew.
    whole = [*reference.TINY_FLAGS, "--max_iters=40", "--out_dir=whole"]
    uninterrupted = reference.loss_lines(reference.run_program(["train.py", *whole], workspace))
    iters = [line for line in uninterrupted if int(line.split()[1].rstrip(":")) >= 20 and line.startswith("iter")]
    assert [line for line in logs["ours", "ours"] if line.startswith("iter")] == iters


# ---------------------------------------------------------------------------------------------
# Samples


def test_samples_are_nanogpts() -> None:
    texts = golden("nanogpt_samples.json")["texts"]
    assert [len(text) for text in texts] == [301, 301, 301]
    [found] = sample(TINY_CHECKPOINT, num_samples=3, max_new_tokens=300, device="cpu")
    assert list(found.texts) == texts


def test_live_samples_are_nanogpts_to_the_byte(workspace: Path) -> None:
    (workspace / "to-sample").mkdir()
    shutil.copyfile(TINY_CHECKPOINT, workspace / "to-sample" / "ckpt.pt")
    for extra in (["--seed=7"], ["--start=FILE:prompt.txt", "--top_k=5", "--temperature=1.3"]):
        (workspace / "prompt.txt").write_text("First Citizen:\nBefore we proceed any further, hear me speak.\n")
        flags = [*reference.SAMPLE_FLAGS, *extra, "--out_dir=to-sample"]
        expected = reference.run_program(["sample.py", *flags], workspace)
        found = ours("sample", flags, workspace)
        assert expected.endswith(found)
        assert reference.texts(found) == reference.texts(expected)
        assert len(reference.texts(found)) == 3
