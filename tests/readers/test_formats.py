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
