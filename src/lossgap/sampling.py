"""Text from trained models, equal to what nanoGPT's `sample.py` prints for the same checkpoint and seed.

1. `Sampler.open` reads a checkpoint, ours or nanoGPT's, finds its tokenizer and builds the model.
2. `Sampler.texts` draws texts one by one (`lossgap.generation`).
3. `Sampling` is that for several runs, as `lossgap sample` and `lossgap.sample` ask for it.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from lossgap.corpus.meta_pickle import read_meta
from lossgap.corpus.tokenizer import GPT2_VOCAB_SIZE, BpeTokenizer, CharTokenizer, Tokenizer, tokenizer_from_dict
from lossgap.errors import CheckpointError, ConfigError
from lossgap.generation import generate
from lossgap.gpt import GPT, GPTConfig
from lossgap.machine import resolve_device, resolve_dtype
from lossgap.options import SampleOptions
from lossgap.strangers import one_line, short
from lossgap.training import checkpoint as checkpoints
from lossgap.training.checkpoint import Checkpoint
from lossgap.training.draws import NanoGPTDraws

TINY_SHAKESPEARE = "\n !$&',-.3:;?" + string.ascii_uppercase + string.ascii_lowercase
"""The 65 characters of nanoGPT's `shakespeare_char` in the order of their ids."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The samples of one run: `run` as it was named, its checkpoint file and iteration, the prompt, and the texts.

    Each text begins with the prompt, as nanoGPT prints it.
    """

    run: str
    checkpoint: str
    iter: int
    prompt: str
    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Opened models and the prompt that they go on from: texts are drawn when they are asked for."""

    samplers: tuple[Sampler, ...]
    prompt: str
    options: SampleOptions

    @classmethod
    def open(cls, runs: Sequence[str | Path], options: SampleOptions) -> Sampling:
        """The models of `runs` (run folders, whose newest checkpoint counts, or checkpoint files), or one of OpenAI's.

        The defaults are nanoGPT's, but `device` and `dtype`: an explicit dtype counts on a CPU too, and TF32 stays off
        on CUDA.

        Raises:
            ConfigError: `bad-setting` for a number out of range, `empty-prompt`, `unreadable-prompt`, `two-models`.
            CorpusError: `not-in-vocabulary` for a prompt that a vocabulary cannot express; `no-bpe`; a bad `meta.pkl`.
            CheckpointError: `no-checkpoint`, `bad-checkpoint`, `no-tokenizer`, `not-finite-logits`.
            MachineError: for a device or dtype that is not here.
        """
        prompt = read_prompt(options.start)
        how = {"seed": options.seed, "device": options.device, "dtype": options.dtype}
        if options.init_from == "resume":
            samplers = tuple(Sampler.open(run, **how) for run in runs)  # type: ignore[arg-type]  # by name
        elif runs:
            raise ConfigError(
                "two-models",
                f"init_from={options.init_from} and the run {short(str(runs[0]))} are both named; leave one out",
            )
        else:
            samplers = (Sampler.pretrained(options.init_from, **how),)  # type: ignore[arg-type]  # by name
        return cls(samplers=samplers, prompt=prompt, options=options)

    def texts(self) -> list[Iterator[str]]:
        """Each model's `num_samples` texts. Raises as `open` does."""
        wanted = self.options
        return [
            sampler.texts(self.prompt, wanted.num_samples, wanted.max_new_tokens, wanted.temperature, wanted.top_k)
            for sampler in self.samplers
        ]

    def samples(self) -> list[Samples]:
        """All the texts, with where they come from."""
        return [
            sampler.samples(self.prompt, tuple(own)) for sampler, own in zip(self.samplers, self.texts(), strict=True)
        ]


