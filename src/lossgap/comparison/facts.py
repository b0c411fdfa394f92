"""`Facts`: what is known about one run, derived once from its record; unknown names the settings that would tell.

    facts = Facts.of(run)
    facts.batch                    # Fact[int]: Known(768 // 64, "computed", how) or Unknown(why, needs)
    facts.batch.value              # the value, or None
    facts.integer("n_layer")       # any setting, as a Fact of that type; also number(), flag(), text(), setting()

Attributes, each a `Fact` unless another type is named:

settings      n_layer n_head n_embd bias vocab_size block_size batch_size max_iters eval_iters dropout weight_decay
              learning_rate min_lr warmup_iters decay_lr; horizon (lr_decay_iters: where the decay ends)
per update    batch (sequences), tokens_per_iter, n_params (nanoGPT's count), flops_per_token, flops_per_iter
data          dataset, train_tokens, val_tokens, bytes_per_token (of val), corpus_text (which text it is)
measurement   eval_context, eval_tokens (per split and evaluation), eval_mode (sampled, exact),
              seed
machine       device_kind (cpu, cuda, mps), device (the hardware by name), dtype (as it ran), compile
the curves    val, train_eval, train (`Curve | None`, curve.py): val loss; train split in evaluation mode; the loss
              that iterations print. bpb: val in bits per byte. final: exact val loss of the final state (`Value`)
              meaning("evals.val_loss") -> Series; initial_loss; expected_initial_loss = ln(vocab_size); last_iter
over time     scale("iterations" | "tokens" | "passes" | "flops" | "seconds" | "phase") -> Fact[Scale]
              tokens_at(iter), passes_at(iter), flops_at(iter), seconds_at(iter), phase_at(iter) -> Fact[float]
              lr_at(iter); decayed_at(iter): which part of the way from learning_rate to min_lr is behind (0 to 1)

An iteration stands for the state before its update, as in nanoGPT: at iteration i, i updates are done.
`run` is the record itself; `given` are settings that the user says (`--set`, `--config`), already in `run.config`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import polars as pl

from lossgap.arithmetic import flops_per_token, nanogpt_parameters
from lossgap.comparison import corpora, scales
from lossgap.comparison.curve import IterScale
from lossgap.comparison.fact import Fact, Known, Unknown, derive, first_known
from lossgap.comparison.stated import Stated, whole
from lossgap.runs.run import Run
from lossgap.runs.values import as_float, as_int, as_text
from lossgap.strangers import short

T = TypeVar("T")

_NVIDIA = ("nvidia", "geforce", "rtx", "gtx", "tesla", "quadro", "a100", "h100", "h200", "b200", "v100", "l40", "t4")
_PROCESSORS = ("cpu", "intel", "xeon", "ryzen", "epyc", "threadripper", "core i")
OTHER_BUILD = 1.05
"""A printed number of parameters that is further than this factor from nanoGPT's count is of other blocks than its."""


