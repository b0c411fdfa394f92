"""Records tests/golden from the real nanoGPT, so that `make test` compares with it where it is not there.

    NANOGPT_DIR=path/to/nanoGPT python scripts/record_nanogpt_golden.py

nanoGPT's files are run, never changed or copied. Recording anew is right when a golden file gains something, or torch
changed what nanoGPT computes; never because lossgap and a golden file differ.

    nanogpt_model.json     loss, logits, gradients from the same weights and batch; initial weights at seed 1337
    nanogpt_logs.json      `step` and `iter` lines of the README command, with dropout and accumulation, and of a resume
    nanogpt_samples.json   texts of sample.py from the checkpoint below, across the end of its context
    nanogpt_tiny_ckpt.pt   a checkpoint of nanoGPT's train.py at iteration 20
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import nanogpt_reference as reference  # noqa: E402  # found through the line above

from lossgap.machine.probe import cpu_name  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"


def main() -> None:
    """Record every golden file."""
    nanogpt = Path(os.environ["NANOGPT_DIR"]).resolve()
    torch.set_num_threads(1)
    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nanogpt-golden-") as temporary:
        folder = reference.workspace(nanogpt, Path(temporary) / "nanogpt")
        write("nanogpt_model.json", model_figures(nanogpt))
        write("nanogpt_logs.json", logs(folder, nanogpt))
        write("nanogpt_samples.json", samples(folder))
    for path in sorted(GOLDEN.iterdir()):
        print(f"{path.stat().st_size:8,} bytes  {path.relative_to(ROOT)}")


def machine() -> dict[str, str | None]:
    """What the last digits depend on."""
    return {"torch": torch.__version__, "cpu": cpu_name(), "capability": torch.backends.cpu.get_cpu_capability()}


def model_figures(nanogpt: Path) -> dict[str, object]:
    """Figures of nanoGPT's model with our weights, and the weights that it draws itself."""
    from_weights: dict[str, object] = {}
    initial: dict[str, object] = {}
    for recipe, shape in reference.SHAPES.items():
        for bias in (False, True):
            theirs = reference.their_model(nanogpt, {**shape, "bias": bias})
            theirs.load_state_dict(reference.our_model(shape, bias).state_dict())
            from_weights[f"{recipe}, bias={bias}"] = reference.figures(theirs, *reference.batch(shape, 2))
            torch.manual_seed(reference.SEED)
            initial[f"{recipe}, bias={bias}"] = reference.initial_weights(
                reference.their_model(nanogpt, {**shape, "bias": bias})
            )
    return {"machine": machine(), "from_weights": from_weights, "initial": initial}


def logs(folder: Path, nanogpt: Path) -> dict[str, object]:
    """Logs of train.py; leaves the tiny checkpoint in the golden folder."""
    commit = subprocess.run(
        ["git", "-C", str(nanogpt), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    found: dict[str, object] = {"machine": machine(), "nanogpt_commit": commit.stdout.strip() or None}
    commands = {
        "readme": [*reference.README_FLAGS, *reference.SHORT_FLAGS],
        "dropout": [*reference.README_FLAGS, *reference.SHORT_FLAGS, *reference.DROPOUT_FLAGS],
        "tiny": [*reference.TINY_FLAGS, "--max_iters=20", "--out_dir=tiny"],
    }
    for name, flags in commands.items():
        found[name] = reference.loss_lines(reference.run_program(["train.py", *flags], folder))
    shutil.copyfile(folder / "tiny" / "ckpt.pt", GOLDEN / "nanogpt_tiny_ckpt.pt")
    resume = [*reference.TINY_FLAGS, "--max_iters=40", "--out_dir=tiny", "--init_from=resume"]
    found["resumed"] = reference.loss_lines(reference.run_program(["train.py", *resume], folder))
    return found


def samples(folder: Path) -> dict[str, object]:
    """Texts of sample.py from the tiny checkpoint: 300 tokens, ten times its context."""
    (folder / "tiny-20").mkdir()
    shutil.copyfile(GOLDEN / "nanogpt_tiny_ckpt.pt", folder / "tiny-20" / "ckpt.pt")
    flags = ["sample.py", *reference.SAMPLE_FLAGS, "--out_dir=tiny-20"]
    return {"machine": machine(), "texts": reference.texts(reference.run_program(flags, folder))}


def write(name: str, content: dict[str, object]) -> None:
    """One golden file."""
    (GOLDEN / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
