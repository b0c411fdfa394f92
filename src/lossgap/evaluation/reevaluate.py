"""Like for like: the checkpoints of two runs, evaluated alike on the whole val split.

    measured = measure_alike(control, test, alignment)      # Reevaluation, see reevaluation.py

1. The states: of a run folder the last and the best that its record reports, by their iterations; of nanoGPT's
   `ckpt.pt`, or any checkpoint that is named itself, that one state.
2. The val split: each run's corpus, opened by the name in its checkpoint and compared with the hash there. Equal tokens
   are compared in nats per token, different tokens of one text in nats per byte; two texts are refused.
3. The windows (windows.py): both models score the same targets, at the context that both have and at their own.
4. The losses (losses.py): both in float32, without dropout, with the same kernels, on the same device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from lossgap.comparison.alignment import Alignment
from lossgap.comparison.facts import Facts
from lossgap.comparison.reevaluation import Like, Reevaluation, Side, Unit, Which
from lossgap.corpus import Corpus, Tokenizer, open_corpus
from lossgap.errors import CorpusError
from lossgap.evaluation.checkpoints import Loaded, ModelState, check, states
from lossgap.evaluation.losses import alike, score_alike
from lossgap.evaluation.same_targets import Laid, Windows, same_text, same_tokens, token_text
from lossgap.strangers import one_line, shown
from lossgap.training.checkpoint import Checkpoint

SIDES = ("control", "test")
_GPT2_TOKENS = 50257
"""Models of these tokens have so many outputs or, as nanoGPT's, some more."""

Say = Callable[[str], None]


def measure_alike(control: Facts, test: Facts, alignment: Alignment, say: Say | None = None) -> Reevaluation:
    """Evaluate the last and the best states of both. `say` is told, in a line each, what takes its time.

    Raises:
        CheckpointError: `nothing-to-reevaluate` if a run has no checkpoint; `bad-checkpoint`.
        CorpusError: `reevaluate-no-corpus` if a corpus is not at hand; `reevaluate-other-text` if the runs have two
            texts, or two tokenizations that cannot be brought together.
    """
    start = time.perf_counter()
    for side, facts in zip(SIDES, (control, test), strict=True):
        check(facts.run, side)
    first, second = states(control, "control", alignment), states(test, "test", alignment)
    corpora = _corpora(first["last"], second["last"])
    work = _Work(corpora, say or (lambda _: None))
    rows = [work.row("last", (first["last"], second["last"]))]
    if (first["best"], second["best"]) != (first["last"], second["last"]):
        rows.append(work.row("best", (first["best"], second["best"])))
    return Reevaluation(
        unit=work.unit,
        corpus=corpora[0].name,
        bytes=work.bytes,
        device=work.numerics.device,
        dtype=work.numerics.dtype,
        rows=tuple(rows),
        seconds=time.perf_counter() - start,
    )


# ---------------------------------------------------------------------------------------------
# 2. The val split


def _corpora(control: ModelState, test: ModelState) -> tuple[Corpus, Corpus]:
    """Each run's corpus; one that has the tokens of the other run's serves for both."""
    assert control.found is not None
    assert test.found is not None
    sources = (control.found.checkpoint, test.found.checkpoint)
    found: list[Corpus | CorpusError] = []
    for source in sources:
        try:
            found.append(_corpus(source))
        except CorpusError as error:
            found.append(error)
    for here, there in ((0, 1), (1, 0)):
        other = found[there]
        if isinstance(found[here], CorpusError) and isinstance(other, Corpus):
            wanted = sources[here].part("corpus").get("tokens_sha256")
            found[here] = other if wanted == other.tokens_sha256 else found[here]
    first, second = found
    if isinstance(first, CorpusError):
        raise first
    if isinstance(second, CorpusError):
        raise second
    return first, second


def _corpus(found: Checkpoint) -> Corpus:
    """The corpus that a checkpoint was trained on, looked for below the current folder and beside its run."""
    record = found.part("corpus")
    name = str(record.get("name") or found.config.get("dataset") or "")
    wanted = record.get("tokens_sha256")
    reasons = []
    for place in _places(name, found.path.parent.parent):
        try:
            corpus = open_corpus(place)
        except CorpusError as error:
            if error.slug != "unknown-corpus":
                reasons.append(str(error))
            continue
        vocab_size = int(found.model_args["vocab_size"])
        if wanted is not None and corpus.tokens_sha256 != wanted:
            reasons.append(f"{one_line(corpus.source)} has other tokens than it was trained on")
        elif not _fits(corpus, vocab_size):
            has = f"{corpus.vocab_size:,}" if corpus.vocab_size else "GPT-2's"
            reasons.append(f"{one_line(corpus.source)} has {has} tokens, its model {vocab_size:,}")
        else:
            return corpus
    why = f" ({'; '.join(dict.fromkeys(reasons))})" if reasons else ""
    raise CorpusError(
        "reevaluate-no-corpus",
        f"{one_line(shown(found.path))}: its corpus {one_line(name) or '(none is named)'} is not at hand{why}: run "
        "this where it was trained, or put the train.bin and val.bin that it was trained on into "
        f"data/{one_line(name) or 'NAME'}/ below the current folder",
    )


