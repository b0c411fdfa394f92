"""The launcher: the script sees what it sees alone, but for its seeds, and its best checkpoint is kept."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lossgap.attribution.foreign import launcher

STEP = launcher.STEP
SURROUNDINGS = """
import json, os, pickle, sys
class Thing:
    pass
assert isinstance(pickle.loads(pickle.dumps(Thing())), Thing)
import beside
print(json.dumps([sys.argv, __name__, __file__, sys.path[0], os.getcwd(), __spec__ is None, beside.WORD,
                  sys.modules["__main__"].Thing is Thing, "torch" in sys.modules, globals().get("__doc__")]))
"""
SEEDED = """
import random
random.seed(1337)
print(random.random())
"""


def launch(
    folder: Path, *words: str, seed: str | None = None, expect: int = 0, kept: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run words with the interpreter, through the launcher if there is a seed."""
    through = [] if seed is None else [launcher.__file__, seed]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    for name in (launcher.FOLDER, "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    if kept is not None:
        environment[launcher.FOLDER] = str(kept)
    done = subprocess.run(
        [sys.executable, *through, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == expect, done.stderr
    return done


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("seed", ["0", "7", "-"])
def test_the_script_sees_what_it_sees_alone(tmp_path: Path, seed: str) -> None:
    before = write(tmp_path / "sub" / "train.py", SURROUNDINGS)
    write(tmp_path / "sub" / "beside.py", "WORD = 'beside'")
    words = ["sub/train.py", "config.py", "--a=b c", "--", "-x"]
    alone = launch(tmp_path, *words).stdout
    assert launch(tmp_path, *words, seed=seed).stdout == alone
    assert json.loads(alone)[0] == words
    assert json.loads(alone)[8] is False, "torch was imported for a script that does not"
    assert hashlib.sha256((tmp_path / "sub" / "train.py").read_bytes()).hexdigest() == before
    assert [path.name.partition(".")[0] for path in (tmp_path / "sub" / "__pycache__").iterdir()] == ["beside"]


def test_a_module_runs_as_with_the_interpreter(tmp_path: Path) -> None:
    write(tmp_path / "package" / "__init__.py", "")
    write(tmp_path / "package" / "train.py", "import sys, package\nprint(sys.argv[1:], __name__, sys.path[0])")
    alone = launch(tmp_path, "-m", "package.train", "--a=1").stdout
    assert launch(tmp_path, "-m", "package.train", "--a=1", seed="3").stdout == alone


def test_seeds_shift_the_scripts_own(tmp_path: Path) -> None:
    write(tmp_path / "train.py", SEEDED)
    alone = launch(tmp_path, "train.py").stdout
    found = {seed: launch(tmp_path, "train.py", seed=seed).stdout for seed in ("-", "0", "1", "2")}
    assert found["-"] == found["0"] == alone
    assert len({alone, found["1"], found["2"]}) == 3
    assert launch(tmp_path, "train.py", seed="1").stdout == found["1"]


def test_what_the_script_does_not_seed_is_seeded(tmp_path: Path) -> None:
    write(tmp_path / "train.py", "import random\nprint(random.random())")
    found = [launch(tmp_path, "train.py", seed=seed).stdout for seed in ("1", "1", "2")]
    assert found[0] == found[1] != found[2]


def report(kept: Path) -> Any:
    return json.loads((kept / launcher.REPORT).read_text())


def test_the_report_tells_what_was_drawn(tmp_path: Path) -> None:
    write(tmp_path / "train.py", SEEDED)
    launch(tmp_path, "train.py", seed="2", kept=tmp_path)
    expected = f"random.seed(1337) ran as random.seed({1337 + 2 * STEP})"
    assert report(tmp_path) == {"shifted": [expected], "drawn": ["random"]}
    write(tmp_path / "train.py", "import random\nprint(random.Random(1337).random())")
    launch(tmp_path, "train.py", seed="2", kept=tmp_path)
    assert report(tmp_path) == {"shifted": [], "drawn": []}, "its own generator is not reached"
    launch(tmp_path, "train.py", seed="-", kept=tmp_path)
    assert report(tmp_path)["drawn"] is None


def test_exits_and_errors_are_the_scripts(tmp_path: Path) -> None:
    write(tmp_path / "train.py", "import sys\nsys.exit(3)")
    launch(tmp_path, "train.py", seed="1", expect=3)
    write(tmp_path / "train.py", "raise ValueError('Unknown config key: x')")
    done = launch(tmp_path, "train.py", seed="1", expect=1)
    assert done.stderr.rstrip().endswith("ValueError: Unknown config key: x")
    assert 'train.py", line 1' in done.stderr
    assert "usage" in launch(tmp_path, seed="1", expect=1).stderr


TORCH = """
import json, os, sys
import numpy as np
import torch
from torch import manual_seed
from torch.random import manual_seed as other
found = {"unseeded": torch.initial_seed()}
torch.manual_seed(1337)
found["torch"] = torch.initial_seed()
manual_seed(seed=5)
found["from torch"] = torch.initial_seed()
other(6)
found["torch.random"] = torch.initial_seed()
torch.cuda.manual_seed_all(11)      # without a device it is kept for later
np.random.seed(12)
found["numpy"] = np.random.randint(1 << 30)
np.random.seed(2**32 - 1)           # at the border
found["generator"] = torch.Generator().manual_seed(1).initial_seed()
state = {"model": {"w": torch.zeros(3)}, "best_val_loss": torch.tensor(0.0), "iter_num": 0, "config": {}}
for iteration, loss in ((10, 2.0), (20, 1.0), (30, 3.0), (40, float("nan"))):
    state.update(iter_num=iteration, best_val_loss=torch.tensor(loss))
    torch.save(state, os.path.join(sys.argv[1], "ckpt.pt"))
torch.save({"something": 1}, os.path.join(sys.argv[1], "other.pt"))
torch.rand(1)
print(json.dumps(found))
"""


def test_torch_numpy_and_the_best_checkpoint(tmp_path: Path) -> None:
    import numpy as np
    import torch

    write(tmp_path / "train.py", TORCH)
    out, kept = tmp_path / "out", tmp_path / "kept"
    out.mkdir()
    kept.mkdir()
    found = json.loads(launch(tmp_path, "train.py", str(out), seed="3", kept=kept).stdout)
    assert found["unseeded"] == 3 * STEP
    assert found["torch"] == 1337 + 3 * STEP, "shifted once, though it calls the seeding of the devices"
    assert found["from torch"] == 5 + 3 * STEP
    assert found["torch.random"] == 6 + 3 * STEP
    assert found["numpy"] == np.random.RandomState(12 + 3 * STEP).randint(1 << 30)
    assert found["generator"] == 1
    assert torch.load(out / "ckpt.pt", weights_only=True)["iter_num"] == 40
    assert torch.load(kept / launcher.BEST, weights_only=True)["iter_num"] == 20
    assert not list(kept.glob("*.new"))
    said = report(kept)
    assert f"torch.cuda.manual_seed_all(11) ran as torch.cuda.manual_seed_all({11 + 3 * STEP})" in said["shifted"]
    assert len(said["shifted"]) == 6, "calls inside of a seeding call pass as they are"
    assert "torch" in said["drawn"]


def test_an_array_of_seeds_passes_unchanged() -> None:
    found = launcher.Launcher(4, None)
    seen: list[object] = []

    class Module:
        __name__ = "module"

        @staticmethod
        def seed(a: object = None, version: int = 2) -> None:
            seen.append((a, version))

    module = Module()
    found.states["x"] = lambda: None
    found._wrap(module, "seed", "x", 0)
    for given in ((), (None,), ("text",), ([1, 2],), (5,)):
        module.seed(*given)
    module.seed(a=6, version=1)
    assert seen == [(None, 2), (None, 2), ("text", 2), ([1, 2], 2), (5 + 4 * STEP, 2), (6 + 4 * STEP, 1)]


def test_seeds_stay_within_their_bits() -> None:
    found = launcher.Launcher(2**62, None)
    assert 0 <= found.shifted(2**63 - 1, 63) < 2**63
    assert 0 <= found.shifted(2**32 - 1, 32) < 2**32
    assert launcher.Launcher(0, None).shifted(-5, 63) == -5, "seed 0 is the script's own run"
    assert STEP > 100_000, "more than ranks"
