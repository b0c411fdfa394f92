"""Tables: generic CSV, Keras, Lightning."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossgap.runs.readers.base import NO, Source, SourceError
from lossgap.runs.readers.formats import csv_table, keras, lightning

from .hostile import damaged, losses, metric, notes, read, source, survives, vals

CSV, KERAS, LIGHTNING = csv_table.READER, keras.READER, lightning.READER


def test_columns_by_name_and_rows_with_lines() -> None:
    (run,) = read(CSV, "step,train_loss,lr,acc\n0,4.25,1e-3,0.1\n10,3.5,5e-4,0.2\n")
    assert losses(run) == [(0, 4.25), (10, 3.5)]
    assert run.iters["lr"].to_list() == [1e-3, 5e-4]
    assert run.iters["line"].to_list() == [2, 3]
    assert metric(run, "acc") == [(0, 0.1), (10, 0.2)]
    assert "iter from step, train loss from train_loss" in notes(run)


def test_what_was_printed_is_kept_exactly() -> None:
    (run,) = read(CSV, "step,loss\n1,2.3401998698711395\n2,1e-320\n3,0.1\n")
    assert losses(run) == [(1, 2.3401998698711395), (2, 1e-320), (3, 0.1)]
    assert run.series["iters.loss"].digits is None


def test_rounded_values_tell_their_decimals() -> None:
    (run,) = read(CSV, "step,loss\n1,2.3\n2,2.25\n3,2.125\n")
    assert run.series["iters.loss"].digits == 3


def test_train_loss_that_only_stands_beside_val_loss_was_measured_with_it() -> None:
    (run,) = read(CSV, "iter,train_loss,val_loss,loss\n0,4.2,4.3,\n1,,,4.1\n250,2.5,2.6,2.4\n")
    assert run.evals["train_loss"].to_list() == [4.2, 2.5]
    assert vals(run) == [(0, 4.3), (250, 2.6)]
    assert losses(run) == [(1, 4.1), (250, 2.4)]
    assert "guessed" in notes(run)


def test_epochs_count_where_no_step_does_and_the_loss_is_their_mean() -> None:
    (run,) = read(CSV, "epoch;train_loss;val_loss\n1;2,5;2,75\n2;2,25;2,5\n")
    assert losses(run) == [(1, 2.5), (2, 2.25)]
    assert run.series["iters.loss"].kind == "interval-mean"
    assert "iter counts epochs" in notes(run)
    assert "decimal point" in notes(run)


def test_steps_that_begin_again_in_every_epoch_go_on() -> None:
    text = "epoch,step,loss\n" + "".join(f"{e},{s},{4 - e - s / 10}\n" for e in range(3) for s in range(4))
    (run,) = read(CSV, text)
    assert run.iters["iter"].to_list() == list(range(12))
    assert "begins again in every epoch" in notes(run)


def test_padded_headers_and_parts_of_a_loss() -> None:
    text = (
        "     epoch,  train/box_loss, train/obj_loss, val/box_loss, val/obj_loss\n" + "   0,   0.12,  0.5,  0.1, 0.99\n"
    )
    (run,) = read(CSV, text)
    assert losses(run) == []
    assert metric(run, "train/box_loss") == [(0, 0.12)]
    assert run.series["others.val/obj_loss"].split == "val"
    assert "--columns loss=train/box_loss" in notes(run)
    (told,) = read(CSV, text, columns={"loss": "train/box_loss", "val_loss": "val/box_loss"})
    assert (losses(told), vals(told)) == ([(0, 0.12)], [(0, 0.1)])


def test_a_test_loss_is_never_the_loss() -> None:
    (run,) = read(CSV, "step,test_loss\n1,2.5\n")
    assert (losses(run), vals(run), metric(run, "test_loss")) == ([], [], [(1, 2.5)])


def test_columns_that_are_not_there_are_named() -> None:
    with pytest.raises(SourceError, match="no such column of numbers") as caught:
        read(CSV, "step,loss\n1,2\n", columns={"loss": "los"})
    assert caught.value.slug == "columns-missing"
    with pytest.raises(SourceError, match="did you mean val_loss") as caught:
        read(CSV, "step,loss\n1,2\n", columns={"val_los": "loss"})
    assert caught.value.slug == "columns-role"


def test_quotes_comments_blank_and_broken_lines() -> None:
    text = '# made by hand\nstep,"loss, mean",note\n1,"2.5","a ""b"""\n\n2,"2.4,x\n3,2.3,ok\n4,2.2\nstep five\n'
    (run,) = read(CSV, text, columns={"loss": "loss, mean"})
    assert losses(run) == [(1, 2.5), (3, 2.3)]
    assert run.damaged_lines == 3
    assert losses(read(CSV, 'step,loss\n1,2.5\n2,"2.4\n')[0]) == [(1, 2.5)]