def _places(name: str, beside: Path) -> list[str]:
    """Where a corpus of this name may be: below the current folder, beside the run's folder, built in."""
    if not name or "\0" in name:
        return []
    others = [
        str(base) for base in (beside / "data" / name, beside / name) if base.is_file() or (base / "val.bin").is_file()
    ]
    here = Path(name).is_file() or any((base / "val.bin").is_file() for base in (Path(name), Path("data") / name))
    return [name, *others] if here else [*others, name]


def _fits(corpus: Corpus, vocab_size: int) -> bool:
    """True if the corpus's ids are those of a model; where nanoGPT names no vocabulary, they are GPT-2's."""
    return corpus.vocab_size == vocab_size if corpus.vocab_size else vocab_size >= _GPT2_TOKENS


# ---------------------------------------------------------------------------------------------
# 3. and 4. Windows and losses


class _Work:
    """The evaluations of one comparison; each pair of checkpoint and windows is scored once."""

    def __init__(self, corpora: tuple[Corpus, Corpus], say: Say) -> None:
        self.corpora, self.say = corpora, say
        self.numerics = alike()
        self.lay, self.unit = _layout(corpora)
        self.bytes: int | None = None
        self._scored: dict[tuple[Path, bytes], float] = {}

    def row(self, of: Which, pair: tuple[ModelState, ModelState]) -> Like:
        """Both states at the common context and at their own."""
        first, second = (state.found for state in pair)
        if first is None or second is None:
            return Like(of=of, why="; ".join(state.why for state in pair if state.why))
        laid = self.lay((first.context, second.context))
        self.bytes = laid.bytes
        sides: list[Side] = []
        for index, (state, found) in enumerate(zip(pair, (first, second), strict=True)):
            common, own = laid.common[index], laid.own[index]
            nats = [self._nats(index, found, windows) for windows in (common, own)]
            if not all(map(math.isfinite, nats)):
                file = one_line(found.checkpoint.path.name)
                return Like(of=of, why=f"the loss of {SIDES[index]}'s {file} is not a finite number")
            divisor = laid.bytes or common.targets
            reported, why = _reported(state, self.unit, divisor / common.targets)
            sides.append(
                Side(
                    checkpoint=found.checkpoint.path.name,
                    iter=found.checkpoint.iter_num,
                    reported=reported,
                    reported_iter=None if reported is None or state.reported is None else state.reported.iter,
                    reported_why=why,
                    own=nats[1] / divisor,
                    own_context=found.context,
                    common=nats[0] / divisor,
                    common_context=int(common.lengths.max()),
                    targets=common.targets,
                )
            )
        return Like(of=of, control=sides[0], test=sides[1])

    def _nats(self, index: int, found: Loaded, windows: Windows) -> float:
        """Summed loss of all targets."""
        path = found.checkpoint.path
        key = (path, windows.starts.tobytes() + windows.lengths.tobytes())
        if key not in self._scored:
            longest = int(windows.lengths.max())
            self.say(f"evaluating {one_line(shown(path))}: {windows.targets:,} val tokens at context {longest:,}")
            self._scored[key] = score_alike(found.model, self.corpora[index].val, windows, self.numerics).total
        return self._scored[key]


def _layout(corpora: tuple[Corpus, Corpus]) -> tuple[Callable[[tuple[int, int]], Laid], Unit]:
    """How to lay windows on the two val splits, and the unit in which the losses on them compare."""
    control, test = corpora
    tokenizers = control.tokenizer, test.tokenizer
    if _same_meaning(*tokenizers) and np.array_equal(control.val, test.val):
        return lambda contexts: same_tokens(len(control.val), contexts), "nats/token"
    names = " and ".join(f"{one_line(item.name)} ({len(item.val):,} val tokens)" for item in corpora)
    if tokenizers[0] is None or tokenizers[1] is None:
        raise CorpusError(
            "reevaluate-other-text",
            f"the val splits differ: {names}, and the tokenizer of one is not known, so nobody can say whether they "
            "are one text: put a meta.pkl with its characters beside the tokens, or compare runs on one corpus",
        )
    texts = token_text(control.val, tokenizers[0]), token_text(test.val, tokenizers[1])
    if texts[0].text != texts[1].text:
        raise CorpusError(
            "reevaluate-other-text",
            f"the runs have two val texts: {names}; a loss on one text says nothing about the other: compare runs that "
            "were trained on one corpus",
        )

    def lay(contexts: tuple[int, int]) -> Laid:
        laid = same_text(texts[0], texts[1], contexts)
        if laid is None:
            raise CorpusError(
                "reevaluate-other-text",
                f"the tokens of {names} end at one place too seldom for windows of {contexts[0]} and {contexts[1]} "
                "tokens that both models can read: compare runs with one tokenizer",
            )
        return laid

    return lay, "nats/byte"


def _same_meaning(first: Tokenizer | None, second: Tokenizer | None) -> bool:
    """True if equal ids mean equal text; where one tokenizer is not known, they are taken to."""
    return first is None or second is None or first.to_dict() == second.to_dict()


def _reported(state: ModelState, unit: Unit, bytes_per_token: float) -> tuple[float | None, str]:
    """Return what is reported of a state, in `unit`; else None and why."""
    if state.reported is None:
        return None, "nothing that was read has the val loss of this state"
    value = state.reported.value
    if unit == "nats/byte":
        value = value * state.per_token if state.per_token != 1.0 else value / bytes_per_token
    return (value, "") if math.isfinite(value) else (None, "the reported val loss is not a finite number")
