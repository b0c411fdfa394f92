"""One arm of our own trainer: train it, measure it, keep what it gave.

The folder of an arm is `root/arms/KEY`: the run folder of the training (run.json, metrics.jsonl), and `result.json`,
which is written last and whole, with a digest. A folder without it is an arm that did not end: its training goes on
from its last checkpoint, bit for bit, or begins again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from lossgap.arguments import Given
from lossgap.attribution.arm import Arm, ArmFailed, ArmResult, Measurement, arm_folder
from lossgap.attribution.code_digest import code_digest
from lossgap.attribution.prefix import prefix_folder
from lossgap.config import TrainConfig
from lossgap.corpus import Corpus, open_corpus
from lossgap.errors import CheckpointError, ConfigError, LossgapWarning, RunFolderError, TrainingError
from lossgap.evaluation.same_targets import same_tokens
from lossgap.runs.lock import FolderLock
from lossgap.runs.run import Run
from lossgap.runs.run_json import replace_file
from lossgap.settings import settings_of
from lossgap.strangers import one_line

RESULT = "result.json"
MOST_BYTES = 1 << 20
FOR_EVER = -1.0
"""`FolderLock`'s word for it: whoever has the arm ends, or is killed."""
CODE = (
    "gpt.py", "random.py", "dropout.py", "corpus/windows.py", "corpus/dataset.py", "training/train.py",
    "training/loop.py", "training/update.py", "training/draws.py", "training/batches.py", "training/optimizer.py",
    "schedule.py", "training/numerics.py", "evaluation/splits.py", "evaluation/losses.py",
    "evaluation/same_targets.py", "attribution/measure.py", "attribution/prefix.py",
)  # fmt: skip
"""The files on which an arm's losses depend."""


@cache
def code_hash() -> str:
    """Hash of what decides an arm's bits beside its settings: our files, torch's version, the CPU's instructions."""
    import torch

    folder = Path(__file__).parents[1]
    digest = hashlib.sha256(code_digest(folder / name for name in CODE).encode())
    digest.update(f"{torch.__version__} {torch.backends.cpu.get_cpu_capability()}".encode())
    return digest.hexdigest()


def our_arm(
    config: Mapping[str, object],
    seed: int,
    measurement: Measurement,
    corpus: Corpus,
    device: str,
    threads: int,
    train_tokens: int = 0,
) -> Arm:
    """The arm that trains `config` with our trainer, on this device; only settings that change the training count.

    It trains on the first `train_tokens` tokens of train; 0: on all of them.
    """
    meaning = {name for name, item in settings_of(TrainConfig).items() if item.meaning}
    values = {name: value for name, value in config.items() if name in meaning and name not in ("seed", "eval_only")}
    repetition = config.get("seed")
    shift = repetition - TrainConfig.seed if isinstance(repetition, int) else 0
    values |= {"device": device, "threads": threads, "rng": "counter", "init_from": "scratch"}
    return Arm(
        config=values,
        seed=seed + shift,
        measurement=measurement,
        corpus=corpus.tokens_sha256,
        code=code_hash(),
        train_tokens=train_tokens,
    )


def run_arm(arm: Arm, root: Path) -> ArmResult:
    """Train and measure an arm, or take its stored result. Raises ArmFailed, LossgapError, OSError.

    One process has an arm at a time. Another one waits for it, then takes its result: two experiments that share an
    arm, or a new one while the worker of a killed one is still ending.
    """
    known = stored(arm.key, root)
    if known is not None:
        return known
    with _alone(arm.key, root):
        for torn in arm_folder(arm.key, root).glob(f"{RESULT}.tmp-*"):
            torn.unlink()  # of a process that was killed in `keep`
        with _memory_told():
            return stored(arm.key, root) or _run(arm, root)


def _alone(key: str, root: Path) -> FolderLock:
    # Not in the arm's own folder, which a foreign trainer's attempt moves away.
    folder = root / "locks" / key
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossgapWarning)
        return FolderLock(folder, patience=FOR_EVER).acquire()


def _run(arm: Arm, root: Path) -> ArmResult:
    start = time.perf_counter()
    if arm.command:
        from lossgap.attribution.foreign.runner import run_foreign

        _check_trainer(arm)
        result = run_foreign(arm, root)
        keep(result, root)
        return result
    corpus = _corpus(arm)
    folder = arm_folder(arm.key, root)
    try:
        result = _measured(arm, folder, _train(arm, folder, corpus, root), corpus, start)
    except (CheckpointError, RunFolderError) as error:
        if error.slug == "run-folder-in-use":
            raise
        shutil.rmtree(folder, ignore_errors=True)  # damaged: it costs the time, not the experiment
        result = _measured(arm, folder, _train(arm, folder, corpus, root), corpus, start)
    keep(result, root)
    for path in folder.glob("ckpt*.pt"):  # only now: until the result stands, they are what an arm goes on from
        path.unlink()
    return result


def _check_trainer(arm: Arm) -> None:
    """Raises ArmFailed where a foreign trainer's files or data are not those that the experiment began with."""
    from lossgap.attribution.foreign.runner import Runner

    runner = Runner(
        command=arm.command,
        reader=arm.reader,
        folder=Path(arm.folder),
        seed_arg=arm.seed_arg,
        override_form=arm.override_form,
    )
    here = runner.arm(arm.config, arm.seed, arm.measurement, ends=(arm.config, arm.config))
    if (here.code, here.corpus) != (arm.code, arm.corpus):
        what = "program, files or version of lossgap" if here.code != arm.code else "data"
        raise ArmFailed(
            "failed",
            f"the trainer's {what} in {arm.folder} are not those that the experiment began with: give every machine "
            "the same, and run the same command again",
        )


