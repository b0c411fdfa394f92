"""capacity, context, data."""

from __future__ import annotations

import math
from dataclasses import replace

import polars as pl
import pytest

from comparison.findings.answer import ask, laptop
from comparison.made import LAPTOP, curve, run
from lossgap.runs.run import Run


def test_a_larger_model_is_the_cause_of_a_lower_loss() -> None:
    found = ask("capacity", laptop(), laptop(1.5, n_layer=6, n_embd=384)).cause
    assert (found.strength, found.evidence) == ("strong", "computed")
    ratio = float(str(found.numbers["ratio"]))
    assert ratio == pytest.approx(13.4, abs=0.05)
    assert found.effect == pytest.approx(-0.076 * 1.9 * math.log(ratio))
    assert found.command.startswith("lossgap train shakespeare_char --eval_iters=20 --batch_size=12 --block_size=64")


def test_beside_a_decoy_the_larger_model_is_likely_and_a_tiny_change_only_possible() -> None:
    test = laptop(1.5, n_layer=6, n_embd=384, beta2=0.98)
    control = laptop(beta2=0.99)
    assert ask("capacity", control, test).cause.strength == "likely"
    assert ask("optimizer", control, test).cause.strength == "possible"


@pytest.mark.parametrize("harmless", [{"eval_interval": 50}, {"out_dir": "x"}, {"seed": 7}, {"compile": True}])
def test_a_harmless_setting_beside_it_changes_nothing(harmless: dict[str, object]) -> None:
    assert ask("capacity", laptop(), laptop(1.5, n_layer=6, n_embd=384, also=harmless)).cause.strength == "strong"


def test_a_larger_model_that_ends_higher_is_still_the_only_difference() -> None:
    found = ask("capacity", laptop(1.5), laptop(1.9, n_layer=6, n_embd=384)).cause
    assert (found.strength, found.effect) == ("likely", None)
    beside = ask("capacity", laptop(1.5), laptop(1.9, n_layer=6, n_embd=384, dropout=0.5))
    assert not beside.causes
    assert "pushes the other way" in beside.remark.text


def test_elimination_needs_the_other_settings() -> None:
    unknown = ("dropout",)
    found = ask("capacity", laptop(without=unknown), laptop(1.5, n_layer=6, n_embd=384, without=unknown)).cause
    assert found.strength == "likely"


def test_another_split_of_the_same_update_is_no_second_difference() -> None:
    split = {"batch_size": 3, "gradient_accumulation_steps": 4}
    assert ask("capacity", laptop(), laptop(1.5, n_embd=384, also=split)).cause.strength == "strong"


def test_equal_models_are_ruled_out_and_printed_counts_do_without_settings() -> None:
    assert ask("capacity", laptop(), laptop(1.5)).silent
    shape = ("n_layer", "n_head", "n_embd")
    control = replace(laptop(without=shape), parameters={"nanogpt_count": 800_000})
    test = replace(laptop(1.5, without=shape), parameters={"nanogpt_count": 8_000_000})
    assert ask("capacity", control, test).cause.numbers["ratio"] == 10


def test_an_unknown_model_is_named() -> None:
    answer = ask("capacity", laptop(without=("n_embd",)), laptop(1.5))
    assert not answer.causes
    assert "control.n_embd" in answer.needs


def test_other_heads_at_equal_parameters_are_a_cause_of_either_sign() -> None:
    for end in (1.8, 2.0):
        found = ask("capacity", laptop(), laptop(end, n_head=1)).cause
        assert (found.strength, found.effect) == ("strong", None)
        assert found.size == pytest.approx(0.03)
        assert "sign of its effect is not known" in found.text
    assert ask("capacity", laptop(), laptop(2.4, n_head=1)).cause.strength == "possible"


def test_a_longer_context() -> None:
    found = ask("context", laptop(), laptop(1.5, block_size=256)).cause
    assert found.effect == pytest.approx(-0.05 * math.log(4))
    assert found.numbers["ratio"] == 4
    assert ask("context", laptop(), laptop(1.5)).silent
    assert ask("context", laptop(without=("block_size",)), laptop(1.5)).needs == ("control.block_size",)


def test_other_data_by_hash_by_size_and_by_name() -> None:
    control, test = laptop(), laptop(1.5)
    hashed = [replace(item, corpus={"sha256": value}) for item, value in ((control, "a"), (test, "b"))]
    assert "hash" in ask("data", *hashed).cause.text
    assert ask("data", hashed[0], replace(test, corpus={"sha256": "a"})).silent
    assert ask("data", control, laptop(1.5, dataset="my_text")).cause.strength == "strong"
    sized = [
        replace(laptop(end, without=("dataset",)), corpus={"train_tokens": n}) for end, n in ((1.9, 1000), (1.5, 2000))
    ]
    assert "sizes" in ask("data", *sized).cause.text


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("shakespeare_char", "tinyshakespeare"),
        ("/home/a/data/x", "D:\\work\\x"),
        ("shakespeare_char", "shakespeare_char"),
    ],
)
def test_one_corpus_under_two_names_is_no_cause(first: str, second: str) -> None:
    assert ask("data", laptop(dataset=first), laptop(1.5, dataset=second)).silent


def test_unknown_data_is_named() -> None:
    assert ask("data", run(curve(1.9), config={}), run(curve(1.5), config=LAPTOP)).needs == ("control.dataset",)


def _starting(train: float, val: float, end: float = 1.9) -> Run:
    made = laptop(end)
    first = pl.col("iter") == 0
    changed = made.evals.with_columns(
        train_loss=pl.when(first).then(train).otherwise(pl.col("train_loss")),
        val_loss=pl.when(first).then(val).otherwise(pl.col("val_loss")),
    )
    return replace(made, evals=changed)


def test_equal_val_and_other_train_losses_at_the_start_show_other_training_text() -> None:
    found = ask("data", _starting(4.4542, 4.4699), _starting(4.4465, 4.4699, 2.3)).cause
    assert found.numbers["split"] == "train"
    assert ask("data", _starting(4.4542, 4.4699), _starting(4.4542, 4.47, 2.3)).cause.numbers["split"] == "val"
    for other in (_starting(4.4542, 4.4699, 2.3), _starting(4.4465, 4.47, 2.3)):
        assert ask("data", _starting(4.4542, 4.4699), other).ruled_out


def test_one_text_in_other_numbers_is_another_order_of_the_vocabulary() -> None:
    def made(tokens: str, end: float = 1.9, init_from: str = "scratch") -> Run:
        return replace(laptop(end, init_from=init_from), corpus={"sha256": "a", "tokens_sha256": tokens})

    assert "another seed" in ask("data", made("b"), made("c")).remark.text
    assert "trained weights" in ask("data", made("b"), made("c", 2.4, "resume")).cause.text
    assert ask("data", made("b"), made("b")).ruled_out