def read_prompt(start: str) -> str:
    """The prompt that `--start` means: itself, or after `FILE:` the text of a file; at least one character."""
    prompt = start
    if start.startswith("FILE:"):
        try:
            prompt = Path(start[5:]).read_text(encoding="utf-8")
        except (OSError, ValueError) as problem:  # UnicodeDecodeError is a ValueError
            reason = getattr(problem, "strerror", None) or str(problem)
            raise ConfigError(
                "unreadable-prompt",
                f"start: the file {one_line(start[5:])} cannot be read as UTF-8 text ({one_line(reason)}); "
                "name a text file after FILE:",
            ) from None
    if not prompt:
        raise ConfigError(
            "empty-prompt", "start is empty, but the model needs a first token; give text, e.g. a line end"
        )
    return prompt


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A model in evaluation mode, ready to draw texts that depend on the seed alone."""

    run: str
    checkpoint: str
    iter: int
    model: GPT
    tokenizer: Tokenizer
    device: torch.device
    dtype: str
    generator_state: Tensor
    """Where the first draw begins: nanoGPT seeds, then builds its model, which draws from the CPU's generator too."""

    @classmethod
    def open(cls, run: str | Path, *, seed: int = 1337, device: str = "auto", dtype: str = "auto") -> Sampler:
        """Read the checkpoint of `run`, build its model and find its tokenizer. Raises as `sample` does."""
        place = torch.device(resolve_device(device).value)
        kind = resolve_dtype(dtype, str(place)).value
        checkpoint = checkpoints.find(Path(run))
        tokenizer = find_tokenizer(checkpoint)
        model, state = _built(checkpoint, seed)
        return cls(
            run=str(run),
            checkpoint=str(checkpoint.path),
            iter=checkpoint.iter_num,
            model=model.to(place),
            tokenizer=tokenizer,
            device=place,
            dtype=kind,
            generator_state=state if place.type == "cpu" else _seeded_state(place, seed),
        )

    @classmethod
    def pretrained(cls, name: str, *, seed: int = 1337, device: str = "auto", dtype: str = "auto") -> Sampler:
        """One of OpenAI's GPT-2 models by nanoGPT's name for it (extra `[hf]`). Raises as `sample` does."""
        from lossgap.training.gpt2 import pretrained

        place = torch.device(resolve_device(device).value)
        kind = resolve_dtype(dtype, str(place)).value
        model = pretrained(name, 0.0).eval().to(place)
        model.use_attention("fused")
        return cls(
            run=name,
            checkpoint=name,
            iter=0,
            model=model,
            tokenizer=BpeTokenizer(),
            device=place,
            dtype=kind,
            generator_state=_seeded_state(place, seed),
        )

    def texts(
        self, prompt: str, num_samples: int, max_new_tokens: int, temperature: float, top_k: int | None
    ) -> Iterator[str]:
        """`num_samples` texts, drawn when they are asked for, always the same ones. Raises as `sample` does."""
        _check(num_samples, max_new_tokens, temperature, top_k)
        ids = self.tokenizer.encode(prompt)
        return self._texts(ids, num_samples, max_new_tokens, temperature, top_k)

    def _texts(
        self, ids: list[int], num_samples: int, max_new_tokens: int, temperature: float, top_k: int | None
    ) -> Iterator[str]:
        idx = torch.tensor([ids], dtype=torch.int64, device=self.device)
        state = self.generator_state
        for _ in range(num_samples):
            # Whoever takes the texts may draw between two of them; neither shall notice the other.
            before = _generator_state(self.device)
            _set_generator_state(self.device, state)
            try:
                with self._autocast():
                    drawn = generate(self.model, idx, max_new_tokens, temperature, top_k)
                state = _generator_state(self.device)
            finally:
                _set_generator_state(self.device, before)
            yield _decoded(self.tokenizer, drawn[0].tolist())

    def samples(self, prompt: str, texts: tuple[str, ...]) -> Samples:
        """`texts` together with where they come from."""
        return Samples(run=self.run, checkpoint=self.checkpoint, iter=self.iter, prompt=prompt, texts=texts)

    def describe(self) -> str:
        """One line: the checkpoint, its iteration, the size of the model, device and dtype."""
        millions = self.model.num_params() / 1e6
        where = f"{millions:.2f}M parameters, {self.device}, {self.dtype}"
        return f"{one_line(self.checkpoint)}, iteration {self.iter}, {where}"

    def _autocast(self) -> AbstractContextManager[object]:
        if self.dtype == "float32":
            return nullcontext()
        return torch.autocast(
            self.device.type, dtype={"bfloat16": torch.bfloat16, "float16": torch.float16}[self.dtype]
        )


