"""The contract, for the formats of `named_lines` and for a text of no known format. Samples are written by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .contract import QUIET, ReaderContract

LN2 = math.log(2)
FEW = settings(QUIET, max_examples=6)
"""All of these share one parser: a few examples of each are many of it."""


class LinesContract(ReaderContract):
    @FEW
    @given(data=st.binary(max_size=400))
    def test_any_bytes(self, data: bytes) -> None:
        self._survives(data)

    @FEW
    @given(data=st.data())
    def test_damaged_sample(self, data: st.DataObject) -> None:
        self._damage(data)


class TestMegatron(LinesContract):
    reader = "megatron"
    sample = (
        " iteration       10/     100 | consumed samples:         2560 | elapsed time per iteration (ms): 812.5 | "
        "learning rate: 1.500E-05 | global batch size:   256 | lm loss: 8.250000E+00 | loss scale: 1.0 | "
        "grad norm: 2.125 | number of skipped iterations:   0 | number of nan iterations:   0 |\n"
        "------------------------------------------------\n"
        " validation loss at iteration 10 | lm loss value: 8.125000E+00 | lm loss PPL: 3.378E+03 | \n"
        "------------------------------------------------\n"
        " iteration       20/     100 | consumed samples:         5120 | elapsed time per iteration (ms): 810.0 | "
        "learning rate: 3.000E-05 | global batch size:   256 | lm loss: 7.500000E+00 | loss scale: 1.0 |\n"
    )
    expected = ((10, 8.25, 1), (20, 7.5, 5))
    expected_evals = ((10, None, 8.125, 3),)


class TestNemo(LinesContract):
    reader = "nemo"
    sample = (
        "Training epoch 0, iteration 9/99 | lr: 0.0003 | global_batch_size: 512 | global_step: 9 | "
        "reduced_train_loss: 10.5 | train_step_timing in s: 4.2 | consumed_samples: 5120\n"
        "Training epoch 0, iteration 19/99 | lr: 0.0003 | global_batch_size: 512 | global_step: 19 | "
        "reduced_train_loss: 9.25 | train_step_timing in s: 4.1 | consumed_samples: 10240 | val_loss: 9.5\n"
    )
    expected = ((9, 10.5, 1), (19, 9.25, 2))
    expected_evals = ((19, None, 9.5, 2),)


class TestFairseq(LinesContract):
    reader = "fairseq"
    sample = (
        "2021-05-04 10:00:00 | INFO | train_inner | epoch 001:    100 / 250 loss=8, nll_loss=7.5, ppl=181.02, "
        "wps=9000, ups=2.5, wpb=3600, bsz=120, num_updates=100, lr=1.25e-05, gnorm=2.5, train_wall=40, wall=45\n"
        "2021-05-04 10:01:00 | INFO | train_inner | epoch 001:    200 / 250 loss=6, nll_loss=5.5, ppl=45.25, "
        "wps=9000, ups=2.5, wpb=3600, bsz=120, num_updates=200, lr=2.5e-05, gnorm=2.25, train_wall=80, wall=85\n"
        "2021-05-04 10:02:00 | INFO | valid | epoch 001 | valid on 'valid' subset | loss 5.5 | nll_loss 5 | ppl 32 | "
        "wps 20000 | wpb 1800 | bsz 60 | num_updates 250\n"
        "2021-05-04 10:02:00 | INFO | train | epoch 001 | loss 7 | nll_loss 6.5 | ppl 90.51 | wps 9000 | ups 2.5 | "
        "wpb 3600 | bsz 120 | num_updates 250 | lr 3.1e-05 | gnorm 2.4 | train_wall 100 | wall 110\n"
    )
    expected = ((100, 8 * LN2, 1), (200, 6 * LN2, 2))
    expected_evals = ((250, None, 5.5 * LN2, 3),)

    def test_reads_the_sample_exactly(self) -> None:
        (run,) = self.runs()
        losses = run.iters.filter(run.iters["loss"].is_not_null())
        assert losses["iter"].to_list() == [100, 200]
        assert losses["loss"].to_list() == pytest.approx([8 * LN2, 6 * LN2])
        assert run.evals["val_loss"].to_list() == pytest.approx([5.5 * LN2])
        assert run.series["evals.val_loss"].unit == run.series["iters.loss"].unit == "nats/token"
        assert any("base 2" in note.text for note in run.notes)


class TestFairseqJson(TestFairseq):
    sample = (
        '2021-05-04 10:00:00 | INFO | train_inner | {"epoch": 1, "update": 0.4, "loss": "8", "nll_loss": "7.5", '
        '"ppl": "181.02", "num_updates": "100", "lr": "1.25e-05", "gnorm": "2.5", "wall": "45"}\n'
        '2021-05-04 10:01:00 | INFO | train_inner | {"epoch": 1, "update": 0.8, "loss": "6", "nll_loss": "5.5", '
        '"ppl": "45.25", "num_updates": "200", "lr": "2.5e-05", "gnorm": "2.25", "wall": "85"}\n'
        '2021-05-04 10:02:00 | INFO | valid | {"epoch": 1, "valid_loss": "5.5", "valid_nll_loss": "5", '
        '"valid_ppl": "32", "valid_num_updates": "250"}\n'
        '2021-05-04 10:02:00 | INFO | train | {"epoch": 1, "train_loss": "7", "train_nll_loss": "6.5", '
        '"train_ppl": "90.51", "train_num_updates": "250", "train_lr": "3.1e-05", "train_gnorm": "2.4"}\n'
    )


class TestMarian(LinesContract):
    reader = "marian"
    sample = (
        "[2020-03-01 09:00:00] Ep. 1 : Up. 100 : Sen. 6,400 : Cost 81.25000000 : Time 21.00s : 5000.00 words/s : "
        "gNorm 3.5000 : L.r. 3.0000e-05\n"
        "[2020-03-01 09:00:30] Ep. 1 : Up. 200 : Sen. 12,800 : Cost 70.50000000 : Time 20.00s : 5100.00 words/s\n"
        "[2020-03-01 09:00:35] [valid] Ep. 1 : Up. 200 : cross-entropy : 66.75 : new best\n"
        "[2020-03-01 09:00:36] [valid] Ep. 1 : Up. 200 : perplexity : 38.5 : new best\n"
    )
    expected = ((100, 81.25, 1), (200, 70.5, 2))
    expected_evals = ((200, None, 66.75, 3),)

    def test_a_sum_over_a_sentence_is_said_to_be_one(self) -> None:
        (run,) = self.runs()
        assert run.series["iters.loss"].unit == run.series["evals.val_loss"].unit == "nats/sequence"

    def test_a_cost_per_label_and_a_mean_over_words_are_per_token(self) -> None:
        text = self.text().replace("81.25000000", "4.06250000 * 128,000").replace("70.50000000", "3.52500000 * 128,000")
        (run,) = self.runs(text.replace("cross-entropy : 66.75", "ce-mean-words : 3.5"))
        assert run.series["iters.loss"].unit == run.series["evals.val_loss"].unit == "nats/token"
        assert run.evals["val_loss"].to_list() == [3.5]


class TestMlx(LinesContract):
    reader = "mlx"
    sample = (
        "Starting training..., iters: 20\nIter 1: Val loss 3.500, Val took 2.125s\n"
        "Iter 10: Train loss 3.250, Learning Rate 1.000e-05, It/sec 0.512, Tokens/sec 220.5, Trained Tokens 4300, "
        "Peak mem 9.125 GB\nIter 20: Val loss 2.750, Val took 2.100s\n"
        "Iter 20: Train loss 2.875, Learning Rate 1.000e-05, It/sec 0.515, Tokens/sec 221.0, Trained Tokens 8610, "
        "Peak mem 9.125 GB\nSaved final weights to adapters.safetensors.\n"
    )
    expected = ((10, 3.25, 3), (20, 2.875, 5))
    expected_evals = ((1, None, 3.5, 2), (20, None, 2.75, 4))


class TestKerasFit(LinesContract):
    reader = "keras-fit"
    sample = (
        "Epoch 1/2\n\r 12/125 [=>............................] - ETA: 3s - loss: 2.3000 - accuracy: 0.1250"
        "\x08\x08\x08\r125/125 [==============================] - 4s 31ms/step - loss: 1.7500 - accuracy: 0.4000"
        " - val_loss: 1.5000 - val_accuracy: 0.4500\nEpoch 2/2\n"
        "125/125 [==============================] - 4s 30ms/step - loss: 1.2500 - accuracy: 0.5500 "
        "- val_loss: 1.3750 - val_accuracy: 0.5000\n"
    )
    expected = ((1, 1.75, 2), (2, 1.25, 4))
    expected_evals = ((1, None, 1.5, 2), (2, None, 1.375, 4))


class TestOpenNmt(LinesContract):
    reader = "opennmt"
    sample = (
        "[2022-02-02 10:00:00,000 INFO] Step 50/ 1000; acc:  12.50; ppl: 54.60; xent: 4.00; lr: 0.00100; "
        "9000/8000 tok/s;     10 sec\n"
        "[2022-02-02 10:00:10,000 INFO] Step 100/ 1000; acc:  25.00; ppl: 20.09; xent: 3.00; lr: 0.00200; "
        "9000/8000 tok/s;     20 sec\n"
        "[2022-02-02 10:00:12,000 INFO] Validation perplexity: 7.38906\n"
        "[2022-02-02 10:00:12,000 INFO] Validation accuracy: 48.5\n"
    )
    expected = ((50, 4.0, 1), (100, 3.0, 2))
    expected_evals = ((100, None, 2.0, 3),)

    def test_line_numbers_hold_the_row(self) -> None:
        (run,) = self.runs()
        assert run.iters["line"].to_list() == [1, 2]


class TestMaxText(LinesContract):
    reader = "maxtext"
    sample = (
        "completed step: 0, seconds: 9.500, TFLOP/s/device: 12.5, Tokens/s/device: 862.3, total_weights: 8192, "
        "loss: 10.750\n"
        "completed step: 1, seconds: 0.750, TFLOP/s/device: 158.1, Tokens/s/device: 10922.7, total_weights: 8192, "
        "loss: 10.500\neval metrics after step: 1, loss=10.250, total_weights=65536.0\n"
    )
    expected = ((0, 10.75, 1), (1, 10.5, 2))
    expected_evals = ((1, None, 10.25, 3),)


class TestLevanter(LinesContract):
    reader = "levanter"
    sample = (
        "2024-06-01T00:00:00 - 0 - levanter.callbacks - progress.py:55 - INFO :: Progress on:train 10it/100it "
        "rate:1.2it/s remaining:01:15 elapsed:00:12 postfix:loss=9.500\n"
        "2024-06-01T00:00:10 - 0 - levanter.callbacks - progress.py:55 - INFO :: Progress on:train 20it/100it "
        "rate:1.2it/s remaining:01:06 elapsed:00:22 postfix:loss=8.250\n"
    )
    expected = ((10, 9.5, 1), (20, 8.25, 2))


class TestTorchtune(LinesContract):
    reader = "torchtune"
    sample = (
        "Step 1 | loss:1.75 lr:2e-05 tokens_per_second_per_gpu:812.5 grad_norm:3.5 \n"
        "Step 2 | loss:1.5 lr:2e-05 tokens_per_second_per_gpu:820.25 grad_norm:2.25 \n"
    )
    expected = ((1, 1.75, 1), (2, 1.5, 2))


class TestDeepSpeed(LinesContract):
    reader = "deepspeed"
    sample = (
        "[2023-01-01 00:00:00,000] [INFO] [logging.py:96:log_dist] [Rank 0] step=10, skipped=0, lr=[0.001], "
        "mom=[(0.9, 0.999)]\n"
        "steps: 10 loss: 7.5000 iter time (s): 0.512 samples/sec: 62.500\n"
        "steps: 20 loss: 6.2500 iter time (s): 0.500 samples/sec: 64.000\n"
    )
    expected = ((10, 7.5, 2), (20, 6.25, 3))


class TestMiniMind(LinesContract):
    reader = "minimind"
    sample = (
        "Epoch:[1/2](0/400) loss:8.750 lr:0.000550000000 epoch_Time:31.0min:\n"
        "Epoch:[1/2](200/400) loss:5.500 lr:0.000500000000 epoch_Time:15.0min:\n"
        "Epoch:[2/2](0/400) loss:4.250 lr:0.000300000000 epoch_Time:30.0min:\n"
    )
    expected = ((0, 8.75, 1), (200, 5.5, 2), (400, 4.25, 3))


class TestIgnite(LinesContract):
    reader = "ignite"
    sample = (
        "Epoch[1] Iteration[10/20] Loss: 2.25\nEpoch[1] Iteration[20/20] Loss: 1.75\n"
        "Validation Results - Epoch: 1 Avg accuracy: 0.50 Avg loss: 1.625\n"
        "Epoch[2] Iteration[10/20] Loss: 1.50\n"
    )
    expected = ((10, 2.25, 1), (20, 1.75, 2), (30, 1.5, 4))
    expected_evals = ((20, None, 1.625, 3),)

    def test_line_numbers_hold_the_row(self) -> None:
        assert self.runs()[0].iters["line"].to_list() == [1, 2, 4]


class TestInferred(LinesContract):
    reader = "inferred"
    sample = (
        "starting on 2 devices\n"
        "[epoch 1] update 10 | my loss 4.5 | train loss 4.25 | speed 1.5 it/s\n"
        "[epoch 1] update 20 | my loss 4.0 | train loss 3.75 | speed 1.5 it/s\n"
        "held out: val loss 3.5\n"
        "[epoch 1] update 30 | my loss 3.5 | train loss 3.25 | speed 1.5 it/s\n"
        "held out: val loss 3.125\n"
    )
    expected = ((10, 4.25, 2), (20, 3.75, 3), (30, 3.25, 5))
    expected_evals = ((20, None, 3.5, 4), (30, None, 3.125, 6))

    def test_line_numbers_hold_the_row(self) -> None:
        assert self.runs()[0].iters["line"].to_list() == [2, 3, 5]
