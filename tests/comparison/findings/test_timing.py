"""time-with-evaluation, mfu-peak, speed; and the peaks of GPUs that people name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from comparison.findings.answer import ask
from comparison.findings.losses import batches, falling, printed
from comparison.made import GPU, LAPTOP
from lossgap.comparison.findings.gpu import gpu_peak
from lossgap.runs.readers.source import load_run
from lossgap.runs.run import Run

COUNT = 41


def _log(**options: object) -> Run:
    """Evaluations at every fifth iteration, which takes 500 ms there, 40 elsewhere, 900 at first."""
    ms = [500.0 if index % 5 == 0 else 40.0 for index in range(COUNT)]
    ms[0] = 900.0
    mfu = [None] + [0.0003] * (COUNT - 1)
    config = LAPTOP | {"eval_interval": 5}
    return printed(falling(COUNT) + batches(COUNT), ms=ms, mfu=mfu, config=config, **options)  # type: ignore[arg-type]


def _figures(tmp_path: Path, text: str, name: str = "figures.toml") -> Run:
    path = tmp_path / name
    path.write_text(f"[run]\n{text}", encoding="utf-8")
    return load_run(path)


GPU_NOTE = (
    'device = "RTX 4070 Ti"\niteration = 5000\ntrain_loss = 0.62\nval_loss = 1.70\n'
    "iter_loss = 0.82\nmfu = 9.99\nms = 4447.0\n"
)
CONFIG = "[config]\n" + "".join(
    f"{name} = {str(value).lower() if isinstance(value, bool) else repr(value)}\n" for name, value in GPU.items()
)


def test_times_of_a_log() -> None:
    found = ask("time-with-evaluation", replace(_log(), iters=_log().iters.clear()), _log()).remark
    assert "the 500 ms at iteration 40 contain the evaluation" in found.text
    assert "the 900 ms at iteration 0, the first" in found.text
    assert found.numbers["usual_ms"] == 40.0


def test_even_times_are_no_news() -> None:
    even = printed(falling(COUNT), ms=[40.0 + index % 3 for index in range(COUNT)])
    assert ask("time-with-evaluation", even, even).silent
    bare = printed(falling(COUNT))
    assert ask("time-with-evaluation", bare, bare).silent


def test_figures_say_by_their_mfu_how_long_an_iteration_takes(tmp_path: Path) -> None:
    made = _figures(tmp_path, GPU_NOTE + CONFIG)
    found = ask("time-with-evaluation", made, made).findings[0]
    assert "4,447 ms" in found.text
    assert "an iteration takes about 37 ms" in found.text
    plain = _figures(tmp_path, (GPU_NOTE + CONFIG).replace("4447.0", "38.0"))
    assert ask("time-with-evaluation", plain, plain).silent


def test_a_coarsely_rounded_mfu_gives_a_range(tmp_path: Path) -> None:
    note = GPU_NOTE.replace("9.99", "0.01").replace("5000", "2000") + CONFIG
    made = _figures(tmp_path, note)
    found = ask("time-with-evaluation", made, replace(made, iters=made.iters.clear()))
    assert found.silent  # 1.16e12 FLOPs at 0.01% take 25 to 75 s
    fast = _figures(
        tmp_path,
        note.replace("64\n", "1\n").replace("gradient_accumulation_steps = 1", "gradient_accumulation_steps = 1"),
    )
    times = ask("time-with-evaluation", fast, replace(fast, iters=fast.iters.clear()))
    assert " to " in times.findings[0].text if times.findings else True


def test_figures_without_a_recipe_lack_it(tmp_path: Path) -> None:
    rows = "[[iters]]\niteration = 7\nms = 40.0\n[[iters]]\niteration = 9\nms = 4000.0\nmfu = 3.0\n"
    made = _figures(tmp_path, "val_loss = 3.1\niteration = 5\n" + rows)
    found = ask("time-with-evaluation", made, made)
    assert any(need.startswith("control.") for need in found.needs)


def test_mfu_of_the_cards_own_peak(tmp_path: Path) -> None:
    made = _figures(tmp_path, GPU_NOTE + CONFIG.replace("'float16'", "'bfloat16'"))
    found = ask("mfu-peak", made, replace(made, iters=made.iters.clear())).remark
    assert "31.2 TFLOP/s: 38.9% of the 80.18 TFLOP/s of RTX 4070 Ti" in found.text
    assert found.numbers["own_mfu"] == pytest.approx(0.0999 * 312 / 80.18, rel=1e-3)
    assert found.evidence == "computed"


def test_mfu_without_a_known_peak(tmp_path: Path) -> None:
    unnamed = _figures(tmp_path, GPU_NOTE.replace('device = "RTX 4070 Ti"\n', "") + CONFIG.replace("'cuda'", "'cuda'"))
    assert "not named" in ask("mfu-peak", unnamed, unnamed).findings[0].text
    assert "--device control=NAME" in ask("mfu-peak", unnamed, unnamed).findings[0].settle
    strange = replace(unnamed, device="Abacus 9")
    assert "The peak of Abacus 9 is not known" in ask("mfu-peak", strange, strange).findings[0].text
    right = replace(unnamed, device="A100")
    assert "has that peak" in ask("mfu-peak", right, right).findings[0].text


def test_mfu_of_a_cpu_says_nothing() -> None:
    found = ask("mfu-peak", _log(), _log())
    assert all("of what a CPU can do it says nothing" in item.text for item in found.findings)
    assert len(found.findings) == 2


def test_speed_is_no_cause() -> None:
    found = ask("speed", _log(), _log())
    assert found.silent
    assert "40 ms, MFU 0.03%" in found.ruled_out[0].text


@pytest.mark.parametrize("id", ["time-with-evaluation", "mfu-peak", "speed"])
def test_they_do_not_speak_of_our_own_records(id: str) -> None:
    own = replace(_log(), format="lossgap", peak={"flops": 1e12, "source": "measured"})
    found = ask(id, own, own)
    assert found.silent
    assert not found.ruled_out
    assert ask(id, replace(own, peak={}), replace(own, peak={})).silent
    mixed = ask(id, replace(own, peak={}), _log())
    assert "control" not in " ".join(
        [*(item.text for item in mixed.findings), *(item.text for item in mixed.ruled_out)]
    )


def test_a_mfu_of_another_peak_is_not_restated() -> None:
    fork = replace(_log(), peak={"flops": 989e12, "source": "an H100"})
    assert ask("mfu-peak", fork, fork).silent


@pytest.mark.parametrize(
    ("name", "dtype", "teraflops"),
    [
        ("RTX 4070 Ti", "bfloat16", 80.1792),
        ("NVIDIA GeForce RTX 4070 Ti", "bfloat16", 80.1792),
        ("geforce  rtx 4090", "float32", 82.575),
        ("A100", "bfloat16", 312.0),
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312.0),
        ("H100", "bfloat16", None),  # three cards
        ("RTX 3080", "bfloat16", None),  # two cards of one name
        ("RTX 4070 Ti Laptop GPU", "bfloat16", None),
        ("", "bfloat16", None),
        ("RTX", "bfloat16", None),
    ],
)
def test_cards_that_people_name(name: str, dtype: str, teraflops: float | None) -> None:
    found = gpu_peak(name, dtype)
    assert (None if found is None else found.flops / 1e12) == (
        None if teraflops is None else pytest.approx(teraflops, rel=1e-3)
    )


def test_the_rules_do_not_import_torch() -> None:
    code = (
        "import sys, lossgap.comparison.rules as f; f.rules(); "
        "from lossgap.comparison.findings.gpu import gpu_peak; gpu_peak('RTX 4090', 'bfloat16'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
