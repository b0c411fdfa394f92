"""torchtitan's console."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgap.runs.readers.base import NO
from lossgap.runs.readers.formats.torchtitan import READER

from .hostile import damaged, losses, metric, notes, read, source, survives, vals


def step(at: int, loss: str, rank: str = "", mfu: str = "13.99") -> str:
    return (
        f"{rank}[titan] 2026-01-01 00:00:00,000 - root - INFO - \x1b[31mstep: {at:2}  \x1b[32mloss: {loss:>8}  "
        f"\x1b[38;2;180;60;0mgrad_norm: 26.5000  \x1b[38;2;54;234;195mmemory: 66.91GiB(37.51%)  "
        f"\x1b[34mtps: 10,050  \x1b[36mtflops: 314.71  \x1b[35mmfu: {mfu}%\x1b[39m\n"
    )


HEAD = (
    "[titan] 2026-01-01 00:00:00,000 - root - INFO - Starting job: debug\n"
    "[titan] 2026-01-01 00:00:00,000 - root - INFO - CUDA capacity: NVIDIA H100 80GB HBM3 with 79.10GiB memory\n"
    "[titan] 2026-01-01 00:00:00,000 - root - INFO - Peak FLOPS used for computing MFU: 9.890e+14\n"
    "[titan] 2026-01-01 00:00:00,000 - root - INFO - Model llama3 8B size: 8,030,261,248 total parameters\n"
    "[titan] 2026-01-01 00:00:00,000 - root - INFO - Training starts at step 1, with local batch size 8, "
    "global batch size 64, sequence length 2048, total steps 10 (warmup 2)\n"
)
LOG = (
    HEAD
    + step(1, "8.12500")
    + step(2, "7.25")
    + "[titan] - validate step:  2  loss:  7.50000  memory: 1.00GiB(1%)  tps: 9\n"
)


def test_steps_with_colours_and_figures() -> None:
    assert READER.score(source(LOG).head()) > 0.8
    (run,) = read(READER, LOG)
    assert losses(run) == [(1, 8.125), (2, 7.25)]
    assert vals(run) == [(2, 7.5)]
    assert run.iters["grad_norm"].to_list() == [26.5, 26.5]
    assert run.iters["mfu"].to_list() == pytest.approx([0.1399, 0.1399], abs=1e-15)
    assert run.iters["line"].to_list() == [6, 7]
    assert metric(run, "tps_per_device") == [(1, 10050.0), (2, 10050.0)]
    assert metric(run, "memory_gib")[0] == (1, 66.91)
    assert run.not_understood.lines == (1,)


def test_facts_in_the_heading() -> None:
    (run,) = read(READER, LOG)
    assert run.config == {
        "model": "llama3 8B",
        "batch_size": 8,
        "global_batch_size": 64,
        "block_size": 2048,
        "max_iters": 10,
        "warmup_iters": 2,
    }
    assert run.tokens_per_iter == 64 * 2048
    assert run.setting("gradient_accumulation_steps") == 8
    assert run.peak["flops"] == 9.89e14
    assert run.device == "NVIDIA H100 80GB HBM3"
    assert run.parameters["total"] == 8_030_261_248


def test_copies_of_other_ranks_are_one_row() -> None:
    text = "".join(step(at, f"{8 - at}.5", f"[rank{rank}]:") for at in (4, 5) for rank in range(8))
    (run,) = read(READER, text)
    assert losses(run) == [(4, 4.5), (5, 3.5)]
    assert "the same loss (14 times)" in notes(run)
    (run,) = read(READER, step(4, "4.5") + step(4, "4.75") + step(5, "4.0"))
    assert losses(run) == [(4, 4.5), (5, 4.0)]
    assert "another loss" in notes(run)


def test_ranks_glued_into_one_line() -> None:
    (run,) = read(READER, step(1, "8.5").rstrip("\n") + step(1, "8.5").rstrip("\n") + step(2, "8.25"))
    assert losses(run) == [(1, 8.5), (2, 8.25)]


def test_another_start_is_another_run_and_a_resume_a_seam() -> None:
    first = HEAD + "".join(step(at, f"{9 - at}.5") for at in range(1, 5))
    runs = read(READER, first + HEAD + "".join(step(at, f"{9 - at}.25") for at in range(1, 4)))
    assert [len(losses(run)) for run in runs] == [4, 3]
    resumed = HEAD.replace("step 1,", "step 3,") + step(3, "6.25") + step(4, "5.25") + step(5, "4.25")
    (run,) = read(READER, first + resumed)
    assert losses(run) == [(1, 8.5), (2, 7.5), (3, 6.25), (4, 5.25), (5, 4.25)]
    assert len(run.seams) == 1


def test_a_config_over_several_lines() -> None:
    config = (
        '[titan] 2026-01-01 00:00:00,000 - root - INFO - Running with args: {\n  "training": {\n'
        '    "local_batch_size": 8,\n    "seq_len": 2048\n  },\n  "lr": 3e-4\n}\n'
    )
    (run,) = read(READER, config + step(1, "8.5"))
    assert run.config == {"batch_size": 8, "block_size": 2048, "learning_rate": 3e-4}
    (run,) = read(READER, config[: len(config) // 2] + "\n" + step(1, "8.5"))
    assert losses(run) == [(1, 8.5)]


def test_step_loss_pairs_of_its_tests() -> None:
    text = "1 8.049097061157227\n2 7.75183629989624\n3 7.032886028289795\n"
    assert READER.score(source(text).head()) > 0
    (run,) = read(READER, text)
    assert losses(run) == [(1, 8.049097061157227), (2, 7.75183629989624), (3, 7.032886028289795)]
    assert run.series["iters.loss"].digits is None


def test_what_is_not_torchtitan() -> None:
    assert (
        READER.score(source("step 1: train loss 4.2, val loss 4.3\niter 0: loss 4.2, time 5ms, mfu -100.00%\n").head())
        == NO
    )
    assert READER.score(source("step: 1 loss: 2.0\n").head()) == NO


@given(damaged(LOG.encode()) | damaged(b"1 8.0\n2 7.5\n3 7.25\n") | st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    survives(READER, source(data))
