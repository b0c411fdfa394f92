"""Several processes are one training: real processes under torchrun, over gloo on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lossgap.corpus import open_corpus
from lossgap.errors import ConfigError
from lossgap.gpt import n_places
from lossgap.training.batches import Batches
from lossgap.training.distributed import process_group, share
from lossgap.training.draws import CounterDraws

from .tiny_run import SECONDS, config, document, environment, flags, rows, said, train, write_text

ITERATIONS = 50
TWELVE = {"batch_size": 4, "gradient_accumulation_steps": 3, "dropout": 0.2}
"""A global batch of 12: two processes split micro-batches (3 x 2), three do not (4 x 1)."""

RECORDER = """
import collections, hashlib, json, os, sys
import lossgap.dropout
import lossgap.evaluation.splits
from lossgap.cli.main import main
from lossgap.training.batches import Batches

batches, masks, now = {}, {}, {}
take, keep_mask = Batches.take, lossgap.dropout.keep_mask

def sha(tensor):
    return hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()

def recorded_take(self):
    batch = take(self)
    now.update(at=self._iteration, sequences=list(self.share.sequences(self._micro_step)), place=0)
    for sequence, x, y in zip(now["sequences"], batch.x, batch.y, strict=True):
        batches[f"{now['at']} {sequence}"] = sha(x) + sha(y)
    return batch

def recorded_mask(key, shape, p):
    mask = keep_mask(key, shape, p)
    for sequence, row in zip(now["sequences"], mask, strict=True):
        masks[f"{now['at']} {sequence} {now['place']}"] = sha(row)
    now["place"] += 1
    return mask

Batches.take, lossgap.dropout.keep_mask = recorded_take, recorded_mask
lossgap.evaluation.splits.TOKENS_PER_PASS = 64  # so that an exact evaluation has passes to share
code = main(sys.argv[2:])
with open(f"{sys.argv[1]}-{os.environ.get('RANK', 0)}.json", "w") as file:
    json.dump({"batches": batches, "masks": masks}, file)
sys.exit(code)
"""
"""Runs `lossgap` and writes down what each process really drew: a hash of every window and every mask."""


def torchrun(processes: int, *arguments: str) -> list[str]:
    """The command line that starts `python ARGUMENTS` in so many processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return [sys.executable, *launcher, *arguments]


