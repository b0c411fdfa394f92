"""A training starts without what it does not use: torch's compiler takes as long to import as torch itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TRAINING = """
import sys
import lossgap
lossgap.train("shakespeare_char_cpu", dataset={dataset!r}, out_dir={out!r}, max_iters=1, n_layer=1, n_embd=16,
              eval_iters=1, checkpoint_at=(1,), optimizer={optimizer!r}, compile=False)
print([name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules])
"""


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_training_does_not_import_the_compiler(tmp_path: Path, optimizer: str) -> None:
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 100, encoding="utf-8")
    code = TRAINING.format(dataset=str(text), out=str(tmp_path / "out"), optimizer=optimizer)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
