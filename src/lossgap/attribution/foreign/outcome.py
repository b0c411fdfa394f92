"""The result of an arm of another trainer: from its log, and exactly where it left checkpoints that we can load.

1. The losses that it logged, read by the reader that the user named: `{out_dir}` if that is a folder of this format
   (trainer_state.json, TensorBoard's events), else what it printed.
2. nanoGPT's checkpoints in `{out_dir}`, and the best one that the launcher kept. They are evaluated on all of val, at
   the common context and at their own, as our own trainer's are.
3. Each exact loss is held against the logged one of its iteration: a model that only has nanoGPT's weights by name, and
   computes something else, would be evaluated wrongly; then the logged losses count.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import statistics
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from lossgap.attribution.arm import Arm, ArmFailed, ArmResult
from lossgap.attribution.foreign import launcher, process
from lossgap.comparison import noise
from lossgap.comparison.curve import Curve
from lossgap.comparison.facts import Facts
from lossgap.corpus import Corpus, open_corpus
from lossgap.errors import LossgapError, LossgapWarning
from lossgap.evaluation.checkpoints import Loaded, loaded
from lossgap.evaluation.same_targets import same_tokens
from lossgap.runs.readers import detect
from lossgap.runs.readers.base import NO, Source
from lossgap.runs.readers.source import load_run
from lossgap.runs.run import Run
from lossgap.strangers import one_line

WEIGHTS: Final = frozenset({".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".new"})
"""Files that are removed after the evaluation."""
ERRORS: Final = 6.0
"""Standard errors by which a logged loss may differ from the exact one."""
ALLOWED: Final = 0.02
UNKNOWN_ALLOWED: Final = 0.1
"""The least that it may, in nats per token; and what it may where its evaluation is not known."""
MOST_REPORT_BYTES: Final = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Left:
    """The files that a trainer left: its log, its `{out_dir}`, and the folder in which the launcher kept things."""

    log: Path
    out: Path
    kept: Path


@dataclass(frozen=True, kw_only=True)
class _Exact:
    """A state evaluated on all of val."""

    iter: int
    common: float
    own: float
    window_sd: float
    """Standard deviation of the mean loss of one window at its own context."""


@dataclass
class _Told:
    """The remarks that the reader of a result needs."""

    notes: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def outcome(arm: Arm, settings: Mapping[str, object], left: Left, seconds: float, threads: int) -> ArmResult:
    """The losses of an arm that ended well; `settings` are those that it was given. Raises ArmFailed."""
    say = _Told()
    run = read(arm, settings, left)
    facts = Facts.of(run)
    if why := diverged(run):
        raise ArmFailed("not-finite", why)
    val = facts.val
    if val is None or val.meaning.unit == "bits/byte":
        line = process.last_line(process.last_text(left.log))
        why = f"it ended, and {arm.reader} reads no val loss in nats per token from its log; its last line: {line}"
        raise ArmFailed("failed", why)
    _check_seeding(arm, left, say)
    exact = _Checkpoints(arm, left, facts, val, threads, say)
    last, best = exact.last(), exact.best()
    logged = _logged(arm, facts, val, say) if last is None or best is None else None
    if best is None and len(val) > 1:
        say(f"its best is the lowest of {len(val)} evaluations, each with its error, so rather too low")
    return ArmResult(
        key=arm.key,
        val_loss=last.common if last else val.last.value,
        best_val_loss=best.common if best else val.best.value,
        own_val_loss=last.own if last else val.last.value,
        own_best_val_loss=best.own if best else val.best.value,
        best_iter=best.iter if best else int(val.best.iter),
        exact=logged is None,
        standard_error=0.0 if logged is None else logged.standard_error,
        seconds=seconds,
        run=str(run.path),
        curve=tuple(zip(val.iters.tolist(), val.values.tolist(), strict=True)),
        note="; ".join(say.notes),
    )


def read(arm: Arm, settings: Mapping[str, object], left: Left) -> Run:
    """The record of an arm: its `{out_dir}` if that is of the reader's format, else its log. Raises ArmFailed."""
    reader = detect.reader(arm.reader)
    in_folder = reader.score(Source(path=left.out, name=left.out.name).head()) > NO if left.out.is_dir() else False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossgapWarning)
        try:
            return load_run(left.out if in_folder else left.log, format=arm.reader, config=dict(settings))
        except LossgapError as error:
            why = str(error).replace("--format", "--reader")
            raise ArmFailed("failed", f"it ended, and its log cannot be read: {why}") from error