def _corpus(arm: Arm) -> Corpus:
    """The arm's corpus. Raises ArmFailed where this machine has another one or other code: it would be another arm."""
    if arm.code != code_hash():
        raise ArmFailed(
            "failed",
            "lossgap, torch or the CPU's instructions are not those that the experiment began with: install the same "
            "versions on every machine, or begin again here",
        )
    name = str(arm.config["dataset"])
    corpus = open_corpus(name)
    if corpus.tokens_sha256 != arm.corpus:
        raise ArmFailed(
            "failed",
            f"dataset={one_line(name)} has other tokens here than where the experiment began (SHA-256 "
            f"{corpus.tokens_sha256[:12]}, there {arm.corpus[:12]}): give every machine the same file under this name",
        )
    return corpus


def stored(key: str, root: Path) -> ArmResult | None:
    """The result of an arm that ended; None if there is none, or if it was damaged."""
    try:
        data = (arm_folder(key, root) / RESULT).read_bytes()[:MOST_BYTES]
        content = json.loads(data)
        result = ArmResult.from_dict(content["result"])
        damaged = content["sha256"] != _digest(content["result"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    return None if damaged or result is None or result.key != key else result


def keep(result: ArmResult, root: Path) -> None:
    """Write an arm's result, whole or not at all."""
    content = json.loads(json.dumps(result.to_dict()))
    folder = arm_folder(result.key, root)
    folder.mkdir(parents=True, exist_ok=True)
    with replace_file(folder / RESULT) as stream:
        stream.write(json.dumps({"result": content, "sha256": _digest(content)}).encode())


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def training_settings(arm: Arm, folder: Path) -> dict[str, object]:
    """Every setting of the arm's training: its own, and how it evaluates and saves."""
    config = TrainConfig.from_dict({**arm.config, "seed": arm.seed})
    every = max(1, config.max_iters // arm.measurement.evaluations)
    share = config.tokens_per_iter * (config.max_iters + 1) // (2 * arm.measurement.evaluations)
    tokens = min(arm.measurement.tokens, share)
    measured = {
        "eval_interval": every,
        "eval_iters": max(1, round(tokens / (config.batch_size * config.block_size))),
        "log_interval": max(1, config.max_iters),
        "always_save_checkpoint": False,
        "final_eval": False,
        "out_dir": str(folder),
        "init_from": "resume",  # goes on where there is something to go on from, else begins
    }
    return {**dataclasses.asdict(config), **measured}


def _train(arm: Arm, folder: Path, corpus: Corpus, root: Path) -> Run:
    from lossgap.kernels.check import certify
    from lossgap.training.progress import Silence
    from lossgap.training.train import train_given

    settings = training_settings(arm, folder)
    if arm.train_tokens:
        settings["dataset"] = str(prefix_folder(corpus, arm.train_tokens, root))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LossgapWarning)
        try:
            return train_given(Given(settings, {}), Silence(), certify).run
        except TrainingError as error:
            if error.slug == "loss-not-finite":
                shutil.rmtree(folder, ignore_errors=True)
                raise ArmFailed("not-finite", str(error)) from error
            raise ArmFailed("failed", str(error)) from error
        except ConfigError as error:
            if error.slug == "does-not-fit":
                raise ArmFailed("out-of-memory", str(error)) from error
            raise


@contextlib.contextmanager
def _memory_told() -> Iterator[None]:
    """torch has no kind of error of its own for the CPU's memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate" in str(error):
            why = str(error).strip().partition("\n")[0] or "no memory left"
            raise ArmFailed("out-of-memory", why) from error
        raise


def _measured(arm: Arm, folder: Path, run: Run, corpus: Corpus, start: float) -> ArmResult:
    """Both states on the whole val split, at the common context and at the arm's own."""
    from lossgap.evaluation import losses
    from lossgap.evaluation.checkpoints import loaded
    from lossgap.training import checkpoint

    config = TrainConfig.from_dict({**arm.config, "seed": arm.seed})
    numerics = losses.alike(config.device, config.threads)
    laid = same_tokens(len(corpus.val), (config.block_size, min(config.block_size, arm.measurement.context)))
    measured = {}
    for of in ("final", "best"):
        found = checkpoint.load(folder / f"ckpt-{of}.pt")
        model = loaded(found).model
        common = losses.score_alike(model, corpus.val, laid.common[0], numerics).mean
        longer = config.block_size > arm.measurement.context
        own = losses.score_alike(model, corpus.val, laid.own[0], numerics).mean if longer else common
        if not (math.isfinite(common) and math.isfinite(own)):
            raise ArmFailed(
                "not-finite", f"the {of} state's val loss is {common} on all of val: lower the learning rate"
            )
        measured[of] = (common, own, found.iter_num)
    rows = run.evals.filter(run.evals["kind"] == "eval").select("iter", "val_loss").rows()
    curve = tuple((int(at), float(loss)) for at, loss in rows if loss is not None)
    return ArmResult(
        key=arm.key,
        val_loss=measured["final"][0],
        best_val_loss=measured["best"][0],
        own_val_loss=measured["final"][1],
        own_best_val_loss=measured["best"][1],
        best_iter=measured["best"][2],
        exact=True,
        standard_error=0.0,
        seconds=time.perf_counter() - start,
        run=str(folder),
        curve=curve,
    )
