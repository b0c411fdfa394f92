"""What a log costs to read: seconds that grow with its bytes, whatever it holds; and no traceback of ours."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgap.runs.readers import detect as detecting
from lossgap.runs.readers.base import Reader, Source, SourceError
from lossgap.runs.readers.builder import Ranges, join_legs
from lossgap.runs.readers.detect import FORMATS, detect
from lossgap.runs.readers.formats import litgpt, nanogpt, tensorboard
from lossgap.runs.readers.legs import MAX_RUNS

from .hostile import notes, read, sound, source
from .test_tensorboard import event, part

MB = 1 << 20
ALLOWED = 5.0
"""Seconds of CPU time for a megabyte; on an idle machine none takes 3."""
ROW = "iter {}: loss {:.4f}, time 10.00ms, mfu 1.00%\n"


def spent(reader: Reader, given: Source) -> float:
    start = time.process_time()
    try:
        sound(reader.read(given))
    except SourceError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017
    return time.process_time() - start


def test_a_thinned_log_may_be_resumed() -> None:
    rows = "".join(ROW.format(at, 4 - at / 1000) for at in range(1000))
    rest = "".join(ROW.format(at, 3.0) for at in range(900, 1200))
    (run,) = nanogpt.READER.read(
        Source(
            name="a.log",
            path=source("").path,
            data=f"{rows}Resuming training from out\n{rest}".encode(),
            max_iter_rows=400,
        )
    )
    sound([run])
    assert run.thinned is not None
    assert run.thinned.rows == 1300
    assert [seam["iter"] for seam in run.seams if isinstance(seam, dict)] == [900]
    assert run.iters["count"].null_count() == 0
    assert run.iters["iter"].is_sorted()


@given(st.lists(st.lists(st.integers(0, 40), max_size=6), min_size=1, max_size=8))
def test_legs_are_joined_as_if_each_were_laid_on_the_others(legs: list[list[int]]) -> None:
    rows = [(leg, at) for leg, rising in enumerate(map(sorted, legs)) for at in rising]
    table = pl.DataFrame(
        {"leg": [leg for leg, _ in rows], "iter": [at for _, at in rows]}, schema={"leg": pl.Int64, "iter": pl.Int64}
    )
    starts = np.cumsum([len(leg) for leg in legs]).tolist()[:-1]
    kept, replaced = join_legs(table, starts)
    gone = [(leg, at) for leg, at in rows if any(other and min(other) <= at <= max(other) for other in legs[leg + 1 :])]
    assert sorted(replaced.rows()) == sorted(gone)
    assert kept["iter"].is_sorted()
    assert sorted([*kept.rows(), *replaced.rows()]) == sorted(rows)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 9)), max_size=12), st.lists(st.integers(0, 70)))
def test_ranges(parts: list[tuple[int, int]], asked: list[int]) -> None:
    ranges = Ranges()
    for low, size in parts:
        ranges.add(low, low + size)
    held = {number for low, size in parts for number in range(low, low + size + 1)}
    assert ranges.hold(np.array(asked, np.int64)).tolist() == [number in held for number in asked]
    assert ranges.lows == sorted(ranges.lows)


def test_a_number_of_thousands_of_digits_is_not_understood() -> None:
    line = "iter {0} | step {0}: loss 4.1, iter time: 33.1 ms\n"
    (run,) = read(litgpt.READER, line.format(1) + line.format("9" * 4301) + line.format(2))
    assert run.iters["iter"].to_list() == [1, 2]
    assert run.not_understood.count == 1


LINES = """iter @: loss 4.1, time 1ms
iter 1: loss @.1, time 1ms
step @: train loss 1.0, val loss 2.0
iter @ step 1 | loss train: 10.9, val: n/a | iter time: 5 ms
step @/@ | loss @ (+nanz)| norm 1.0
step:@/@ val_loss:@
[titan] - root - INFO - step: @ loss: @
s:@ trl:@
{"step": @, "loss": @, "epoch": @}
{'loss': @, 'epoch': @}
@,@
Ep 1 (Step @): Train loss @, Val loss 1
found vocab_size = @
batch_size = @
Seed set to @
number of parameters: @M
Overriding: max_iters = @
'n_layer': @,""".splitlines()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("digits", [4301, 20_000])
def test_no_reader_stumbles_over_long_numbers(format: str, digits: int) -> None:
    lines = [line.replace("@", "9" * digits) for line in LINES]
    reader = detecting.reader(format)
    for data in ("\n".join(lines), *lines):
        assert spent(reader, source(data)) < ALLOWED


def test_sizes_of_a_tensor_are_not_multiplied() -> None:
    shape = part(2, part(1, 2**64 - 1)) * 60_000
    data = event(1, part(1, part(1, "loss") + part(8, part(1, 1) + part(2, shape) + part(4, b"\0\0\0\0"))))
    assert len(data) > 700_000
    assert spent(tensorboard.READER, source(data, "events.out.tfevents.1")) < 2.0


NANOGPT_RUN = """Overriding: max_iters = 5
iter 0: loss 4.2000, time 1.00ms, mfu 0.10%
iter 10: loss 4.1000, time 1.00ms, mfu 0.10%
"""
SHORT = {
    "nanogpt": NANOGPT_RUN,
    "nanogpt evaluations": "Overriding: max_iters = 5\nstep 0: train loss 4.2000, val loss 4.1000\n",
    "litgpt": "iter 5 | step 5: loss 4.1, iter time: 33.1 ms\niter 1 | step 1: loss 4.1, iter time: 33.1 ms\n",
    "llmc": "".join(f"step {at}/30 | loss 11.0 (+nanz)| 2734.72 ms\n" for at in range(1, 12)),
    "jsonl": '{"step": 9, "loss": 4.1}\n{"step": 1, "loss": 4.2}\n',
    "csv": "9,4.1\n1,4.2\n",
    "huggingface": "{'loss': 4.1, 'epoch': 0.9}\n{'loss': 4.1, 'epoch': 0.1}\n",
}


@pytest.mark.parametrize("name", SHORT)
def test_thousands_of_short_runs(name: str) -> None:
    head = "step,loss\n" if name == "csv" else ""
    given = source(head + SHORT[name] * (MB // len(SHORT[name])))
    start = time.process_time()
    runs = detect(given).read(given)
    assert time.process_time() - start < 2 * ALLOWED
    assert 1 <= len(runs) <= MAX_RUNS
    if len(runs) > 2:
        assert "the rest of the" in notes(runs[-1])


@pytest.mark.parametrize("limit", [10, 1_000_000])
def test_thousands_of_legs(limit: int) -> None:
    back = [5 + at % 9 * 90 + step for at in range(8000) for step in (0, 1)]
    data = ROW.format(0, 4.0) + "".join(ROW.format(at, 4.0) for at in back)
    given = Source(name="a.log", path=source("").path, data=data.encode(), max_iter_rows=limit)
    assert spent(nanogpt.READER, given) < 2 * ALLOWED


def test_two_writers_into_one_file() -> None:
    rows = [f'{{"step": {at // 2 + 300 * (at % 2)}, "loss": 4.1, "val_loss": 2.0}}' for at in range(6000)]
    given = source("\n".join(rows), "trainer_log.jsonl")
    assert spent(detect(given), given) < ALLOWED


STARTS = ("", "'a': x", "{'a': ", "Overriding: a = ", "| a", "class Hyperparameters:\n    a", "> ", '{"loss": ')
UNITS = ("'", "`", "[", "{", ": ", "| ", "1,", "1.", "\\", "a: ", '"', "iter ", "step:", "% cpu ")


def attacks() -> Iterator[str]:
    size = MB // 8
    for start in STARTS:
        yield start + " " * size + "x"
    for unit in (*UNITS, "found vocab_size = 1 (inside /"):
        yield unit * (size // len(unit)) + "x"


ATTACKS = tuple(attacks())


@pytest.mark.parametrize("format", FORMATS)
def test_no_line_is_long_enough_to_hang_a_reader(format: str) -> None:
    """An eighth of a megabyte each: what is quadratic takes minutes for that."""
    reader = detecting.reader(format)
    slow = {}
    for attack in ATTACKS:
        seconds = spent(reader, source(ROW.format(0, 4.2) + attack, f"a.{format}"))
        if seconds > ALLOWED / 2:
            slow[attack[:40]] = seconds
    assert not slow