def diverged(run: Run) -> str:
    """Why a run's losses are not finite at its end; empty if they are, or if there are none."""
    for table, column, what in ((run.evals, "val_loss", "val loss"), (run.iters, "loss", "loss")):
        if table.is_empty():
            continue
        row = table.row(-1, named=True)
        value, why = row[column], str(row["why"] or "")
        if (value is None and f"{column} is" in why) or (value is not None and not math.isfinite(value)):
            return f"its {what} is not a finite number at iteration {row['iter']}"
    return ""


@dataclass(frozen=True)
class _Logged:
    standard_error: float | None


def _logged(arm: Arm, facts: Facts, val: Curve, say: _Told) -> _Logged:
    """The standard error of the logged losses, rounding included."""
    part = noise.evaluation("the arm", facts, val.last, val)
    say(f"logged losses: {part.how}")
    context = facts.eval_context.value
    if context is None:
        say("the context of its evaluations is not known")
    elif context != arm.measurement.context:
        say(f"they are at its own context of {context} tokens, not at the common one of {arm.measurement.context}")
    if part.standard_error is None:
        return _Logged(None)
    rounding = 0.0 if val.meaning.digits is None else 10.0**-val.meaning.digits / math.sqrt(12)
    return _Logged(math.hypot(part.standard_error, rounding))


# ---------------------------------------------------------------------------------------------
# Seeds


def _check_seeding(arm: Arm, left: Left, say: _Told) -> None:
    """Check the launcher's report; an arm whose seed reached nothing must not count as a repetition."""
    if arm.seed is None:
        say("the trainer takes no seed: one repetition")
        return
    content = _report(left.kept / launcher.REPORT)
    if content is None or content.get("drawn") is None:
        return
    if not content["drawn"]:
        raise ArmFailed(
            "failed",
            "its seed changes nothing: the script used no generator that the launcher seeds (torch, "
            "numpy, random); name its own seed flag with --seed-arg",
        )
    shifted = content.get("shifted")
    if isinstance(shifted, list) and shifted:
        say(f"seeded by the launcher: {one_line(str(shifted[0]), 120)}")
    else:
        say("seeded by the launcher; the script seeds nothing itself")


