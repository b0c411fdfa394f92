"""The contract, for tables, JSON, event files, folders and the logs of other trainers."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossgap.runs.readers.base import Source

from .contract import ReaderContract
from .test_mlflow_store import SCHEMA, database, store
from .test_tensorboard import VERSION, event, scalar
from .test_wandb_folder import history, written


class TestCsv(ReaderContract):
    reader = "csv"
    file_name = "loss.csv"
    sample = "# by hand\nstep,train_loss,val_loss\n1,4.5,\n2,4.25,4.5\n3,4.125,\n"
    expected = ((1, 4.5, 3), (2, 4.25, 4), (3, 4.125, 5))
    expected_evals = ((2, None, 4.5, 4),)


class TestKeras(ReaderContract):
    reader = "keras"
    file_name = "log.csv"
    sample = "epoch,accuracy,loss,val_loss\n0,0.5,2.5,2.25\n1,0.75,2.0,2.125\n"
    expected = ((0, 2.5, 2), (1, 2.0, 3))
    expected_evals = ((0, None, 2.25, 2), (1, None, 2.125, 3))


class TestLightning(ReaderContract):
    reader = "lightning"
    file_name = "metrics.csv"
    sample = "epoch,step,train_loss_epoch,train_loss_step,val_loss\n0,49,,4.5,\n0,99,,3.5,\n0,99,,,3.25\n0,99,4.0,,\n"
    expected = ((49, 4.5, 2), (99, 3.5, 3))
    expected_evals = ((99, None, 3.25, 4),)


class TestLitgpt(ReaderContract):
    reader = "litgpt"
    sample = (
        "iter 4800: val loss 1.75, val time: 3778.02 ms\n"
        "iter 4810 | step 4810: loss 0.2745, iter time: 131.68 ms\n"
        "iter 4840 | step 4840: loss 0.2500, iter time: 153.14 ms (optimizer.step)\n"
    )
    expected = ((4810, 0.2745, 2), (4840, 0.25, 3))
    expected_evals = ((4800, None, 1.75, 1),)


class TestHuggingFace(ReaderContract):
    reader = "huggingface"
    file_name = "trainer_state.json"
    sample = (
        '{\n "global_step": 20,\n "log_history": [\n'
        '  {"epoch": 1.0, "loss": 2.1409, "step": 10},\n'
        '  {"epoch": 1.0, "eval_loss": 1.96, "step": 10},\n'
        '  {"epoch": 2.0, "loss": 1.8, "step": 20}\n ]\n}\n'
    )
    expected = ((10, 2.1409, 1), (20, 1.8, 3))
    expected_evals = ((10, None, 1.96, 2),)

    def test_line_numbers_hold_the_row(self) -> None:
        pytest.skip("numbers are those of the entries")


class TestHuggingFacePrinted(ReaderContract):
    reader = "huggingface"
    sample = (
        "  0%|          | 0/20 [00:00<?, ?it/s]\n 50%|#####     | 10/20 [00:05<00:05,  2it/s]"
        "{'loss': 2.1409, 'grad_norm': 4.25, 'learning_rate': 2.5e-05, 'epoch': 1.0}\n"
        "{'eval_loss': 1.96, 'eval_runtime': 7.2, 'epoch': 1.0}\n"
        "100%|##########| 20/20 [00:10<00:00,  2it/s]{'loss': 1.8, 'epoch': 2.0}\n"
    )
    expected = ((10, 2.1409, 2), (20, 1.8, 4))
    expected_evals = ((10, None, 1.96, 3),)


class TestTorchtitan(ReaderContract):
    reader = "torchtitan"
    sample = (
        "[rank0]:[titan] 2026-01-01 00:00:00,000 - root - INFO - step:  1  loss:  8.12500  grad_norm: 26.5  "
        "memory: 66.91GiB(37.51%)  tps: 10,050  tflops: 314.71  mfu: 13.99%\n"
        "[rank0]:[titan] 2026-01-01 00:00:01,000 - root - INFO - step:  2  loss:  7.25000  grad_norm: 20.5  "
        "memory: 66.91GiB(37.51%)  tps: 10,050  tflops: 314.71  mfu: 13.99%\n"
        "[rank0]:[titan] 2026-01-01 00:00:01,000 - root - INFO - validate step:  2  loss:  7.5  memory: 1.0GiB(1%)\n"
    )
    expected = ((1, 8.125, 1), (2, 7.25, 2))
    expected_evals = ((2, None, 7.5, 3),)


class TestBook(ReaderContract):
    reader = "llms-from-scratch"
    sample = (
        "Ep 1 (Step 000000): Train loss 9.781, Val loss 9.933\nEvery effort\n"
        "Ep 1 (Step 000005): Train loss 8.111, Val loss 8.339\n"
    )
    expected_evals = ((0, 9.781, 9.933, 1), (5, 8.111, 8.339, 3))


class TestWordLanguageModel(ReaderContract):
    reader = "word-language-model"
    sample = (
        "| epoch   1 |   200/  400 batches | lr 20.00 | ms/batch 18.51 | loss  7.63 | ppl  2063.29\n"
        "| end of epoch   1 | time: 55.00s | valid loss  5.75 | valid ppl   314.19\n"
    )
    expected = ((200, 7.63, 1),)
    expected_evals = ((400, None, 5.75, 2),)


class TestJsonl(ReaderContract):
    reader = "jsonl"
    sample = (
        '{"config": {"lr": 0.001}}\n{"step": 1, "loss": 2.5}\n{"step": 2, "loss": NaN}\n'
        '{"split": "val", "step": 2, "loss": 2.25}\n'
    )
    expected = ((1, 2.5, 2), (2, None, 3))
    expected_evals = ((2, None, 2.25, 4),)


class TestTensorboard(ReaderContract):
    reader = "tensorboard"
    file_name = "events.out.tfevents.1700000000.host.1.0"
    is_text = False
    sample = (
        VERSION + event(1, scalar("loss", 2.5)) + event(2, scalar("loss", 2.25)) + event(2, scalar("val_loss", 2.375))
    )
    expected = ((1, 2.5, 2), (2, 2.25, 3))
    expected_evals = ((2, None, 2.375, 3),)


class TestWandb(ReaderContract):
    reader = "wandb"
    file_name = "run-abc.wandb"
    is_text = False
    sample = written(history(1, loss=2.5), history(2, loss=2.25, val__loss=2.375))
    expected = ((1, 2.5, 1), (2, 2.25, 2))
    expected_evals = ((2, None, 2.375, 2),)


class TestMlflowDatabase(ReaderContract):
    reader = "mlflow"
    file_name = "mlflow.db"
    is_text = False
    sample = b"SQLite format 3\0"
    expected = ((0, 4.5, None), (10, None, None))
    expected_evals = ((10, None, 3.75, None),)

    @pytest.fixture(autouse=True)
    def _made(self, tmp_path: Path) -> None:
        type(self).sample = database(tmp_path / "mlflow.db", SCHEMA).read_bytes()


class TestMlflowStore(ReaderContract):
    reader = "mlflow"
    is_text = False
    sample = b""
    expected = ((0, 4.5, 1), (10, 3.5, 2), (20, None, 3))
    expected_evals = ((10, None, 3.75, 1),)

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = store(tmp_path / "abc")

    def source(self, data: str | bytes | None = None) -> Source:
        return Source(path=self.folder, name=self.folder.name)
