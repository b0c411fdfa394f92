"""What the single formats say besides their rows: settings, units, noise that is healthy."""

from __future__ import annotations

import pytest

from lossgap.runs.readers import detect
from lossgap.runs.readers.base import Run
from lossgap.runs.readers.origin import HEAD_BYTES

from . import test_contract as cases
from .contract import ReaderContract, source_of


def read(name: str, text: str) -> Run:
    (run,) = detect.reader(name).read(source_of(text))
    return run


def sample(case: type[ReaderContract]) -> str:
    text = case.sample
    assert isinstance(text, str)
    return text


def test_llmc_heading_and_healthy_nan() -> None:
    run = read("llmc", sample(cases.TestLlmC))
    assert run.config["gradient_accumulation_steps"] == 4
    assert (run.config["batch_size"], run.config["block_size"], run.config["max_iters"]) == (4, 64, 9)
    assert run.tokens_per_iter == 1024
    assert run.iters["mfu"].to_list() == [None, 0.45]
    assert run.iters["lr"].to_list() == [2.9e-06, 5.7e-06]
    assert run.iters["why"].null_count() == 2
    assert run.notes == []


def test_modded_nanogpt_reads_constants_of_its_source_only() -> None:
    run = read("modded-nanogpt", sample(cases.TestModdedNanoGPT))
    source = str(run.config.pop("source_code"))
    assert source.startswith("sha256 ")
    assert run.config == {"sequences_per_update": 8, "block_size": 64, "max_iters": 3}
    assert run.tokens_per_iter == 512
    assert run.device == "NVIDIA H100 80GB HBM3"
    assert run.iters["seconds"].to_list() == [31.613, 31.724]
    assert run.not_understood.count == 0


def test_parameter_golf_heading_and_final_values() -> None:
    run = read("modded-nanogpt", sample(cases.TestParameterGolf))
    assert run.tokens_per_iter == 4096
    assert run.parameters["total"] == 1000
    assert (run.config["block_size"], run.config["world_size"], run.config["max_iters"]) == (64, 8, 9)
    assert run.final is not None
    assert (run.final["val_loss"], run.final["val_bpb"]) == (6.95, 4.11)
    assert run.evals["val_bpb"].to_list() == [4.1077]
    assert run.series["evals.val_bpb"].unit == "bits/byte"


def test_nanochat_units() -> None:
    run = read("nanochat", sample(cases.TestNanochat))
    assert run.series["iters.loss"].kind == "moving-average"
    assert run.series["evals.val_bpb"].unit == "bits/byte"
    assert "evals.val_loss" not in run.series
    assert run.tokens_per_iter == 65_536
    assert [item.name for item in run.inferred] == ["tokens_per_iter"]
    assert run.iters["seconds"].to_list() == [None, 30.0]
    assert run.corpus["vocab_size"] == 32_768
    assert run.best_eval is not None
    assert run.best_eval["val_bpb"] == 1.25


def test_build_nanogpt_passes_over_generated_text() -> None:
    run = read("build-nanogpt", sample(cases.TestBuildNanoGPT))
    assert run.not_understood.count == 0
    assert any("2 times" in note.text and "generated" in note.text for note in run.notes)
    assert run.others.rows() == [("hellaswag", 0, 0.25, 4)]
    assert run.series["iters.loss"].kind == "batch"


def test_build_nanogpt_validation_belongs_to_the_step_after_it() -> None:
    tail = "lr 1.0000e-04 | norm: 1.0000 | dt: 9.00ms | tok/sec: 9.00\n"
    text = f"step     7 | loss: 5.000000 | {tail}...\nvalidation loss: 4.0000\nstep   250 | loss: 4.100000 | {tail}"
    assert read("build-nanogpt", text).evals["iter"].to_list() == [250]
    assert read("build-nanogpt", text.partition("step   250")[0]).evals["iter"].to_list() == [8]


def test_our_stdout_is_ours() -> None:
    run = read("lossgap", sample(cases.TestOurStdout))
    assert run.format == "lossgap"
    assert run.peak["source"] == "1.2e+11 FLOP/s (measured)"
    assert run.config["batch_size"] == 4
    # Pasted behind other lines, nanoGPT's reader takes it and still knows whose it is.
    assert read("nanogpt", "hello\n" + sample(cases.TestOurStdout)).format == "lossgap"


