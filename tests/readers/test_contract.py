"""The contract, for the readers of text logs, figures and our own record."""

from __future__ import annotations

from .contract import ReaderContract


class TestNanoGPT(ReaderContract):
    reader = "nanogpt"
    sample = (
        "Overriding config with config/tiny.py:\n# a comment\nbatch_size = 4 * 2 # two\nout_dir = 'out'\n\n"
        "Overriding: batch_size = 6\n"
        "tokens per iteration will be: 384\n"
        "step 0: train loss 4.1000, val loss 4.2000\n"
        "iter 0: loss 4.3000, time 900.50ms, mfu -100.00%\n"
        "iter 1: loss 4.0000, time 30.50ms, mfu 1.50%\n"
        "step 2: train loss 3.1000, val loss 3.2000\n"
        "saving checkpoint to out\n"
        "iter 2: loss 3.9000, time 90.50ms, mfu 1.40%\n"
    )
    expected = ((0, 4.3, 9), (1, 4.0, 10), (2, 3.9, 13))
    expected_evals = ((0, 4.1, 4.2, 8), (2, 3.1, 3.2, 11))


class TestBuildNanoGPT(ReaderContract):
    reader = "build-nanogpt"
    sample = (
        "total desired batch size: 4096\n=> calculated gradient accumulation steps: 2\n"
        "validation loss: 10.9000\nHellaSwag accuracy: 25/100=0.2500\n"
        "step     0 | loss: 10.950000 | lr 8.3916e-07 | norm: 15.3000 | dt: 2300.00ms | tok/sec: 1780.00\n"
        "step     1 | loss: 10.900000 | lr 1.6783e-06 | norm: 14.8000 | dt: 410.00ms | tok/sec: 9990.24\n"
        "validation loss: 9.5000\n"
        "rank 0 sample 0: I said, step on it\nand then some more\n"
        "step     2 | loss: 10.800000 | lr 2.5175e-06 | norm: 14.4000 | dt: 416.00ms | tok/sec: 9846.15\n"
    )
    expected = ((0, 10.95, 5), (1, 10.9, 6), (2, 10.8, 10))
    expected_evals = ((0, None, 10.9, 3), (2, None, 9.5, 7))


class TestBuildNanoGPTLog(ReaderContract):
    reader = "build-nanogpt"
    file_name = "log.txt"
    sample = "0 val 10.9000\n0 hella 0.2500\n0 train 10.950000\n1 train 10.900000\n2 val 9.5000\n2 train 10.800000\n"
    expected = ((0, 10.95, 3), (1, 10.9, 4), (2, 10.8, 6))
    expected_evals = ((0, None, 10.9, 1), (2, None, 9.5, 5))


class TestNanochat(ReaderContract):
    reader = "nanochat"
    sample = (
        "Vocab size: 32,768\nnum_layers: 4\n"
        "step 00001/00003 (33.33%) | loss: 10.400000 | lrm: 0.50 | dt: 1000.00ms | tok/sec: 65,536 | mfu: 12.50 | "
        "total time: 0.00m\n"
        "step 00002/00003 (66.67%) | loss: 9.300000 | lrm: 1.00 | dt: 1000.00ms | tok/sec: 65,536 | mfu: 12.50 | "
        "total time: 0.50m\n"
        "Step 00002 | Validation bpb: 1.250000\n"
    )
    expected = ((1, 10.4, 3), (2, 9.3, 4))
    expected_evals = ((2, None, None, 5),)


class TestLlmC(ReaderContract):
    reader = "llmc"
    sample = (
        "| micro batch size B    | 4                                                  |\n"
        "batch_size B=4 * seq_len T=64 * num_processes=2 and total_batch_size=1024\n=> setting grad_accum_steps=2\n"
        "val loss 11.006000\n"
        "step    1/9 | loss 11.007000 (+nanz)| norm 16.3000 (+nanz)| lr 2.9e-06 | 2734.7 ms | -100.0% bf16 MFU | 9\n"
        "step    2/9 | loss 10.829000 (+nanz)| norm 15.0000 (+nanz)| lr 5.7e-06 | 2391.5 ms | 45.0% bf16 MFU | 9 t/s\n"
        "val loss 10.700000\n"
    )
    expected = ((1, 11.007, 5), (2, 10.829, 6))
    expected_evals = ((0, None, 11.006, 4), (2, None, 10.7, 7))


