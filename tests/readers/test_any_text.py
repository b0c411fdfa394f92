"""Texts of no known format: what is concluded, from notebooks and pages too, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from lossgap.runs.readers.base import SourceError
from lossgap.runs.readers.detect import detect
from lossgap.runs.readers.markup import html_text, notebook_text
from lossgap.runs.readers.pairs import pairs
from lossgap.runs.readers.source import load_run, load_runs
from lossgap.runs.run import Run

from .hostile import losses, notes, source, vals
from .not_logs import not_logs


def read(text: str, name: str = "log.txt", **columns: str) -> Run:
    given = source(text, name, columns)
    run, *_ = detect(given).read(given)
    return run


def concluded(run: Run) -> dict[str, object]:
    return {item.name: item.value for item in run.inferred}


def test_names_and_numbers_of_a_line() -> None:
    found = pairs(
        "2024-05-01 10:00:00,123 - INFO - Epoch [2/10] step 20/650 loss=1.25 (1.375) lr: 3e-4 1,024 tok/s v1.2.3"
    )
    assert [(item.name, item.value, item.total) for item in found] == [
        ("INFO Epoch", "2", "10"),
        ("step", "20", "650"),
        ("loss", "1.25", ""),
        ("", "1.375", ""),
        ("lr", "3e-4", ""),
        ("", "1,024", ""),
    ]


def test_every_conclusion_is_said_with_what_else_it_could_be() -> None:
    run = read("".join(f"round {at} batch {at * 5} | loss {5 - at / 10:.2f} | aux loss 0.1\n" for at in range(1, 9)))
    assert run.format == "inferred"
    assert concluded(run) == {"column of iter": "iter", "column of loss": "loss", "unit": "unknown"}
    assert next(item for item in run.inferred if item.name == "column of loss").alternatives == ("aux loss",)
    assert "inferred from 8 lines like" in notes(run)
    assert "could also be" in notes(run)


def test_columns_correct_what_was_concluded() -> None:
    text = "".join(f"step {at} | loss {5 - at / 10:.2f} | lm loss {6 - at / 10:.2f}\n" for at in range(1, 9))
    assert losses(read(text))[-1] == (8, 4.2)
    assert losses(read(text, loss="lm loss"))[-1] == (8, 5.2)


def test_batches_begin_again_in_every_epoch() -> None:
    rows = [f"Epoch: [{epoch}][{at}/200] Loss {4 - epoch:.4f} (9.0)" for epoch in range(2) for at in range(0, 200, 50)]
    ends = [f"Test: [{at}/40] Loss 9.9 ({3 - epoch:.4f})" for epoch in range(2) for at in (0, 39)]
    run = read("\n".join([*rows[:4], *ends[:2], *rows[4:], *ends[2:]]))
    assert [at for at, _ in losses(run)] == [0, 50, 100, 150, 200, 250, 300, 350]
    assert vals(run) == [(150, 3.0), (350, 2.0)]


def test_counters_may_stand_in_a_line_of_their_own() -> None:
    run = read(
        "".join(
            f"[step={at}/90,epoch=0]\n    optim/grad_norm=1.5\n    train/CrossEntropyLoss={9 - at / 30:.3f}\n"
            for at in range(10, 90, 10)
        )
    )
    assert losses(run)[0] == (10, 8.667)
    assert losses(run)[-1] == (80, 6.333)


def test_rows_without_a_counter_are_counted() -> None:
    run = read("".join(f"12:00:{at:02d} Epoch 1 - Batch loss: {9 - at / 10:.4f}\n" for at in range(40)))
    assert losses(run)[-1] == (40, 5.1)
    assert concluded(run)["column of iter"] == "rows of the train loss, from 1"


def test_a_heading_says_which_split_follows() -> None:
    row = "Epoch {0}/4\n10/20 - loss: {1}\n20/20 - loss: {2}\nEval begin...\n3/5 - loss: 9.0\n5/5 - loss: {3}\n"
    run = read("".join(row.format(at, 4 - at / 2, 3.5 - at / 2, 5 - at) for at in range(1, 5)))
    assert vals(run) == [(20, 4.0), (40, 3.0), (60, 2.0), (80, 1.0)]
    assert losses(run)[-1] == (80, 1.5)


@pytest.mark.parametrize(
    ("base", "unit", "last"),
    [(math.e, "nats/token", 3.0), (2.0, "nats/token", 3.0 * math.log(2)), (10.0, "unknown", 3.0)],
)
def test_a_perplexity_tells_the_unit(base: float, unit: str, last: float) -> None:
    run = read("".join(f"step {at}: loss {4 - at / 10:.3f} ppl {base ** (4 - at / 10):.3f}\n" for at in range(1, 11)))
    assert run.series["iters.loss"].unit == unit
    assert losses(run)[-1][1] == pytest.approx(last)
    assert concluded(run)["unit"] == unit


def test_a_perplexity_alone_becomes_a_loss() -> None:
    run = read("".join(f"epoch {at} train ppl {60 - at:.2f} valid ppl {70 - at:.2f}\n" for at in range(1, 8)))
    assert losses(run)[-1][1] == pytest.approx(math.log(53), abs=1e-5)
    assert vals(run)[-1][1] == pytest.approx(math.log(63), abs=1e-5)
    assert run.series["evals.val_loss"].unit == "nats/token"


def test_bits_keep_their_unit() -> None:
    run = read(
        "".join(f"epoch {at} | train bpc {3 - at / 9:.3f} | valid bpc {3.2 - at / 9:.3f}\n" for at in range(1, 8))
    )
    assert run.series["iters.loss"].unit == run.series["evals.val_loss"].unit == "bits/char"
    run = read("".join(f"step {at} val_bpb: {2 - at / 100:.4f} train loss: {3 - at / 100:.4f}\n" for at in range(1, 8)))
    assert run.evals["val_bpb"].to_list()[-1] == 1.93
    assert run.evals["val_loss"].null_count() == run.evals.height


def test_a_squared_error_is_no_table() -> None:
    rows = "".join(f"Epoch {at:3d}/20, Train MSE={1 / at:.5f}, Val MSE={1.25 / at:.5f}\n" for at in range(1, 21))
    run = read(f"Train=4624 samples, Val=1156 samples\n{rows}")
    assert losses(run)[-1] == (20, 0.05)
    assert vals(run)[-1] == (20, 0.0625)
    assert run.series["evals.val_loss"].unit == "unknown"


def test_a_test_sets_loss_is_the_val_loss_where_there_is_no_other() -> None:
    text = "".join(
        "".join(f"Train Epoch: {epoch} [{at}/600 ({at // 6}%)]\tLoss: {3 / epoch:.6f}\n" for at in range(0, 600, 100))
        + f"\nTest set: Average loss: {2 / epoch:.4f}, Accuracy: 90/100 (90%)\n\n"
        for epoch in (1, 2)
    )
    run = read(text)
    assert vals(run) == [(500, 2.0), (1100, 1.0)]
    assert "test set's" in notes(run)


def notebook(*outputs: object) -> str:
    cells = [{"cell_type": "code", "source": ["loss = 9.9\n"], "outputs": [item]} for item in outputs]
    return json.dumps({"cells": [{"cell_type": "markdown", "source": "loss 1.0"}, *cells], "nbformat": 4})


ROWS = [f"epoch {at}: train loss {4 - at / 4:.4f}, val loss {4.5 - at / 4:.4f}\n" for at in range(1, 6)]
TABLE = "<table><tr><th>Step</th><th>Training Loss</th><th>Validation Loss</th></tr>{}</table>".format(
    "".join(f"<tr><td>{at}</td><td>{3 - at / 1000}</td><td>{3.5 - at / 1000}</td></tr>" for at in range(500, 2500, 500))
)


def test_notebooks_are_read_by_what_their_cells_printed() -> None:
    run = read(notebook({"output_type": "stream", "text": ROWS}), "train.ipynb")
    assert vals(run)[-1] == (5, 3.25)
    run = read(notebook({"output_type": "display_data", "data": {"text/html": TABLE, "text/plain": "x"}}), "a.ipynb")
    assert vals(run)[-1] == (2000, 1.5)
    nano = [
        f"step {at}: train loss {4 - at / 1000:.4f}, val loss {4.1 - at / 1000:.4f}\n" for at in range(0, 2000, 250)
    ]
    given = source(notebook({"output_type": "stream", "text": nano}), "nano.ipynb")
    assert detect(given).name == "nanogpt"


@pytest.mark.parametrize("name", ["page.html", "README.md", "issue.txt"])
def test_pages_and_pastes(name: str) -> None:
    rows = "".join(ROWS)
    text = {
        "page.html": f"<!DOCTYPE html><html><script>loss = 3.5</script><p>My run:</p><pre>{rows}</pre></html>",
        "README.md": f"# A model\n\nTraining it gave\n\n```\n{rows}```\n\nwhich took 3.5 hours.\n",
        "issue.txt": "I ran it and get this, why?\n" + "".join(f"> {row}" for row in ROWS),
    }[name]
    assert vals(read(text, name))[-1] == (5, 3.25)


def test_markup_of_strangers() -> None:
    assert notebook_text("[" * 100_000) is None
    assert notebook_text('{"cells": 3}') is None
    assert notebook_text('{"cells": [3, {"outputs": [{"text": [1, "a"]}, 2]}]}') == "a"
    assert html_text("<table><tr><td>1<td>2</tr>&bad;").split() == ["|", "1", "|", "2", "&bad;"]


def test_a_text_that_is_no_log_is_never_taken_for_one(tmp_path: Path) -> None:
    path, taken, texts = tmp_path / "text.txt", [], list(not_logs())
    for kind, text in texts:
        path.write_text(text)
        try:
            runs = load_runs(path)
        except SourceError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017
            continue
        if any(run.iters.height or run.evals.height for run in runs):
            taken.append((kind, text[:80]))
    assert len(texts) >= 200
    assert not taken


def test_the_refusal_says_what_was_seen(tmp_path: Path) -> None:
    def message(text: str) -> str:
        path = tmp_path / "a.txt"
        path.write_text(text)
        with pytest.raises(SourceError) as caught:
            load_run(path)
        return str(caught.value)

    said = message("it began\nfinal loss: 3.25 after it\nthe end 4\n")
    assert "1 line like" in said
    assert "final loss: 3.25" in said
    assert "no line that names a loss" in message("server 3 up 45\nserver 4 up 20\n")
    assert "git lfs pull" in message("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    assert "an empty file" in message(" \n")


def test_a_megabyte_takes_seconds() -> None:
    row = "2024-01-01 00:00:00 INFO epoch 1 step {at}/99999 loss: {loss:.4f} acc: 0.5 lr: 1e-4 grad: 1.5 time: 0.5s\n"
    text = "".join(row.format(at=at, loss=9 - at / 2000) for at in range(10_000))
    assert len(text) > 1_000_000
    assert len(losses(read(text))) == 10_000


def test_dates_of_a_line_are_no_counters() -> None:
    rows = [
        f"[12/25 14:2{epoch}:53] epoch:[  {epoch}/3 ] {split} step:{at}  loss: {loss:.3f} top1: 0.5"
        for epoch in (1, 2, 3)
        for split, at, loss in (("train", 0, 4 - epoch), ("train", 100, 3.5 - epoch), ("val", 0, 3.75 - epoch))
    ]
    run = read("\n".join(rows))
    assert [at for at, _ in losses(run)] == [0, 100, 101, 201, 202, 302]
    assert vals(run) == [(100, 2.75), (201, 1.75), (302, 0.75)]


def test_a_summary_without_a_counter_is_no_row_of_the_training() -> None:
    rows = "".join(
        "".join(f"Epoch: [{epoch}/90] Iter:[{at}/30] Loss: {4 - epoch / 90:.3f}\n" for at in range(0, 30, 10))
        + "Loss: 0.125, MeanIU: 0.5\n"
        for epoch in range(3, 9)
    )
    run = read(rows)
    assert losses(run)[0][0] == 60
    assert losses(run)[-1] == (230, 3.911)


def test_whole_numbers_that_rise_count() -> None:
    run = read("".join(f"seen {at * 50}, loss: {9 - at / 10:.2f}\n" for at in range(12)))
    assert losses(run)[-1] == (550, 7.9)
    assert concluded(run)["column of iter"] == "seen"
