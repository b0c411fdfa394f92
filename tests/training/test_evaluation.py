"""Evaluation against straightforward reimplementations: nanoGPT's loop, and one token after the other."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lossgap import random
from lossgap.corpus import Corpus, exact_windows
from lossgap.errors import CorpusError
from lossgap.evaluation import losses as evaluation
from lossgap.evaluation.losses import BLOCKS, alike, score, score_alike
from lossgap.evaluation.same_targets import Windows
from lossgap.evaluation.splits import Evaluator
from lossgap.gpt import GPT
from lossgap.random import Int64, Split
from lossgap.runs.run import read_run
from lossgap.training import optimizer
from lossgap.training.draws import CounterDraws

from .small import Ended
from .tiny_run import config, document, model, numerics, rows

T = 16
VOCABULARY = 22


def corpus(train_tokens: int, val_tokens: int) -> Corpus:
    """Tokens with some structure, so that windows differ in their loss."""
    ids = np.random.default_rng(5).zipf(1.5, train_tokens + val_tokens) % VOCABULARY
    tokens = ids.astype(np.uint16)
    return Corpus(
        name="made",
        source="made here",
        sha256="",
        tokens_sha256="",
        hash_method="",
        train=tokens[:train_tokens],
        val=tokens[train_tokens:],
        vocab_size=VOCABULARY,
        tokenizer=None,
    )


@pytest.fixture(scope="module")
def gpt() -> GPT:
    """A model in training mode, with dropout, whose loss depends strongly on what it reads."""
    made = model(config(dropout=0.3), VOCABULARY)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4.0)
    return made.train()


def evaluator(on: Corpus) -> Evaluator:
    return Evaluator(on, numerics(config()))


def draws(seed: int = 1337) -> CounterDraws:
    return CounterDraws(seed, keyed_dropout=True)


def loss_token_by_token(gpt: GPT, tokens: np.ndarray, start: int, length: int) -> float:
    """Mean loss of the targets of one window, each predicted from what stands before it in the window."""
    total = 0.0
    for target in range(start + 1, start + length + 1):
        logits, _ = gpt(torch.from_numpy(tokens[start:target].astype(np.int64))[None])
        total -= float(torch.log_softmax(logits[0, -1].double(), dim=-1)[int(tokens[target])])
    return total / length


def estimate_loss(
    gpt: GPT, tokens: np.ndarray, split: Split, seed: int, eval_iters: int, batch_size: int
) -> list[float]:
    """The loss of each batch, as nanoGPT's loop would have them on the windows of (seed, split, k)."""
    starts = random.eval_starts(seed, split, range(eval_iters * batch_size), len(tokens), T)
    losses = []
    for k in range(eval_iters):
        batch = [tokens[s : s + T + 1].astype(np.int64) for s in starts[k * batch_size : (k + 1) * batch_size]]
        x = torch.stack([torch.from_numpy(window[:-1]) for window in batch])
        y = torch.stack([torch.from_numpy(window[1:]) for window in batch])
        logits, _ = gpt(x, y)
        losses.append(torch.nn.functional.cross_entropy(logits.view(-1, VOCABULARY), y.view(-1)).item())
    return losses


@torch.no_grad()
def test_sampled_is_nanogpts_estimate_loss(gpt: GPT) -> None:
    on = corpus(3000, 500)
    result = evaluator(on).sampled(gpt, draws(7), 40, eval_iters=6, batch_size=4)
    gpt.eval()
    splits: tuple[Split, Split] = ("train", "val")
    for split, loss, error in zip(
        splits, (result.train_loss, result.val_loss), (result.train_se, result.val_se), strict=True
    ):
        losses = estimate_loss(gpt, on.tokens(split), split, 7, 6, 4)
        assert loss == torch.tensor(losses).mean().item()
        assert error == pytest.approx(np.std(losses, ddof=1) / math.sqrt(6), rel=1e-12)
    gpt.train()
    assert (result.iter, result.mode, result.eval_iters) == (40, "sampled", 6)
    assert (result.context, result.stride, result.windows) == (T, None, 24)


def test_standard_error_is_the_spread_over_seeds(gpt: GPT) -> None:
    """200 seeds draw 200 sets of windows: their means scatter as the standard errors say."""
    ours = evaluator(corpus(3000, 2000))
    results = [ours.sampled(gpt, draws(seed), 0, eval_iters=8, batch_size=2) for seed in range(200)]
    for losses, errors in (
        ([r.train_loss for r in results], [r.train_se for r in results]),
        ([r.val_loss for r in results], [r.val_se for r in results]),
    ):
        expected = math.sqrt(statistics.fmean([error**2 for error in errors if error is not None]))
        # The deviation of 200 values has a relative error of 1 / sqrt(2 * 199) = 5%: four of them.
        assert statistics.stdev(losses) == pytest.approx(expected, rel=0.2)


def test_one_batch_tells_no_standard_error(gpt: GPT) -> None:
    result = evaluator(corpus(3000, 500)).sampled(gpt, draws(), 0, eval_iters=1, batch_size=4)
    assert result.train_se is result.val_se is None