class TestLlmCMain(ReaderContract):
    reader = "llmc"
    file_name = "main.log"
    sample = (
        "s:0 tel:10.9830\ns:0 trl:10.9656 lr:0.000003 norm:15.00\ns:1 trl:10.8140\ns:2 tel:6.3097\ns:2 eval:0.2500\n"
    )
    expected = ((0, 10.9656, 2), (1, 10.814, 3))
    expected_evals = ((0, None, 10.983, 1), (2, None, 6.3097, 4))


class TestModdedNanoGPT(ReaderContract):
    reader = "modded-nanogpt"
    sample = (
        "import sys\nclass Hyperparameters:\n    batch_size : int = 8 # sequences\n    sequence_length : int = 4*16\n"
        "    num_iterations : int = 3\n\n"
        "args = 'step:1/3 train_loss:9.9999 train_time:1ms'\n"
        "print0(f'step:{step}/{args.num_iterations} val_loss:{val_loss:.4f} train_time:{t:.0f}ms step_avg:{a:.2f}ms')\n"
        + "="
        * 100
        + "\nRunning pytorch 2.6\n|   0  NVIDIA H100 80GB HBM3          On  | 0000 |\n"
        "step:0/3 val_loss:10.8258 train_time:0ms step_avg:nanms\n"
        "step:1/3 train_loss:10.8200 train_time:31613ms step_avg:nanms\n"
        "step:2/3 train_loss:10.0700 train_time:31724ms step_avg:15862.00ms\n"
        "step:2/3 val_loss:9.9000 train_time:31725ms step_avg:15862.50ms\n"
    )
    expected = ((1, 10.82, 13), (2, 10.07, 14))
    expected_evals = ((0, None, 10.8258, 12), (2, None, 9.9, 15))


class TestParameterGolf(ReaderContract):
    reader = "modded-nanogpt"
    sample = (
        "model_params:1000\nworld_size:8 grad_accum_steps:1\ntrain_batch_tokens:4096 train_seq_len:64 iterations:9\n"
        "warmup_step:1/20\n"
        "step:0/9 val_loss:6.9357 val_bpb:4.1077 train_time:0ms step_avg:0.02ms\n"
        "step:1/9 train_loss:6.9370 train_time:27ms step_avg:27.23ms\n"
        "final_int8_zlib_roundtrip val_loss:6.9500 val_bpb:4.1100 eval_time:1ms\n"
    )
    expected = ((1, 6.937, 6),)
    expected_evals = ((0, None, 6.9357, 5),)


class TestFigures(ReaderContract):
    reader = "figures"
    file_name = "gpu.toml"
    sample = (
        '[run]\nname = "a card"\ndevice = "RTX"\niteration = 10\ntrain_loss = 0.60\nval_loss = 1.70\niter_loss = 0.8\n'
        "mfu = 10.00\nms = 40\n[[evals]]\niteration = 5\nval_loss = 2.0\n[[iters]]\niteration = 7\nms = 39.5\n"
        "[config]\nbatch_size = 64\n"
    )
    expected = ((7, None, None), (10, 0.8, None))
    expected_evals = ((5, None, 2.0, None), (10, 0.6, 1.7, None))


class TestOurStdout(ReaderContract):
    reader = "lossgap"
    sample = (
        "lossgap 0.1.0, mfu relative to 1.2e+11 FLOP/s (measured), time without evaluation\n"
        "Overriding config with preset tiny:\nbatch_size = 4\n\n"
        "tokens per iteration will be: 256\n"
        "step 0: train loss 4.1000, val loss 4.2000\n"
        "iter 0: loss 4.3000, time 30.50ms, mfu 1.50%\n"
    )
    expected = ((0, 4.3, 7),)
    expected_evals = ((0, 4.1, 4.2, 6),)
