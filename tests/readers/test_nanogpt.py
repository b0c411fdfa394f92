"""nanoGPT's stdout as people have it: resumed, repeated, glued, pasted, diverged, enormous."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lossgap
from lossgap.runs.readers.base import Run, Source
from lossgap.runs.readers.decoding import TextBlock
from lossgap.runs.readers.formats import nanogpt
from lossgap.runs.readers.formats.nanogpt import Parser

from .contract import check_run, source_of


def read(text: str | bytes) -> list[Run]:
    runs = nanogpt.READER.read(source_of(text))
    for run in runs:
        check_run(run)
    return runs


def row(at: int, loss: float = 2.5, ms: float = 30.0) -> str:
    return f"iter {at}: loss {loss:.4f}, time {ms:.2f}ms, mfu 1.50%\n"


def step(at: int, val: float = 2.5) -> str:
    return f"step {at}: train loss {val - 0.1:.4f}, val loss {val:.4f}\n"


def iters(run: Run) -> list[int]:
    return run.iters["iter"].to_list()


def test_flags_win_over_the_config_file_also_when_ranks_print_late() -> None:
    echo = (
        "Overriding config with config/a.py:\nbatch_size = 64 # comment\nn_layer = 2 * 3\nmin_lr = 1e-4\nimport os\n\n"
    )
    flags = "Overriding: batch_size = 12\nOverriding: dataset = shakespeare\nOverriding: compile = False\n"
    (run,) = read(echo + flags + echo + flags + echo + step(0) + row(0))
    assert run.config == {
        "batch_size": 12, "n_layer": 6, "min_lr": 1e-4, "dataset": "shakespeare", "compile": False
    }  # fmt: skip
    assert "line 7 (Overriding)" in run.config_sources["batch_size"] or "Overriding" in run.config_sources["batch_size"]
    assert "config/a.py" in run.config_sources["n_layer"]
    assert run.not_understood.count == 0


def test_nothing_in_a_log_is_run() -> None:
    echo = "Overriding config with x.py:\nbatch_size = __import__('os').system('false')\nblock_size = (lambda: 9)()\n"
    (run,) = read(echo + "out_dir = 'a' * 10**9\nseed = 9**9**9\n" + row(0))
    assert run.config == {}


def test_facts_of_the_heading() -> None:
    text = (
        "tokens per iteration will be: 16,384\nfound vocab_size = 65 (inside data/shakespeare_char/meta.pkl)\n"
        "number of parameters: 0.80M\nnum decayed parameter tensors: 18, with 802,944 parameters\n"
        "num non-decayed parameter tensors: 9, with 1,152 parameters\n"
    )
    (run,) = read(text + row(0))
    assert run.tokens_per_iter == 16_384
    assert run.corpus == {"vocab_size": 65, "name": "shakespeare_char"}
    assert run.parameters["nanogpt_count"] == 800_000
    assert run.parameters["total"] == 804_096
    assert run.config == {"dataset": "shakespeare_char"}


def test_several_runs_in_one_file() -> None:
    heading = "Overriding: batch_size = {}\nInitializing a new model from scratch\n"
    first, second = read(heading.format(4) + step(0) + row(0) + row(1) + heading.format(8) + step(0) + row(0, 3.5))
    assert (first.number, second.number) == (1, 2)
    assert (iters(first), iters(second)) == ([0, 1], [0])
    assert (first.config["batch_size"], second.config["batch_size"]) == (4, 8)
    assert second.iters["loss"].to_list() == [3.5]


def test_a_second_run_without_a_heading_begins_at_its_first_iteration() -> None:
    text = "".join(row(at) for at in range(0, 200, 10))
    assert [iters(run) for run in read(text + text)] == [list(range(0, 200, 10))] * 2


def test_resumed_leg_replaces_what_it_repeats() -> None:
    first = "".join((step(at, 2.9) if at % 50 == 0 else "") + row(at, 3.0) for at in range(60))
    second = (
        "Resuming training from out\nOverriding: batch_size = 8\n"
        + step(40, 2.8)
        + "".join(row(at, 2.0) for at in range(40, 50))
    )
    (run,) = read("Overriding: batch_size = 4\n" + first + second)
    assert iters(run) == list(range(60))
    by_iter = dict(run.iters.select("iter", "loss").iter_rows())
    assert (by_iter[39], by_iter[40], by_iter[49], by_iter[50]) == (3.0, 2.0, 2.0, 3.0)
    (seam,) = run.seams
    assert isinstance(seam, dict)
    assert (seam["iter"], seam["after"], seam["changed"], seam["replaced_iters"]) == (40, 59, ["batch_size"], 10)
    assert run.evals["iter"].to_list() == [0, 40, 50]


def test_one_row_out_of_its_place_is_no_resume() -> None:
    (run,) = read("".join(row(at) for at in range(0, 500, 10)) + "as I said above:\n" + row(105, 9.0))
    assert run.seams == []
    assert run.iters.filter(run.iters["iter"] == 105)["loss"].to_list() == [9.0]
    assert iters(run) == sorted(iters(run))
    assert any("out of its order" in note.text for note in run.notes)


def test_an_evaluation_behind_later_rows_is_out_of_its_place() -> None:
    (run,) = read("".join(row(at) for at in range(40)) + step(5) + "".join(row(at) for at in range(40, 60)))
    assert iters(run) == list(range(60))
    assert run.evals["iter"].to_list() == [5]
    assert any("out of its order" in note.text for note in run.notes) or run.seams


@pytest.mark.parametrize("order", ["pairs", "blocks"])
def test_ranks_that_repeat_rows(order: str) -> None:
    if order == "pairs":
        text = "".join(row(at, 3.0 - at / 100) + row(at, 9.0) for at in range(30))
    else:
        text = "".join(
            row(at, 3.0 - at / 100) + row(at + 1, 2.99 - at / 100) + row(at, 9.0) + row(at + 1, 9.0)
            for at in range(0, 30, 2)
        )
    (run,) = read(text)
    assert iters(run) == list(range(30))
    assert run.iters["loss"].max() == 3.0
    assert any("repeated" in note.text and "30 times" in note.text for note in run.notes)


def test_glued_and_torn_rows() -> None:
    text = (
        row(0).rstrip()
        + row(1)
        + "iter 2: loss 2.9"
        + row(3)
        + row(4).rstrip()
        + "saving checkpoint to out\n"
        + "iter 5: loss 2.4000\niter 6: loss 2.4"
    )
    (run,) = read(text)
    assert iters(run) == [0, 1, 3, 4]
    assert run.damaged_lines == 3


def test_pasted_into_an_issue() -> None:
    text = (
        "> 2023-03-22 09:30:39 iter 2920: loss 3.9883, time 1099.34ms, mfu 15.34%\n>\n"
        "```\n     iter 2930: loss 3.9408, time 1097.30ms, mfu 15.34%\n...\n[...]\n"
        "| iter 2940: loss 3.9000, time 1097.30ms, mfu 15.34%   <- look here\n"
        " 45%|████▌     | 45/100 [00:10<00:12]\riter 2950: loss 3.8000, time 1097.30ms, mfu 15.34%\r\n"
        "\x1b[1miter \x1b[1;36m2960\x1b[0m: loss \x1b[1;36m3.7000\x1b[0m, time \x1b[1;36m9.00\x1b[0m ms, mfu 15.34%\n"
        "my laptop makes a noise\n"
    )
    (run,) = read(text)
    assert run.iters.select("iter", "loss", "line").rows() == [
        (2920, 3.9883, 1), (2930, 3.9408, 4), (2940, 3.9, 7), (2950, 3.8, 8), (2960, 3.7, 9)
    ]  # fmt: skip
    assert run.not_understood.lines == (10,)


def test_many_rows_behind_a_time_stamp() -> None:
    text = (
        "".join("2023-03-22 09:30:39 " + row(at, at / 1000) for at in range(3000))
        + "2023 "
        + row(3000).strip()
        + row(3001)
    )
    (run,) = read(text)
    assert iters(run) == list(range(3002))
    assert run.iters["loss"].to_list()[:3000] == pytest.approx([at / 1000 for at in range(3000)])
    assert run.iters["line"].to_list() == [*range(1, 3002), 3001]


def test_rows_without_time_are_whole_in_a_log_that_has_none() -> None:
    (run,) = read("iter 0: loss 4.1828\niter 100: loss 2.6635\niter 200: loss 2.50\n")
    assert iters(run) == [0, 100]
    assert run.damaged_lines == 1


def test_nan_is_null_with_lines() -> None:
    (run,) = read(
        row(0) + "iter 1: loss nan, time 30.00ms, mfu 1.50%\niter 2: loss inf, time 30.00ms, mfu 1.50%\n" + row(3)
    )
    assert run.iters["loss"].to_list() == [2.5, None, None, 2.5]
    assert run.iters["why"].to_list() == [None, "loss is nan", "loss is inf", None]
    (note,) = run.notes
    assert "2 values not finite" in note.text
    assert note.lines == (2, 3)


def test_mfu_of_the_first_iterations_is_unknown() -> None:
    (run,) = read("iter 0: loss 2.0000, time 9.00ms, mfu -100.00%\niter 5: loss 2.0000, time 9.00ms, mfu 25.00%\n")
    assert run.iters["mfu"].to_list() == [None, 0.25]


@pytest.mark.parametrize(
    ("last", "status"), [("KeyboardInterrupt", "interrupted"), ("RuntimeError: out of memory", "failed")]
)
def test_traceback_says_how_it_ended(last: str, status: str) -> None:
    (run,) = read(
        row(0) + f'^CTraceback (most recent call last):\n  File "train.py", line 1, in <module>\n    x()\n{last}\n'
    )
    assert run.status == status
    assert run.not_understood.count == 0


def reference(text: str) -> tuple[list[tuple[int, float, int]], list[tuple[int, float, int]]]:
    """Rows of a log in which everything rises, line by line."""
    rows, evals = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if found := re.match(r"iter (\d+): loss ([\d.]+)", line):
            rows.append((int(found[1]), float(found[2]), number))
        if found := re.match(r"step (\d+): train loss [\d.]+, val loss ([\d.]+)", line):
            evals.append((int(found[1]), float(found[2]), number))
    return rows, evals


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    every=st.integers(1, 9),
    interval=st.integers(1, 4),
    cut=st.integers(1, 4),
    noise=st.booleans(),
)
def test_bulk_and_single_lines_agree(seed: int, every: int, interval: int, cut: int, noise: bool) -> None:
    draw, lines = random.Random(seed), []
    for at in range(0, 120, interval):
        if at % every == 0:
            lines.append(step(at, draw.uniform(1, 9)))
            if draw.random() < 0.3:
                lines.append("saving checkpoint to out\n")
        lines.append(row(at, draw.uniform(1, 9)))
        if noise and draw.random() < 0.05:
            lines.append("\n" if draw.random() < 0.5 else "something else\n")
    text = "".join(lines)
    ends = sorted(draw.randrange(len(lines) + 1) for _ in range(cut))
    parser, at = Parser(source_of(text), "nanogpt"), 1
    for start, end in zip([0, *ends], [*ends, len(lines)], strict=True):
        if start < end:
            parser.block(TextBlock("".join(lines[start:end]).encode(), at))
            at += end - start
    (run,) = parser.runs()
    rows, evals = reference(text)
    assert run.iters.select("iter", "loss", "line").rows() == rows
    assert run.evals.select("iter", "val_loss", "line").rows() == evals


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(900, 9000), limit=st.integers(200, 2000), longer=st.sampled_from([0, 3000, 9000]))
def test_thinning_keeps_count_mean_and_extremes(rows: int, limit: int, longer: int) -> None:
    draw = random.Random(rows)
    losses = [round(draw.uniform(1, 5), 4) for _ in range(rows)]
    lines = [row(at, loss) for at, loss in enumerate(losses)]
    # A run that has ended is thinned further while another one grows.
    text = "".join(lines) + ("Initializing a new model from scratch\n" + "".join(lines[:longer]) if longer else "")
    parser, line = Parser(Source(path=source_of(text).path, name="x", data=b"", max_iter_rows=limit), "nanogpt"), 1
    for part in range(0, len(text), 30_000):
        end = text.rfind("\n", 0, part + 30_000) + 1
        start = text.rfind("\n", 0, part) + 1 if part else 0
        parser.block(TextBlock(text[start:end].encode(), line))
        line += text[start:end].count("\n")
    run = parser.runs()[0]
    check_run(run)
    assert run.thinned is not None or rows + min(longer, rows) <= limit
    if run.thinned is None:
        return
    size = run.thinned.block
    assert (run.thinned.rows, run.thinned.kept) == (rows, run.iters.height)
    assert run.iters.height <= limit
    expected = [losses[at : at + size] for at in range(0, rows, size)]
    assert run.iters["count"].to_list() == [len(block) for block in expected]
    assert run.iters["loss_min"].to_list() == [min(block) for block in expected]
    assert run.iters["loss_max"].to_list() == [max(block) for block in expected]
    assert run.iters["loss"].to_list() == pytest.approx([sum(block) / len(block) for block in expected], abs=1e-12)
    assert iters(run) == list(range(0, rows, size))
    assert run.iters["line"].to_list() == [at + 1 for at in range(0, rows, size)]
    assert any(f"--max_iter_rows={limit}" in note.text and f"{rows:,}" in note.text for note in run.notes)


def test_a_fork_has_no_known_defaults(tmp_path: Path) -> None:
    """Settings that nanoGPT does not know say that its defaults are somebody else's, too."""
    heading = (
        "Overriding: n_layer = 6\nOverriding: n_head = 6\nOverriding: n_embd = 384\nOverriding: block_size = 256\n"
    )
    rows = (
        "number of parameters: 10.65M\nstep 0: train loss 4.2874, val loss 4.2823\niter 0: loss 4.2639, time 5.00ms\n"
    )
    vocabulary = "found vocab_size = 65 (inside data/x/meta.pkl)\n"
    logs = {"plain": heading, "fork": heading + "Overriding: use_rotary_embeddings = True\n"}
    inferred = {}
    for name, text in logs.items():
        (tmp_path / name).write_text(text + vocabulary + rows, encoding="utf-8")
        inferred[name] = {item.name for item in lossgap.load_run(tmp_path / name).inferred}
    assert "weight_decay" in inferred["plain"]
    assert "weight_decay" not in inferred["fork"]