@dataclass(frozen=True, eq=False)
class Facts(Stated):
    """See the top of this file. Everything is computed at its first use and kept."""

    @classmethod
    def of(cls, run: Run) -> Facts:
        """The facts of a run."""
        return cls(run)

    # -----------------------------------------------------------------------------------------
    # Batch, model, FLOPs

    @cached_property
    def tokens_per_iter(self) -> Fact[int]:
        """Tokens per update over all processes: as the record prints it, else from the settings."""
        said = self.run.tokens_per_iter
        concluded = next((item for item in self.run.inferred if item.name == "tokens_per_iter"), None)
        if said is not None and said > 0 and concluded is None:
            return Known(said, "stated", "tokens per iteration in the record")
        batch = self._batch_from_settings
        found = derive("sequences per update x block_size", lambda b, t: b * t, batch, self.block_size)
        alone = whole(concluded.value) if concluded is not None else None
        return Known(alone, "inferred", concluded.why) if concluded and alone and not found.known else found

    @cached_property
    def _batch_from_settings(self) -> Fact[int]:
        accumulation = self.size("gradient_accumulation_steps")
        return derive(
            "batch_size x gradient_accumulation_steps, the latter the total over all processes",
            lambda size, steps: size * steps,
            self.batch_size,
            accumulation,
        )

    @cached_property
    def batch(self) -> Fact[int]:
        """Sequences per update over all processes; the printed tokens per iteration win over the settings."""
        if not (isinstance(self.tokens_per_iter, Known) and self.tokens_per_iter.evidence == "stated"):
            return self._batch_from_settings
        printed = derive(
            "tokens per iteration / block_size", lambda t, c: t // c, self.tokens_per_iter, self.block_size
        )
        return printed if printed.known else first_known(self._batch_from_settings, printed)

    @cached_property
    def vocab_size(self) -> Fact[int]:
        """Tokens in the vocabulary, as the model has it."""
        said = as_int(self.run.corpus.get("vocab_size"))
        if said is not None and said > 0:
            return self._corpus_fact(said, "the record's vocabulary")
        asked = self.size("vocab_size")
        known = self._known_corpus
        return asked if asked.known or known is None else Known(known.vocab_size, "inferred", self._corpus_how)

    @cached_property
    def n_params(self) -> Fact[int]:
        """Parameters by nanoGPT's count (without position embedding): exact if the shape is known, else as printed."""
        exact = as_int(self.run.parameters.get("nanogpt_count"))
        rounded = as_int(self.run.parameters.get("rounded_to"))
        if exact is not None and rounded is None:
            return Known(exact, "stated", "the record's count")
        # Biases are under a hundredth of the weights, so nanoGPT's default does no harm where it is wrong.
        bias = first_known(self.bias, Known(False, "computed", ""))
        shape = derive(
            "nanoGPT's count from n_layer, n_embd and the vocabulary",
            lambda layers, width, vocab, biases: nanogpt_parameters(layers, width, vocab, bias=biases),
            self.n_layer,
            self.n_embd,
            self.vocab_size,
            bias,
        )
        if isinstance(shape, Known) and exact is not None and abs(shape.value - exact) <= (rounded or 0):
            return Known(shape.value, "computed", "nanoGPT's count from the shape; the printed count agrees")
        printed = exact or whole(self.run.parameters.get("total"))
        if (
            isinstance(shape, Known)
            and shape.evidence != "inferred"
            and not self._of_another_build(shape.value, printed)
        ):
            return shape
        return Known(printed, "stated", "number of parameters in the record, as printed") if printed else shape

    def _of_another_build(self, shape: int, printed: int | None) -> bool:
        """True if a printed count shows that the blocks are not nanoGPT's, so that its count does not hold for them."""
        if not printed:
            return False
        width, context = (item.value if isinstance(item, Known) else 0 for item in (self.n_embd, self.block_size))
        return not shape / OTHER_BUILD <= printed <= (shape + width * context) * OTHER_BUILD

    @cached_property
    def flops_per_token(self) -> Fact[float]:
        """Forward and backward: 6 N + 12 n_layer n_embd block_size (nanoGPT)."""
        return derive(
            "6 N + 12 n_layer n_embd block_size",
            lambda n, layers, width, context: float(flops_per_token(n, layers, width, context)),
            self.n_params,
            self.n_layer,
            self.n_embd,
            self.block_size,
        )

    @cached_property
    def flops_per_iter(self) -> Fact[float]:
        """FLOPs of one update."""
        if self.run.flops_per_iter:
            return Known(self.run.flops_per_iter, "stated", "the record's count")
        return derive("FLOPs per token x tokens", lambda f, n: f * n, self.flops_per_token, self.tokens_per_iter)

    # -----------------------------------------------------------------------------------------
    # Data

    @cached_property
    def dataset(self) -> Fact[str]:
        """The corpus by name."""
        named = as_text(self.run.corpus.get("name"))
        return self._corpus_fact(named, "the record's corpus") if named else self.text("dataset")

    @cached_property
    def _known_corpus(self) -> corpora.KnownCorpus | None:
        name = self.dataset.value
        found = corpora.CORPORA.get(name) if name is not None else None
        said = as_int(self.run.corpus.get("vocab_size")) or as_int(self.run.config.get("vocab_size"))
        # Another vocabulary under the name is another text: lower case, say. Models pad theirs to a multiple of 64.
        return found if found is None or said is None or 0 <= said - found.vocab_size < 64 else None

    @property
    def _corpus_how(self) -> str:
        return f"nanoGPT's corpus {self.dataset.value}"

    def _corpus_fact(self, value: T, how: str) -> Known[T]:
        """A value of the record's corpus, which is inferred where the recipe is."""
        recipe = next((item for item in self.run.inferred if item.name == "dataset"), None)
        return Known(value, "inferred", recipe.why) if recipe is not None else Known(value, "stated", how)

    def _of_corpus(self, key: str, known: int | float | None, what: str) -> Fact[float]:
        said = as_float(self.run.corpus.get(key))
        if said is not None and said > 0:
            return self._corpus_fact(said, "the record's corpus")
        if known is not None:
            return Known(float(known), "inferred", self._corpus_how)
        return Unknown(f"{what} is not in the record", ("dataset",))

    @cached_property
    def train_tokens(self) -> Fact[float]:
        """Tokens of the train split."""
        known = self._known_corpus
        return self._of_corpus("train_tokens", known.train_tokens if known else None, "the size of the train split")

    @cached_property
    def val_tokens(self) -> Fact[float]:
        """Tokens of the val split."""
        known = self._known_corpus
        return self._of_corpus("val_tokens", known.val_tokens if known else None, "the size of the val split")

    @cached_property
    def bytes_per_token(self) -> Fact[float]:
        """UTF-8 bytes of the val text per token."""
        said = as_float(self.run.corpus.get("val_bytes")), self.val_tokens.value
        if said[0] and said[1]:
            return Known(said[0] / said[1], "computed", "bytes / tokens of val")
        known = self._known_corpus
        return self._of_corpus("val_bytes_per_token", known.val_bytes_per_token if known else None, "bytes per token")

    @cached_property
    def corpus_text(self) -> Fact[str]:
        """Which text it is, under one name for all its tokenizers; else the corpus's own name."""
        known = self._known_corpus
        return Known(known.text, "inferred", self._corpus_how) if known else self.dataset

    # -----------------------------------------------------------------------------------------
    # Measurement and machine

    @cached_property
    def eval_mode(self) -> Fact[str]:
        """sampled (eval_iters batches), or exact (every token once)."""
        modes = self.evals["mode"].drop_nulls()
        if len(modes):
            return Known(str(modes[-1]), "stated", "the record's evaluations")
        if self.is_nanogpt:
            return Known("sampled", "computed", "nanoGPT draws eval_iters batches")
        return self.text("eval_mode")

    @cached_property
    def eval_context(self) -> Fact[int]:
        """Context of the evaluations; block_size unless the record says otherwise."""
        said = self.evals["context"].drop_nulls()
        if len(said):
            return Known(int(said[-1]), "stated", "the record's evaluations")
        return derive("block_size", lambda context: context, self.block_size)

    @cached_property
    def eval_tokens(self) -> Fact[int]:
        """Tokens that one evaluation of one split scores: eval_iters x batch_size x context, or all of val."""
        if self.eval_mode.value == "exact":
            return derive("the val split", round, self.val_tokens)
        return derive(
            "eval_iters x batch_size x context",
            lambda iters, size, context: iters * size * context,
            self.eval_iters,
            self.batch_size,
            self.eval_context,
        )

    @cached_property
    def device(self) -> Fact[str]:
        """The hardware by name, as the record or the user says."""
        if self.run.device:
            return Known(self.run.device, "stated", self.run.config_sources.get("device name", "the record"))
        for key in ("device_name", "gpu", "cpu"):
            said = self.run.environment.get(key)
            name = as_text(said.get("name")) if isinstance(said, dict) else as_text(said)
            if name and (key == "device_name" or (key == "cpu") == (self.device_kind.value == "cpu")):
                return Known(name, "stated", "the record's environment")
        return Unknown("the hardware is not named", ("device",))

    @cached_property
    def device_kind(self) -> Fact[str]:
        """cpu, cuda or mps."""
        said = self.text("device")
        if isinstance(said, Known) and said.value.partition(":")[0] in ("cpu", "cuda", "mps"):
            return Known(said.value.partition(":")[0], said.evidence, said.how)
        name = (self.run.device or "").lower()
        for kind, words in (("cuda", _NVIDIA), ("cpu", _PROCESSORS)):
            if any(word in name for word in words):
                return Known(kind, "inferred", f"the device is named {short(self.run.device)}")
        return Unknown("device is not in the record", ("device",))

    @cached_property
    def dtype(self) -> Fact[str]:
        """The precision of the products as it ran. nanoGPT ignores `dtype` on everything but CUDA."""
        said = self.text("dtype")
        if self.run.effective.get("dtype") is not None:
            return said
        kind = self.device_kind
        if self.is_nanogpt and isinstance(kind, Known) and kind.value != "cuda":
            return derive("nanoGPT ignores dtype on this device", lambda _: "float32", kind)
        if said.value == "auto":
            return Unknown("dtype is auto", ("dtype",))
        return said

    # -----------------------------------------------------------------------------------------
    # Over time

    @cached_property
    def initial_loss(self) -> Fact[float]:
        """Val loss at iteration 0, else the loss that iteration 0 printed."""
        for series in (self.val, self.train_eval, self.train):
            if series is not None and series.iters[0] == 0:
                return Known(series.first.value, "stated", f"{series.name} at iteration 0")
        return Unknown("the record does not begin at iteration 0")

    @cached_property
    def expected_initial_loss(self) -> Fact[float]:
        """ln(vocab_size): a model that prefers no token."""
        return derive("ln(vocab_size)", lambda size: math.log(size), self.vocab_size)

    def scale(self, name: scales.Name) -> Fact[IterScale]:
        """The scale that places iterations on `name`: iterations, tokens, passes, flops, seconds or phase."""
        return scales.scale(self, name)

    def _at(self, name: scales.Name, iteration: float) -> Fact[float]:
        found = self.scale(name)
        if isinstance(found, Unknown):
            return found
        value = float(found.value.at(np.array([float(iteration)]))[0])
        if math.isnan(value):
            return Unknown(f"{name} at iteration {iteration:g} are not in the record")
        return Known(value, found.evidence, found.how)

    def tokens_at(self, iteration: float) -> Fact[float]:
        """Training tokens before this iteration."""
        return self._at("tokens", iteration)

    def passes_at(self, iteration: float) -> Fact[float]:
        """How often the train split was read before this iteration."""
        return self._at("passes", iteration)

    def flops_at(self, iteration: float) -> Fact[float]:
        """FLOPs spent before this iteration."""
        return self._at("flops", iteration)

    def seconds_at(self, iteration: float) -> Fact[float]:
        """Seconds of training, without evaluation, before this iteration."""
        return self._at("seconds", iteration)

    def phase_at(self, iteration: float) -> Fact[float]:
        """Iteration / horizon; above 1 the rate stays at min_lr."""
        return self._at("phase", iteration)

    @cached_property
    def logged_rates(self) -> dict[float, float]:
        """The learning rates of the record's rows by iteration; of several rows the last."""
        rows = self.run.iters.filter(pl.col("lr").is_not_null() & pl.col("iter").is_not_null())
        return dict(zip(rows["iter"].to_list(), rows["lr"].to_list(), strict=True))

    def lr_at(self, iteration: float) -> Fact[float]:
        """The learning rate of an iteration: as logged, else by nanoGPT's schedule."""
        return scales.learning_rate(self, iteration)

    def decayed_at(self, iteration: float) -> Fact[float]:
        """Which part of the way from learning_rate down to min_lr is behind, 0 to 1; 0 during the warm-up."""
        return scales.decayed(self, iteration)