def run(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the text and three finished trainings, `run-1` to `run-3` by the number of processes."""
    folder = tmp_path_factory.mktemp("distributed")
    text = write_text(folder)
    (folder / "recorder.py").write_text(RECORDER, encoding="utf-8")
    for processes in (1, 2, 3):
        settings = {**TWELVE, "max_iters": ITERATIONS - 1, "eval_interval": 20, "eval_iters": 5}
        train = ["train", *flags(text, out_dir=f"run-{processes}", **settings)]
        program = ["recorder.py", f"drawn-{processes}", *train]
        done = run(folder, [sys.executable, *program] if processes == 1 else torchrun(processes, *program))
        assert done.returncode == 0, done.stderr
        (folder / f"printed-{processes}").write_text(done.stdout, encoding="utf-8")
    return folder


def drawn(folder: Path, processes: int, kind: str) -> dict[str, str]:
    """What all processes of a training drew for its updates: no two of them the same sequence."""
    together: dict[str, str] = {}
    for rank in range(processes):
        written = json.loads((folder / f"drawn-{processes}-{rank}.json").read_text(encoding="utf-8"))[kind]
        # The batch drawn ahead at the end is looked at (is its loss finite?) and not trained on.
        part = {key: value for key, value in written.items() if int(key.split()[0]) < ITERATIONS}
        assert not part.keys() & together.keys(), "two processes drew the same sequence"
        together |= part
    return together


@pytest.mark.parametrize("processes", [2, 3])
def test_batches_are_the_same(folder: Path, processes: int) -> None:
    alone = drawn(folder, 1, "batches")
    assert len(alone) == ITERATIONS * 12
    assert drawn(folder, processes, "batches") == alone


@pytest.mark.parametrize("processes", [2, 3])
def test_dropout_masks_are_the_same(folder: Path, processes: int) -> None:
    alone = drawn(folder, 1, "masks")
    assert len(alone) == ITERATIONS * 12 * n_places(2)
    assert drawn(folder, processes, "masks") == alone


@pytest.mark.parametrize("processes", [2, 3])
def test_losses_agree(folder: Path, processes: int) -> None:
    alone, together = rows(folder / "run-1", "iter"), rows(folder / f"run-{processes}", "iter")
    assert [row["iter"] for row in together] == list(range(ITERATIONS)) == [row["iter"] for row in alone]
    for name, tolerance in (("loss", 1e-5), ("grad_norm", 1e-4)):
        assert [row[name] for row in together] == pytest.approx([row[name] for row in alone], rel=tolerance)
    assert alone[-1]["loss"] < 0.8 * alone[0]["loss"], "a training that learns nothing proves nothing"


@pytest.mark.parametrize("processes", [2, 3])
def test_evaluations_agree(folder: Path, processes: int) -> None:
    """Each process scores a part: five batches among two or three. At iteration 0 the weights are equal bit by bit."""
    for kind, count in (("eval", 3), ("final", 1)):
        alone, together = rows(folder / "run-1", kind), rows(folder / f"run-{processes}", kind)
        assert len(alone) == len(together) == count
        for one, several in zip(alone, together, strict=True):
            exact = one["iter"] == 0
            for name in ("train_loss", "val_loss", "train_se", "val_se"):
                assert several[name] == (one[name] if exact else pytest.approx(one[name], rel=1e-5)), name
            assert several["windows"] == one["windows"]


@pytest.mark.parametrize("processes", [2, 3])
def test_one_process_prints_and_writes(folder: Path, processes: int) -> None:
    lines = (folder / f"printed-{processes}").read_text(encoding="utf-8").splitlines()
    alone = (folder / "printed-1").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(alone)
    assert lines[-1].split(":")[0] == alone[-1].split(":")[0] == "final"
    names = [sorted(path.name for path in (folder / f"run-{n}").iterdir()) for n in (1, processes)]
    assert names[0] == names[1]
    effective = document(folder / f"run-{processes}")["effective"]
    assert (effective["world_size"], effective["micro_batch"], effective["micro_steps"]) == (
        processes,
        *{2: (3, 2), 3: (4, 1)}[processes],
    )


def test_indivisible_batch(folder: Path) -> None:
    command = torchrun(5, "-m", "lossgap", "train", *flags(folder / "text.txt", out_dir="run-5", **TWELVE))
    done = run(folder, command)
    assert done.returncode == 1
    [line] = said(done.stderr)
    assert "= 12 sequences does not divide into 5 equal parts" in line
    assert line.endswith("[batch-not-divisible]")
    assert not (folder / "run-5").exists()


@pytest.mark.parametrize(
    ("settings", "slug"),
    [
        ({"out_dir": "run-1"}, "out-dir-used"),  # only the first process looks at the folder
        ({"learning_rate": 1e30, "grad_clip": 0.0, "warmup_iters": 0}, "loss-not-finite"),  # every process sees it
        ({"resume": "nowhere"}, "no-checkpoint"),  # before the processes form a group
        pytest.param({"max_itres": 5}, "unknown-flag", marks=pytest.mark.slow),  # before torch is imported
        pytest.param({"dataset": "nowhere"}, "unknown-corpus", marks=pytest.mark.slow),
        pytest.param({"backend": "nccl"}, "backend-unusable", marks=pytest.mark.slow),
    ],
)
def test_an_error_is_told_once(folder: Path, settings: dict[str, object], slug: str) -> None:
    arguments = flags(folder / "text.txt", **{"out_dir": f"run-{slug}", **TWELVE, **settings})
    start = time.monotonic()
    done = run(folder, torchrun(2, "-m", "lossgap", "train", *arguments))
    assert done.returncode == 1
    [line] = said(done.stderr)
    assert line.startswith("lossgap: error: ")
    assert line.endswith(f"[{slug}]")
    assert done.stderr.count("Traceback") == 1, "torchrun's own and no other"
    assert time.monotonic() - start < 100


def test_warnings_and_notes_come_from_the_first_process(folder: Path) -> None:
    """Of a resume that has nothing left to do, with settings that every process finds doubtful."""
    doubtful = ["--resume=run-1", "--min_lr=0.5", "--overwrite=False"]
    done = run(folder, torchrun(2, "-m", "lossgap", "train", *doubtful))
    assert done.returncode == 0, done.stderr
    assert [line.rpartition("[")[2] for line in said(done.stderr)] == ["min-lr-above-lr]"]
    assert done.stderr.count("nothing to do") == 1
    assert done.stdout.count("final: ") == 1


def start_and_wait_for_rows(folder: Path, out_dir: str) -> subprocess.Popen[str]:
    """A training of two processes that would never end, after its first ten iterations."""
    settings = {**TWELVE, "max_iters": 1_000_000, "lr_decay_iters": 1_000_000}
    arguments = flags(folder / "text.txt", out_dir=out_dir, **settings)
    with (folder / f"{out_dir}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            torchrun(2, "-m", "lossgap", "train", *arguments),
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    end = time.monotonic() + SECONDS
    while len(rows(folder / out_dir, "iter")) < 10:
        assert process.poll() is None, (folder / f"{out_dir}.log").read_text(encoding="utf-8")
        assert time.monotonic() < end
        time.sleep(0.1)
    return process


def children(process: subprocess.Popen[str]) -> list[int]:
    """The process ids of torchrun's processes, in the order of their start."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
    return sorted(int(pid) for pid in listed.stdout.split())


def assert_stopped(folder: Path, out_dir: str) -> int:
    """The run was stopped by SIGTERM and saved; the iteration that it stopped before."""
    done = len(rows(folder / out_dir, "iter"))
    log = (folder / f"{out_dir}.log").read_text(encoding="utf-8")
    assert log.count("stopped by SIGTERM") == 1
    assert said(log) == []
    assert document(folder / out_dir)["status"] == "interrupted"
    assert torch.load(folder / out_dir / "ckpt-last.pt", weights_only=True)["iter_num"] == done
    return done


def test_sigterm_stops_all_and_the_run_can_go_on_in_one_process(folder: Path) -> None:
    process = start_and_wait_for_rows(folder, "run-stopped")
    process.send_signal(signal.SIGTERM)  # torchrun hands it to each of its processes
    process.wait(60)
    done = assert_stopped(folder, "run-stopped")

    resumed = train(folder, "--init_from=resume", "--out_dir=run-stopped", f"--max_iters={done + 1}")
    [line] = said(resumed.stderr)
    assert "not bit-equal" in line
    assert "processes was 2, is 1" in line
    assert [row["iter"] for row in rows(folder / "run-stopped", "iter")] == list(range(done + 2))
    record = document(folder / "run-stopped")
    assert record["status"] == "finished"
    assert [(seam["iter"], seam["exact"]) for seam in record["seams"]] == [(done, False)]


def test_sigterm_to_one_process_stops_all_at_the_same_iteration(folder: Path) -> None:
    process = start_and_wait_for_rows(folder, "run-stopped-by-one")
    os.kill(children(process)[-1], signal.SIGTERM)  # not the first process, which writes
    process.wait(60)
    assert_stopped(folder, "run-stopped-by-one")


def test_a_killed_process_ends_the_others(folder: Path) -> None:
    process = start_and_wait_for_rows(folder, "run-killed")
    os.kill(children(process)[-1], signal.SIGKILL)  # not the first process, which writes
    assert process.wait(60) == 1
    log = (folder / "run-killed.log").read_text(encoding="utf-8")
    [line] = said(log)
    assert "process 0 of 2 waited for another one, which has ended" in line
    assert log.count("Traceback") == 1, "torchrun's own and no other"
    assert document(folder / "run-killed")["status"] == "failed"


def test_half_of_torchruns_variables(folder: Path) -> None:
    """A batch system may set RANK and WORLD_SIZE for purposes of its own."""
    variables = {"RANK": "0", "WORLD_SIZE": "1"}
    done = train(folder, *flags(folder / "text.txt", out_dir="run-half"), code=1, variables=variables)
    [line] = said(done.stderr)
    assert "MASTER_ADDR expected, but not set; start them with torchrun" in line
    assert line.endswith("[process-group]")


def test_without_torchrun() -> None:
    with process_group("nccl", "cuda:3") as joined:
        assert joined == (0, 1, "cuda:3")


@given(world_size=st.integers(1, 12), batch_size=st.integers(1, 40), steps=st.integers(1, 40), parts=st.integers(1, 12))
def test_shares_are_equal_and_cover_the_batch(world_size: int, batch_size: int, steps: int, parts: int) -> None:
    total = batch_size * steps
    if total % world_size:
        with pytest.raises(ConfigError, match=f"{total} sequences does not divide into {world_size} equal parts"):
            share(0, world_size, batch_size, steps)
        return
    shares = [share(rank, world_size, batch_size, steps) for rank in range(world_size)]
    mine = [[index for step in range(s.micro_steps) for index in s.sequences(step)] for s in shares]
    assert [index for part in mine for index in part] == list(range(total))
    assert {len(part) for part in mine} == {total // world_size}
    assert all(s.micro_batch <= batch_size for s in shares)
    if steps % world_size == 0:
        assert shares[0].micro_batch == batch_size, "a micro-batch is split without need"


@pytest.mark.parametrize("processes", [2, 3, 4, 6, 12])
def test_micro_batches_of_all_processes(folder: Path, processes: int) -> None:
    """From any first iteration on, and with or without dropout keys."""
    corpus = open_corpus(str(folder / "text.txt"), cache=folder / "cache")
    settings = config(**TWELVE)
    draws = CounterDraws(settings.seed, keyed_dropout=True)

    def global_batches(world_size: int, places: int, parts: int) -> list[np.ndarray]:
        found: list[list[torch.Tensor]] = [[], [], [], []]
        for rank in range(world_size):
            own = share(rank, world_size, 4, 3)
            batches = Batches(corpus, draws, own, settings.block_size, places, "cpu", 7, lambda _: parts)
            for step in range(2 * own.micro_steps):
                batch, (iteration, _) = batches.take(), divmod(step, own.micro_steps)
                assert (batch.keys is None) == (places == 0)
                found[iteration].append(torch.cat([batch.x, batch.y], dim=1))
                found[2 + iteration].append(batch.x if batch.keys is None else batch.keys.flatten(1))
                batches.prefetch()
        return [torch.cat(parts).numpy() for parts in found]

    for places, parts in ((0, 1), (n_places(2), 1), (n_places(2), 4)):
        for one, several in zip(
            global_batches(1, places, parts), global_batches(processes, places, parts), strict=True
        ):
            np.testing.assert_array_equal(several, one)