@pytest.mark.parametrize("case", [cases.TestModdedNanoGPT, cases.TestNanochat, cases.TestLlmC])
def test_rows_far_behind_the_beginning_are_found(case: type[ReaderContract]) -> None:
    far = "# a long preamble\n" * (2 * HEAD_BYTES // 18) + sample(case)
    assert detect.detect(source_of(far)).name == case.reader


def test_a_tail_just_behind_the_head_is_looked_at() -> None:
    preamble = "# a long preamble\n" * (HEAD_BYTES // 18 + 20)
    assert detect.detect(source_of(preamble + sample(cases.TestParameterGolf))).name == "modded-nanogpt"


LATER_GOLF = (
    "1700000000.123 Hyperparameters:\n"
    "1700000000.123   datasets_dir: /data/corpus_sp64\n"
    "1700000000.123   layers_str: 4,5\n"
    "1700000000.123   matrix_lr: 0.02\n"
    "1700000000.123   num_layers: 3\n"
    "1700000000.123   run_id: a-b-c\n"
    "1700000000.123   train_batch_tokens: 4096\n"
    "1700000000.123   val_loss_every: 4\n"
    "1700000000.123 model_params:1000\n"
    "1700000001.123 0/9 val_loss: 8.3000 val_bpb: 3.6000\n"
    "1700000002.123 1/9 train_loss: 8.3100 train_time: 0.0m tok/s: 8494972\n"
    "1700000003.123 4/9 train_loss: 3.0000 train_time: 1.5m tok/s: 8494972\n"
    "1700000004.123 4/9 val_loss: 2.9000 val_bpb: 1.2000\n"
    "1700000005.123 diagnostic pre-quantization post-ema val_loss:2.88000000 val_bpb:1.19000000 eval_time:9ms\n"
    "1700000006.123 quantized_ttt val_loss:2.85000000 val_bpb:1.17000000 eval_time:9ms\n"
)


def test_parameter_golf_s_later_rows_and_its_list_of_settings() -> None:
    run = read("modded-nanogpt", LATER_GOLF)
    assert run.not_understood.count == 0
    assert run.iters.select("iter", "loss", "seconds").rows() == [(1, 8.31, 0.0), (4, 3.0, 90.0)]
    assert run.evals.select("iter", "val_loss", "val_bpb").rows() == [(0, 8.3, 3.6), (4, 2.9, 1.2)]
    assert (run.tokens_per_iter, run.parameters["total"]) == (4096, 1000)
    assert run.config == {
        "dataset": "corpus", "layers_str": "4,5", "matrix_lr": 0.02, "num_layers": 3, "eval_interval": 4,
        "max_iters": 9,
    }  # fmt: skip
    assert run.final is not None
    assert (run.final["val_loss"], run.final["why"]) == (2.85, "quantized_ttt")


def test_parameter_golf_is_known_by_its_list_where_the_rows_are_hidden() -> None:
    text = LATER_GOLF.partition("1700000001")[0] + "# other lines\n" * HEAD_BYTES
    assert detect.detect(source_of(text)).name == "modded-nanogpt"


def test_parameter_golf_s_settings_in_one_line_and_rows_with_several_terms() -> None:
    run = read(
        "modded-nanogpt",
        "--- Hyperparameters ---\nbeta1=0.9 embed_dim=8 iterations=9 logfile= model_dim=16 train_batch_tokens=64\n"
        "step:2/9 loss:1.2700 aux:0.0035 ce:1.1400 t:1500ms step_avg:107.4ms\n"
        "step:4/9 [CE] train_loss:1.1000 lr_mul:0.5 train_time:2500ms step_avg:868.31ms\n",
    )
    assert run.config == {"beta1": 0.9, "embed_dim": 8, "max_iters": 9, "model_dim": 16}
    assert run.iters.select("iter", "loss", "seconds").rows() == [(2, 1.27, 1.5), (4, 1.1, 2.5)]


def test_two_programs_at_the_head_of_modded_nanogpt_s_logs_are_told_apart() -> None:
    text = sample(cases.TestModdedNanoGPT)
    run, other = read("modded-nanogpt", text), read("modded-nanogpt", text.replace("import sys", "import os"))
    assert run.config["source_code"] == read("modded-nanogpt", text).config["source_code"]
    assert run.config["source_code"] != other.config["source_code"]


def test_nanochat_s_fine_tuning() -> None:
    run = read(
        "nanochat",
        "Step 00000 | Validation loss: 1.009000\n"
        "Step 00000/00003 | Training loss: 0.840000| lrm: 1.000000| num_tokens: 15,432\n"
        "Step 00001/00003 | Training loss: 0.850000| lrm: 0.500000| num_tokens: 15,909\n",
    )
    assert run.iters["loss"].to_list() == [0.84, 0.85]
    assert run.series["iters.loss"].kind == "micro-batch"
    assert run.evals["val_loss"].to_list() == [1.009]
    assert run.config["max_iters"] == 3


def test_build_nanogpt_with_double_bars() -> None:
    run = read("build-nanogpt", "step 7 || loss: 3.5000 || norm: 0.2500 || elapsed_time: dt=466.5ms || tok/sec: 1.00\n")
    assert run.iters.select("iter", "loss", "grad_norm", "ms").rows() == [(7, 3.5, 0.25, 466.5)]


def test_modded_nanogpt_s_rows_of_time_only() -> None:
    run = read(
        "modded-nanogpt",
        "step:0/2 val_loss:10.8000 train_time:0ms step_avg:0.04ms\nstep:1/2 train_time:90ms step_avg:90.29ms\n"
        "step:2/2 train_time:124ms step_avg:61.94ms\nstep:2/2 val_loss:9.9000 train_time:125ms step_avg:62.50ms\n",
    )
    assert run.iters.select("iter", "loss", "seconds").rows() == [(1, None, 0.09), (2, None, 0.124)]
    assert run.evals["val_loss"].to_list() == [10.8, 9.9]
    assert run.not_understood.count == 0
