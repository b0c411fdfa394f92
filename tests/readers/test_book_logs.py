"""litgpt's stdout, and the logs of the book and of PyTorch's example."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lossgap.runs.readers.base import NO
from lossgap.runs.readers.formats import litgpt, llms_from_scratch, word_language_model

from .hostile import damaged, losses, metric, notes, read, source, survives, vals

LITGPT, BOOK, WORD = litgpt.READER, llms_from_scratch.READER, word_language_model.READER

OLD = (
    "iter 4800: val loss 1.75, val time: 3778.02 ms\n"
    "iter 4810 | step 601: loss 0.2745, iter time: 131.68 ms\n"
    "iter 4840 | step 605: loss 0.2500, iter time: 153.14 ms (optimizer.step)\n"
)
NEW = (
    "Seed set to 42\n"
    "Total parameters: 1,000,000\n"
    "Epoch 1 | iter 4 step 1 | loss train: 10.939, val: n/a | iter time: 523.32 ms (step) remaining time: 1:02:03\n"
    "Epoch 1 | iter 8 step 2 | loss train: 9.500, val: n/a | iter time: 500.00 ms (step) remaining time: 1:02:03\n"
    "iter 8: val loss 9.2500, val time: 12.00 ms\n"
    "Epoch 1 | iter 12 step 3 | loss train: 9.000, val: 9.250 | iter time: 500.00 ms (step) remaining time: 1:02:03\n"
    "Final evaluation | val loss: 8.875 | val ppl: 7150.000\n"
)


def test_litgpt_updates_are_the_iterations() -> None:
    (run,) = read(LITGPT, OLD)
    assert losses(run) == [(601, 0.2745), (605, 0.25)]
    assert vals(run) == [(600, 1.75)]
    assert run.iters["ms"].to_list() == [131.68, 153.14]
    assert run.inferred[0].value == 8
    assert run.series["iters.loss"].kind == "micro-batch"
    assert "litgpt's step" in notes(run)


def test_litgpt_without_one_number_of_micro_batches_keeps_its_own_count() -> None:
    text = OLD.replace("step 605", "step 700")
    (run,) = read(LITGPT, text)
    assert losses(run) == [(4810, 0.2745), (4840, 0.25)]
    assert vals(run) == [(4800, 1.75)]
    assert "micro-batches of one process" in notes(run)
    assert litgpt.micro_batches([(4810, 601)]) == 8
    assert litgpt.micro_batches([(10, 1)]) is None
    assert litgpt.micro_batches([(0, 0), (3, 0), (4, 1)]) == 4


def test_litgpt_of_today() -> None:
    (run,) = read(LITGPT, NEW)
    assert losses(run) == [(1, 10.939), (2, 9.5), (3, 9.0)]
    assert run.evals.select("kind", "iter", "val_loss").rows() == [
        ("eval", 2, 9.25),
        ("eval", 3, 9.25),
        ("final", 3, 8.875),
    ]
    assert run.config == {"seed": 42}
    assert run.parameters == {"total": 1_000_000}


def test_litgpt_is_not_nanogpt() -> None:
    assert LITGPT.score(source("iter 0: loss 4.2660, time 5000.00ms, mfu -100.00%\n").head()) == NO
    assert LITGPT.score(source(OLD).head()) > 0.8


BOOK_LOG = (
    "Ep 1 (Step 000000): Train loss 9.781, Val loss 9.933\nEvery effort moves you,\n"
    "Ep 1 (Step 000005): Train loss 8.111, Val loss 8.339\n"
)


def test_the_book() -> None:
    assert BOOK.score(source(BOOK_LOG).head()) > 0.8
    (run,) = read(BOOK, BOOK_LOG)
    assert run.evals.select("iter", "train_loss", "val_loss", "line").rows() == [
        (0, 9.781, 9.933, 1),
        (5, 8.111, 8.339, 3),
    ]
    assert run.not_understood.lines == (2,)
    assert run.series["evals.val_loss"].digits == 3


WORD_LOG = (
    "| epoch   1 |   200/  400 batches | lr 20.00 | ms/batch 18.51 | loss  7.63 | ppl  2063.29\n"
    "-----------------------------------------\n"
    "| end of epoch   1 | time: 55.00s | valid loss  5.75 | valid ppl   314.19\n"
    "| epoch   2 |   200/  400 batches | lr 20.00 | ms/batch 17.00 | loss  5.50 | ppl   244.69\n"
    "| End of training | test loss  5.25 | test ppl   190.57\n"
)


def test_the_word_language_model() -> None:
    assert WORD.score(source(WORD_LOG).head()) > 0.8
    (run,) = read(WORD, WORD_LOG)
    assert losses(run) == [(200, 7.63), (600, 5.5)]
    assert run.iters["ms"].to_list() == [18.51, 17.0]
    assert vals(run) == [(400, 5.75)]
    assert metric(run, "test_loss") == [(600, 5.25)]
    assert run.series["iters.loss"].digits == 2
    assert run.not_understood.count == 0


def test_transformer_xl() -> None:
    text = (
        "| epoch   1 step      200 |    200 batches | lr 0.00025 | ms/batch 600.32 | loss  7.64 | ppl  2081.1\n"
        "| Eval   1 at step      200 | time: 99.00s | valid loss  6.75 | valid ppl   854.06\n"
    )
    (run,) = read(WORD, text)
    assert (losses(run), vals(run)) == ([(200, 7.64)], [(200, 6.75)])
    assert run.iters["lr"].to_list() == [0.00025]


@given(
    damaged((OLD + NEW).encode()) | damaged(BOOK_LOG.encode()) | damaged(WORD_LOG.encode()) | st.binary(max_size=200)
)
def test_any_bytes(data: bytes) -> None:
    for reader in (LITGPT, BOOK, WORD):
        survives(reader, source(data))