def test_a_header_that_comes_again_begins_another_run() -> None:
    runs = read(CSV, "step,loss\n1,4\n2,3\nstep,loss\n1,4.5\n2,3.5\n")
    assert [losses(run) for run in runs] == [[(1, 4.0), (2, 3.0)], [(1, 4.5), (2, 3.5)]]


def test_a_resumed_leg_replaces_what_it_repeats() -> None:
    (run,) = read(CSV, "step,loss\n1,4\n2,3\n3,2\n2,3.5\n3,2.5\n4,2\n")
    assert losses(run) == [(1, 4.0), (2, 3.5), (3, 2.5), (4, 2.0)]
    assert len(run.seams) == 1


def test_one_column_per_setting_is_one_run_per_column() -> None:
    runs = read(CSV, "learning_rate_0.1,learning_rate_0.01\n4.5,4.6\n4.0,4.4\n")
    assert [(run.config["learning_rate"], losses(run)) for run in runs] == [
        (0.1, [(1, 4.5), (2, 4.0)]),
        (0.01, [(1, 4.6), (2, 4.4)]),
    ]
    assert "guessed" in notes(runs[0])


def test_exports_of_wandb_and_tensorboard() -> None:
    header = '"Step","a - train/loss","a - train/loss__MIN","a - train/loss__MAX","b - train/loss"'
    runs = read(CSV, header + '\n"1","4.5","4.5","4.5","4.6"\n"2","4","4","4",""\n')
    assert [(run.name, losses(run)) for run in runs] == [("a", [(1, 4.5), (2, 4.0)]), ("b", [(1, 4.6)])]
    assert all(run.others.is_empty() for run in runs)
    (run,) = read(CSV, "Wall time,Step,Value\n1700000000.5,10,2.5\n1700000002.5,20,2.25\n")
    assert losses(run) == [(10, 2.5), (20, 2.25)]
    assert run.iters["seconds"].to_list() == [0.0, 2.0]


def test_a_table_without_header_and_with_blanks() -> None:
    (run,) = read(CSV, "1 4.5\n2 4.25\n3 4.0\n")
    assert losses(run) == [(1, 4.5), (2, 4.25), (3, 4.0)]
    (run,) = read(CSV, "1 0.5 4.5\n2 0.5 4.25\n", columns={"iter": "1", "loss": "3"})
    assert losses(run) == [(1, 4.5), (2, 4.25)]


def test_mfu_in_percent_and_not_yet_measured() -> None:
    (run,) = read(CSV, "iter,loss,mfu\n0,4,-100\n1,3,9.5\n")
    assert run.iters["mfu"].to_list() == [None, 0.095]
    (run,) = read(CSV, "iter,loss,mfu\n0,4,0.5\n1,3,9.5\n")
    assert run.iters["mfu"].to_list() == [0.005, 0.095]
    (run,) = read(CSV, "iter,loss,mfu\n0,4,-1.0\n1,3,0.25\n")
    assert run.iters["mfu"].to_list() == [None, 0.25]


def test_nan_is_null_with_its_reason() -> None:
    (run,) = read(CSV, "step,loss\n1,nan\n2,inf\n3,2.5\n")
    assert run.iters["loss"].to_list() == [None, None, 2.5]
    assert run.iters["why"].to_list() == ["loss is nan", "loss is inf", None]


def test_too_many_rows_are_thinned() -> None:
    text = "step,loss\n" + "".join(f"{at},{at}.5\n" for at in range(100))
    given = Source(path=Path("t.csv"), name="t.csv", data=text.encode(), max_iter_rows=10)
    (run,) = CSV.read(given)
    assert run.thinned is not None
    assert (run.thinned.rows, run.thinned.kept, run.thinned.block) == (100, 10, 10)
    assert run.iters.row(1, named=True) | {
        "loss": 15.0,
        "loss_min": 10.5,
        "loss_max": 19.5,
        "count": 10,
        "line": 12,
    } == (run.iters.row(1, named=True))
    assert "--max_iter_rows=10" in notes(run)