def _check(num_samples: int, max_new_tokens: int, temperature: float, top_k: int | None) -> None:
    rules = (
        ("num_samples", num_samples, num_samples >= 1, "must be at least 1", "10"),
        ("max_new_tokens", max_new_tokens, max_new_tokens >= 1, "must be at least 1", "500"),
        ("temperature", temperature, 0 < temperature < float("inf"), "must be a number above 0", "0.8"),
        ("top_k", top_k, top_k is None or top_k >= 1, "must be at least 1, or None for all tokens", "200"),
    )
    for name, value, holds, rule, default in rules:
        if not holds:
            raise ConfigError("bad-setting", f"{name}={short(value)} {rule}; give e.g. nanoGPT's {default}")


def find_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The tokenizer of a checkpoint: the one that ours carries; else, for nanoGPT's, the first of these.

    1. `data/<dataset>/meta.pkl` below the current folder, then beside the checkpoint's folder; read, not executed.
    2. Tiny Shakespeare's characters, for the dataset shakespeare_char and a vocabulary of 65.
    3. GPT-2's byte pairs, for a vocabulary of at least 50,257.

    Raises CheckpointError (`no-tokenizer`) if there is none or its ids do not fit the model; CorpusError for a bad one.
    """
    vocab_size = int(checkpoint.model_args["vocab_size"])
    tokenizer = tokenizer_from_dict(checkpoint.part("tokenizer")) if checkpoint.part("tokenizer") else None
    if tokenizer is None and not checkpoint.lossgap:
        tokenizer = _nanogpt_tokenizer(checkpoint, vocab_size)
    if tokenizer is None:
        raise _no_tokenizer(checkpoint, f"nothing says which text its {vocab_size} tokens stand for")
    if tokenizer.vocab_size > vocab_size:
        raise _no_tokenizer(checkpoint, f"its model has {vocab_size} tokens, the tokenizer {tokenizer.vocab_size}")
    return tokenizer


def _nanogpt_tokenizer(checkpoint: Checkpoint, vocab_size: int) -> Tokenizer | None:
    dataset = str(checkpoint.config.get("dataset", ""))
    if dataset:
        for base in (Path(), checkpoint.path.parent.parent):
            path = base / "data" / dataset / "meta.pkl"
            if path.is_file() and (found := read_meta(path).tokenizer) is not None:
                return found
    if dataset == "shakespeare_char" and vocab_size == len(TINY_SHAKESPEARE):
        return CharTokenizer(TINY_SHAKESPEARE)
    return BpeTokenizer() if vocab_size >= GPT2_VOCAB_SIZE else None


def _no_tokenizer(checkpoint: Checkpoint, reason: str) -> CheckpointError:
    dataset = one_line(str(checkpoint.config.get("dataset", "?")), 60)
    return CheckpointError(
        "no-tokenizer",
        f"{one_line(str(checkpoint.path))}: {reason}; put the meta.pkl of its dataset into data/{dataset}/ below the "
        "current folder, as nanoGPT has it",
    )


def _decoded(tokenizer: Tokenizer, ids: list[int]) -> str:
    """The text of `ids`; ids that only pad the vocabulary (GPT-2's, from 50,257 to 50,304) become U+FFFD."""
    parts = groupby(ids, lambda index: index < tokenizer.vocab_size)
    return "".join(tokenizer.decode(list(part)) if known else "\ufffd" * len(list(part)) for known, part in parts)


def _built(checkpoint: Checkpoint, seed: int) -> tuple[GPT, Tensor]:
    """The model in evaluation mode on the CPU, and the generator's state where nanoGPT would start to draw."""
    args = (
        checkpoint.model_args
    )  # which the tensors fit: `checkpoints.load` has compared their sizes, but for the heads
    if args["n_embd"] % args["n_head"]:
        raise CheckpointError(
            "bad-checkpoint",
            f"{one_line(str(checkpoint.path))} cannot be used: its n_embd={args['n_embd']} is not a multiple of its "
            f"n_head={args['n_head']}; take another checkpoint of the run",
        )
    config = GPTConfig.from_model_args(args)
    with torch.random.fork_rng(devices=[]):
        model = NanoGPTDraws(seed).new_model(config).eval()
        drawn_from = torch.get_rng_state()
    model.use_attention("fused")  # nanoGPT's
    checkpoints.fill(model, checkpoint)
    return model, drawn_from


def _seeded_state(device: torch.device, seed: int) -> Tensor:
    return torch.Generator(device).manual_seed(seed).get_state()


def _generator_state(device: torch.device) -> Tensor:
    """The state of torch's default generator for `device`."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def _set_generator_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)