def _report(path: Path) -> dict[str, object] | None:
    try:
        with path.open("rb") as stream:
            content = json.loads(stream.read(MOST_REPORT_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


# ---------------------------------------------------------------------------------------------
# Checkpoints


class _Checkpoints:
    """The checkpoints that an arm left, evaluated when they are asked for, each once."""

    def __init__(self, arm: Arm, left: Left, facts: Facts, val: Curve, threads: int, say: _Told) -> None:
        self.arm, self.left, self.facts, self.val, self.threads, self.say = arm, left, facts, val, threads, say
        self.files = _files(left)
        self._evaluated: dict[int, _Exact | None] = {}
        if not self.files:
            say("it left no checkpoint that lossgap loads")

    def last(self) -> _Exact | None:
        """The state of the last evaluation, or a later one."""
        at, wanted = max(self.files, default=-1), int(self.val.last.iter)
        if at < wanted:
            if self.files:
                self.say(f"its last checkpoint is of iteration {at}, its last evaluation of {wanted}: last is logged")
            return None
        end = self.facts.max_iters.value
        if end is not None and at < end:
            self.say(f"last is iteration {at} of {end}: no evaluation is nearer to the end")
        return self._exact(at)

    def best(self) -> _Exact | None:
        """The best state that was kept, or that of the best evaluation."""
        kept = self.left.kept / launcher.BEST
        at = next((at for at, path in self.files.items() if path == kept), None)
        wanted = int(self.val.best.iter)
        if at is None:
            at = wanted if wanted in self.files else None
        if at is None:
            if self.files:
                self.say(f"no checkpoint of iteration {wanted}, its best, was kept: best is logged")
            return None
        if at != wanted and wanted == 0:
            self.say(f"its best evaluation is of iteration 0, which it does not save: best is iteration {at}")
        return self._exact(at)

    def _exact(self, at: int) -> _Exact | None:
        if at not in self._evaluated:
            try:
                self._evaluated[at] = self._evaluate(at)
            except LossgapError as error:
                self.say(f"its checkpoint of iteration {at} cannot be evaluated: {error}")
                self._evaluated[at] = None
        return self._evaluated[at]

    def _evaluate(self, at: int) -> _Exact | None:
        from lossgap.training import checkpoint as checkpoints

        found = loaded(checkpoints.load(self.files[at]))
        corpus = self._corpus(found)
        if corpus is None:
            return None
        exact = evaluate(found, corpus, self.arm.measurement.context, self.threads)
        if not (math.isfinite(exact.common) and math.isfinite(exact.own)):
            raise ArmFailed("not-finite", f"the loss of its checkpoint of iteration {at} is not a finite number")
        return exact if self._agrees(exact) else None

    def _agrees(self, exact: _Exact) -> bool:
        """True if the log, where it has this iteration, has about this loss."""
        logged = self.val.at(exact.iter)
        if logged is None or logged.interpolated:
            return True
        if abs(logged.value - exact.own) <= self._allowed(exact):
            return True
        self.say(
            f"its checkpoint of iteration {exact.iter} has the loss {exact.own:.4f} here and {logged.value:.4f} in its "
            f"log: its model is not nanoGPT's, and the logged losses count"
        )
        return False

    def _allowed(self, exact: _Exact) -> float:
        """`ERRORS` standard errors of its sampled evaluation: sd of a window / sqrt(eval_iters x batch_size)."""
        iters, size = self.facts.eval_iters.value, self.facts.batch_size.value
        if iters is None or size is None or self.facts.eval_mode.value == "exact":
            return UNKNOWN_ALLOWED
        return max(ALLOWED, ERRORS * exact.window_sd / math.sqrt(iters * size))

    def _corpus(self, found: Loaded) -> Corpus | None:
        """nanoGPT's `data/<dataset>` in the trainer's folder, if its tokens are the model's."""
        name = str(found.checkpoint.config.get("dataset", ""))
        place = Path(self.arm.folder) / "data" / name
        if not name or "\0" in name or not (place / "val.bin").is_file():
            self.say(f"its corpus {one_line(name) or '(none is named)'} is not in data/ of its folder")
            return None
        corpus = open_corpus(str(place))
        has = found.model.config.vocab_size
        fits = corpus.vocab_size == has if corpus.vocab_size else has >= 50257
        if not fits:
            self.say(f"its model has {has:,} tokens, its corpus {one_line(name)} has {corpus.vocab_size or 50257:,}")
        return corpus if fits else None


def _files(left: Left) -> dict[int, Path]:
    """Readable checkpoints by iteration: those in `{out_dir}`, and the one that the launcher kept."""
    from lossgap.training import checkpoint as checkpoints

    paths = [left.kept / launcher.BEST, *(checkpoints.checkpoint_files(left.out) if left.out.is_dir() else [])]
    found: dict[int, Path] = {}
    for path in paths:
        at = checkpoints.iteration_of(path) if path.is_file() else None
        if at is not None:
            found.setdefault(at, path)
    return found


def evaluate(found: Loaded, corpus: Corpus, context: int, threads: int) -> _Exact:
    """Nats per token over all of val, each token after the first once: at the common context and at the model's own."""
    from lossgap.evaluation.losses import alike, score_alike

    numerics = alike(threads=threads)
    laid = same_tokens(len(corpus.val), (found.context, min(found.context, context)))
    own = score_alike(found.model, corpus.val, laid.own[0], numerics)
    common = own if found.context <= context else score_alike(found.model, corpus.val, laid.common[0], numerics)
    whole = laid.own[0].lengths == found.context
    means = [mean for mean, is_whole in zip(own.window_means, whole, strict=True) if is_whole]
    return _Exact(
        iter=found.checkpoint.iter_num,
        common=common.mean,
        own=own.mean,
        window_sd=statistics.stdev(means) if len(means) > 1 else math.inf,
    )


def remove_weights(*folders: Path) -> None:
    """Remove the files of weights below these folders; links are removed, never followed."""
    for folder in folders:
        for parent, _, names in os.walk(folder, followlinks=False):
            for name in names:
                if Path(name).suffix.lower() in WEIGHTS:
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(parent, name))