# -- Keras

KERAS_LOG = (
    "epoch,accuracy,learning_rate,loss,val_accuracy,val_loss\n0,0.5,0.001,2.5,0.6,2.25\n1,0.7,0.001,2.0,0.7,2.125\n"
)


def test_keras_loss_is_the_mean_over_the_epoch() -> None:
    assert KERAS.score(source(KERAS_LOG).head()) > CSV.score(source(KERAS_LOG, "t.csv").head())
    (run,) = read(KERAS, KERAS_LOG)
    assert losses(run) == [(0, 2.5), (1, 2.0)]
    assert vals(run) == [(0, 2.25), (1, 2.125)]
    assert run.series["iters.loss"].kind == "interval-mean"
    assert run.series["evals.val_loss"].mode == "eval"
    assert metric(run, "val_accuracy") == [(0, 0.6), (1, 0.7)]


def test_keras_is_not_every_table_with_epochs() -> None:
    assert KERAS.score(source("epoch,train_loss,val_loss\n0,2,3\n").head()) == NO
    assert KERAS.score(source("epoch,step,loss\n0,0,3\n").head()) == NO


# -- Lightning

LIGHTNING_LOG = (
    "epoch,lr-AdamW,step,train_loss_epoch,train_loss_step,val_loss\n"
    ",0.001,49,,,\n"
    "0,,49,,4.5,\n"
    "0,,99,,3.5,\n"
    "0,,99,,,3.25\n"
    "0,,99,4.0,,\n"
)


def test_lightning_rows_are_sparse_and_become_one() -> None:
    assert LIGHTNING.score(source(LIGHTNING_LOG).head()) > CSV.score(source(LIGHTNING_LOG, "metrics.csv").head())
    (run,) = read(LIGHTNING, LIGHTNING_LOG)
    assert run.iters["iter"].to_list() == [49, 99]
    assert run.iters["lr"].to_list() == [0.001, None]
    assert losses(run) == [(49, 4.5), (99, 3.5)]
    assert run.iters["line"].to_list() == [3, 4]
    assert vals(run) == [(99, 3.25)]
    assert run.series["iters.loss"].kind == "batch"
    assert metric(run, "train_loss_epoch") == [(99, 4.0)]
    assert run.series["others.train_loss_epoch"].kind == "interval-mean"


def test_lightning_hparams_beside_are_settings_and_never_code(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(LIGHTNING_LOG)
    (tmp_path / "hparams.yaml").write_text("lr: 0.001\nmax_seq_len: 128\nopt: !!python/name:os.system ''\n")
    for path in (tmp_path, tmp_path / "metrics.csv"):
        given = Source(path=path, name=path.name)
        assert LIGHTNING.score(given.head()) > 0.5
        (run,) = LIGHTNING.read(given)
        assert run.config == {"learning_rate": 0.001, "block_size": 128, "opt": "!!python/name:os.system ''"}
        assert run.config_sources["learning_rate"] == "hparams.yaml (lr)"


def test_litgpt_csv_counts_micro_batches() -> None:
    text = "epoch,iter,iter_time,learning_rate,loss,step,tokens,total_tokens,val_loss\n0,8,0.5,6e-4,4.5,7,64,128,\n"
    (run,) = read(LIGHTNING, text)
    assert run.iters["iter"].to_list() == [8]
    assert run.iters["ms"].to_list() == [500.0]
    assert run.iters["tokens"].to_list() == [128]
    assert run.series["iters.loss"].kind == "micro-batch"
    assert "micro-batches" in notes(run)


@given(damaged(LIGHTNING_LOG.encode()) | damaged(b"step;loss\n1;2,5\n2;2,4\n") | st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for reader in (CSV, KERAS, LIGHTNING):
        survives(reader, source(data, "metrics.csv"))


@given(st.text(alphabet='step,los "\n1234.e-;\t|#naif', max_size=200))
def test_any_table(text: str) -> None:
    for reader in (CSV, KERAS, LIGHTNING):
        survives(reader, source(text, "metrics.csv"))