class RecordingDraws(CounterDraws):
    """Remembers every window that was asked for."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, keyed_dropout=True)
        self.starts: dict[Split, list[int]] = {"train": [], "val": []}

    def eval_starts(self, split: Split, windows: range, n_tokens: int, block_size: int) -> Int64:
        found = super().eval_starts(split, windows, n_tokens, block_size)
        self.starts[split] += found.tolist()
        return found


def windows_of(gpt: GPT, iteration: int, eval_iters: int, batch_size: int) -> dict[Split, list[int]]:
    recording = RecordingDraws(3)
    evaluator(corpus(3000, 500)).sampled(gpt, recording, iteration, eval_iters, batch_size)
    return recording.starts


def test_windows_are_the_same_at_every_evaluation(gpt: GPT) -> None:
    assert windows_of(gpt, 0, 6, 4) == windows_of(gpt, 2000, 6, 4)
    assert windows_of(gpt, 0, 6, 4)["train"] != windows_of(gpt, 0, 6, 4)["val"]


def test_more_eval_iters_begin_with_the_same_windows(gpt: GPT) -> None:
    few, many = windows_of(gpt, 0, 3, 4), windows_of(gpt, 0, 9, 4)
    for split in few:
        assert len(few[split]) == 12
        assert many[split][:12] == few[split]
        assert len(set(many[split])) > 20, "not one window again and again"
    assert windows_of(gpt, 0, 6, 6) == many


@torch.no_grad()
@pytest.mark.parametrize("val_tokens", [13 * T + 11, 12 * T + 1, 12 * T + 2, T, 2])
def test_exact_scores_every_target_of_val_once(gpt: GPT, val_tokens: int) -> None:
    """Whatever the last window is: shorter, full, a single target, the only one."""
    on = corpus(2000, val_tokens)
    result = evaluator(on).exact(gpt, 5)
    gpt.eval()
    starts, lengths = exact_windows(val_tokens, T)
    total = sum(
        loss_token_by_token(gpt, on.val, start, length) * length for start, length in zip(starts, lengths, strict=True)
    )
    gpt.train()
    assert sum(lengths) == val_tokens - 1
    assert result.val_loss == pytest.approx(total / (val_tokens - 1), rel=1e-6)
    assert result.val_se == 0.0
    assert (result.iter, result.mode, result.eval_iters) == (5, "exact", None)
    assert (result.context, result.stride, result.windows) == (T, T, math.ceil((val_tokens - 1) / T))


@torch.no_grad()
@pytest.mark.parametrize(("train_tokens", "windows"), [(2000, 8), (5 * T + 3, 5)])
def test_exact_on_train_takes_as_many_spread_windows(gpt: GPT, train_tokens: int, windows: int) -> None:
    """As many as val has (8, the last one shorter), or as many as fit side by side."""
    on = corpus(train_tokens, 7 * T + 5)
    result = evaluator(on).exact(gpt, 0)
    starts = np.round(np.linspace(0, train_tokens - T - 1, windows) - 0.499).astype(int)
    assert np.diff(starts).min() >= T
    gpt.eval()
    losses = [loss_token_by_token(gpt, on.train, start, T) for start in starts]
    gpt.train()
    assert result.train_loss == pytest.approx(statistics.fmean(losses), rel=1e-6)
    assert result.train_se == pytest.approx(statistics.stdev(losses) / math.sqrt(windows), rel=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("val_tokens", "blocks"), [(13 * T + 11, 7), (500, 256), (9, 256)])
def test_stretches_are_cut_by_token(gpt: GPT, val_tokens: int, blocks: int) -> None:
    """Each target counts in one stretch, whichever window it is in; sizes differ by one target at most."""
    on = corpus(2000, val_tokens)
    result = evaluator(on).exact(gpt, 0, blocks=blocks)
    gpt.eval()
    losses = [
        loss_token_by_token(gpt, on.val, at // T * T, at % T + 1) * (at % T + 1)
        - (loss_token_by_token(gpt, on.val, at // T * T, at % T) * (at % T) if at % T else 0.0)
        for at in range(val_tokens - 1)
    ]
    gpt.train()
    n, K = val_tokens - 1, min(blocks, val_tokens - 1)
    stretches = [[loss for at, loss in enumerate(losses) if at * K // n == k] for k in range(K)]
    assert {len(stretch) for stretch in stretches} <= {n // K, n // K + 1}
    assert result.val_blocks == pytest.approx([statistics.fmean(stretch) for stretch in stretches], rel=1e-4)
    weighted = sum(mean * len(stretch) for mean, stretch in zip(result.val_blocks, stretches, strict=True))
    assert weighted / n == pytest.approx(result.val_loss, rel=1e-12)


def test_the_one_loop_serves_training_and_comparing(gpt: GPT) -> None:
    """An exact evaluation of a training in float32, and the measurement that makes models alike: the same bits."""
    on = corpus(2000, 500)
    gpt.use_attention("fused")
    laid = Windows.side_by_side(500, T)
    ours = evaluator(on).exact(gpt, 0).val_loss
    assert score_alike(gpt, on.val, laid, alike("cpu", threads=torch.get_num_threads())).mean == ours
    assert gpt.training
    last = Windows(starts=laid.starts[::-1], lengths=laid.lengths[::-1])
    turned = score(gpt, on.val, last, numerics(config()))
    assert turned.window_means == score(gpt, on.val, laid, numerics(config())).window_means[::-1]


def test_exact_takes_another_context(gpt: GPT) -> None:
    on = corpus(2000, 200)
    result = evaluator(on).exact(gpt, 0, context=5)
    assert (result.context, result.stride, result.windows) == (5, 5, 40)
    assert result.val_loss != evaluator(on).exact(gpt, 0).val_loss


def test_the_size_of_a_pass_does_not_matter(gpt: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = evaluator(corpus(2000, 40 * T + 3))
    whole = ours.exact(gpt, 0)
    for tokens, logits in ((1, 1 << 25), (T, 1 << 25), (3 * T, 1 << 25), (1 << 14, 1), (1 << 14, 5 * T * VOCABULARY)):
        monkeypatch.setattr(evaluation, "TOKENS_PER_PASS", tokens)
        monkeypatch.setattr(evaluation, "LOGITS_PER_PASS", logits)
        parts = ours.exact(gpt, 0)
        for name in ("train_loss", "val_loss", "train_se"):
            assert getattr(parts, name) == pytest.approx(getattr(whole, name), rel=1e-6), (tokens, logits)


def test_a_pass_is_bounded_by_tokens_and_logits(gpt: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, ...]] = []
    hook = gpt.lm_head.register_forward_hook(lambda _module, _inputs, output: sizes.append(tuple(output.shape)))
    monkeypatch.setattr(evaluation, "TOKENS_PER_PASS", 4 * T)
    monkeypatch.setattr(evaluation, "LOGITS_PER_PASS", 3 * T * VOCABULARY)
    evaluator(corpus(2000, 10 * T + 1)).exact(gpt, 0)
    hook.remove()
    assert sizes == [(3, T, VOCABULARY)] * 3 + [(1, T, VOCABULARY)] + [(3, T, VOCABULARY)] * 3 + [(1, T, VOCABULARY)]


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_comes_back(gpt: GPT, training: bool) -> None:
    gpt.train(training)
    before = torch.get_rng_state()
    ours = evaluator(corpus(2000, 100))
    ours.sampled(gpt, draws(), 0, 2, 2)
    assert all(module.training == training for module in gpt.modules())
    ours.exact(gpt, 0)
    assert all(module.training == training for module in gpt.modules())
    with pytest.raises(CorpusError, match="the val split has 9 tokens"):
        evaluator(corpus(2000, 9)).sampled(gpt, draws(), 0, 2, 2)
    assert all(module.training == training for module in gpt.modules())
    assert all(parameter.grad is None for parameter in gpt.parameters())
    assert torch.equal(torch.get_rng_state(), before), "an evaluation draws nothing from torch's generator"
    gpt.train()


def test_an_evaluation_leaves_the_training_as_it_is(gpt: GPT) -> None:
    """The update after an evaluation is the update without one, bit by bit."""
    settings = config()

    def weights(evaluate: bool) -> torch.Tensor:
        made = model(settings, VOCABULARY)
        adamw = optimizer.adamw(made, settings, numerics(settings))
        x = torch.arange(T)[None]
        for _ in range(2):
            if evaluate:
                evaluator(corpus(2000, 100)).sampled(made, draws(), 0, 2, 2)
                evaluator(corpus(2000, 100)).exact(made, 0)
            _, loss = made(x, x)
            loss.backward()
            adamw.step()
        return torch.cat([parameter.detach().flatten() for parameter in made.parameters()])

    assert torch.equal(weights(True), weights(False))


def test_exact_in_a_run(train: Callable[..., Ended], here: Path) -> None:
    """`--eval_mode=exact`: every evaluation is one, and the final one has the same form."""
    assert train("run", eval_mode="exact", max_iters=5, eval_interval=3).code == 0
    evaluations, final = rows(here / "run", "eval"), rows(here / "run", "final")
    assert [row["iter"] for row in evaluations] == [0, 3]
    assert [row["iter"] for row in final] == [6], "the state after update 5"
    val_tokens = document(here / "run")["corpus"]["val_tokens"]
    for row in (*evaluations, *final):
        assert (row["mode"], row["context"], row["stride"], row["eval_iters"]) == ("exact", 32, 32, None)
        assert row["windows"] == math.ceil((val_tokens - 1) / 32)
        assert row["val_se"] == 0.0
        assert 0 < row["train_se"] < 0.2
    assert not [row for row in evaluations if "val_blocks" in row]
    assert read_run(here / "run").val_blocks == tuple(final[0]["val_blocks"])
    assert len(final[0]["val_blocks"]) == min(BLOCKS, val_tokens - 1)
    assert "val_blocks" not in document(here / "run")["final"]