def test_losses_in_bits_per_character() -> None:
    (run,) = read(
        "step 0: train loss 6.1000 BPC, val loss 6.2000 BPC\niter 0: loss 6.3000 BPC, time 30.50ms, mfu 1.50%\n"
        "step 2: train loss 3.1000 BPC, val loss 3.2000 BPC\niter 2: loss 3.3000 BPC, time 40.50ms, mfu 1.50%\n"
    )
    assert run.evals["val_loss"].to_list() == [6.2, 3.2]
    assert run.iters.select("loss", "ms", "mfu").rows() == [(6.3, 30.5, 0.015), (3.3, 40.5, 0.015)]
    assert run.series["evals.val_loss"].unit == run.series["iters.loss"].unit == "unknown"
    assert run.not_understood.count == 0


def test_rows_of_llama2_c_and_of_mingpt() -> None:
    (llama,) = read(
        "step 10: train loss 5.7000, val loss 5.9000\n10 | loss 6.0000 | lr 5.000000e-05 | 870.50ms | mfu 0.50%\n"
        "20 | loss 5.5000 | lr 6.000000e-05 | 80.50ms | mfu 0.50%\n"
    )
    assert llama.iters.select("iter", "loss", "ms", "mfu").rows() == [(10, 6.0, 870.5, 0.005), (20, 5.5, 80.5, 0.005)]
    assert llama.not_understood.count == 0
    (mini,) = read("iter_dt 0.00ms; iter 0: train loss 2.80000\niter_dt 79.50ms; iter 2: train loss 2.60000\n")
    assert mini.iters.select("iter", "loss", "ms").rows() == [(0, 2.8, None), (2, 2.6, 79.5)]


def test_whole_floats_that_end_early_are_not_torn() -> None:
    (run,) = read(
        "step 0: train loss 4.174108505249023, val loss 4.17410850524902\n"
        "iter 0: loss 4.1741085052490234, time 12.1ms\n"
        "iter 1: loss 3.5, time 12.5ms\nstep 2: train loss 2.5, val loss 2.625\n"
    )
    assert run.iters["loss"].to_list() == [4.1741085052490234, 3.5]
    assert run.evals["val_loss"].to_list() == [4.17410850524902, 2.625]
    assert run.series["evals.val_loss"].digits == 14


def test_a_line_of_nothing_but_digits_takes_no_time() -> None:
    (run,) = read(row(0) + "1" * 100_000 + "\n" + row(1))
    assert iters(run) == [0, 1]
    assert run.not_understood.count == 1
