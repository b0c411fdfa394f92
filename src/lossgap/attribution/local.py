"""Arms on this machine: worker processes that live as long as the experiment, each training one arm at a time.

Each worker is an executor of its own with one process, so that a worker that is killed loses the arm it had and no
other. A worker ends itself when the experiment's process has gone, however that ended: else it would go on training in
a folder that the restarted experiment needs.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Final

from lossgap.attribution.arm import Arm
from lossgap.attribution.executor import Done, Executor
from lossgap.errors import LossgapError
from lossgap.strangers import one_line

_HARMLESS: Final = (None, "not-finite")
"""Ends of an arm that say nothing about its worker's health."""
_BLOCKS: Final = hasattr(signal, "pthread_sigmask")


class LocalExecutor(Executor):
    """`at_once` worker processes; threads per arm are the arm's own setting."""

    def __init__(self, root: Path, at_once: int) -> None:
        self.root = root
        self.at_once = at_once
        self._slots: list[ProcessPoolExecutor | None] = [None] * at_once

    def __enter__(self) -> LocalExecutor:
        """Workers start with their first arm."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the workers at once."""
        for slot in range(self.at_once):
            self._end(slot)

    def run(self, arms: Sequence[Arm]) -> Iterator[Done]:
        """See `Executor`."""
        waiting = list(reversed(arms))
        running: dict[Future[Done], tuple[int, Arm]] = {}
        free = list(range(self.at_once))
        try:
            while waiting or running:
                while waiting and free:
                    slot, arm = free.pop(), waiting.pop()
                    running[self._submit(slot, arm)] = slot, arm
                ended, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    slot, arm = running.pop(future)
                    free.append(slot)
                    yield self._done(future, slot, arm)
        finally:
            for slot, _ in running.values():
                self._end(slot)

    def _submit(self, slot: int, arm: Arm) -> Future[Done]:
        pool = self._slots[slot]
        if pool is not None:
            try:
                return pool.submit(work, arm.to_dict(), str(self.root))
            except BrokenProcessPool:  # killed while it had nothing to do
                self._end(slot)
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        pool = self._slots[slot] = ProcessPoolExecutor(1, mp_context=context, initializer=attend)
        with _interrupts_held():
            return pool.submit(work, arm.to_dict(), str(self.root))

    def _done(self, future: Future[Done], slot: int, arm: Arm) -> Done:
        try:
            done = future.result()
        except BrokenProcessPool:
            done = Done(arm=arm, failure="killed", why="its worker process was ended from outside, or memory ran out")
        if done.failure not in _HARMLESS:
            self._end(slot)  # memory in pieces, a device that refuses everything after an error: the next starts afresh
        return done

    def _end(self, slot: int) -> None:
        pool = self._slots[slot]
        if pool is None:
            return
        for process in list((pool._processes or {}).values()):
            with contextlib.suppress(OSError, ValueError):
                process.kill()
        pool.shutdown(wait=True, cancel_futures=True)
        self._slots[slot] = None


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits while a worker starts, here and in the worker.

    In the worker it is blocked, which it inherits, until the worker has left our process group: it would die of it with
    a traceback. Here a handler keeps it: blocked in this thread, it would come in through one of torch's, and break
    off the start of a worker that nobody knows then.
    """
    before = signal.getsignal(signal.SIGINT)
    if not _BLOCKS or not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # which would be started now, and unblocks what it blocks
    held: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if held:
            before(signal.SIGINT, None)


def work(content: dict[str, object], root: str) -> Done:
    """Train and measure one arm in this process; what goes wrong with it is its result."""
    from lossgap.attribution.arm import ArmFailed
    from lossgap.attribution.measure import run_arm
    from lossgap.training.loop import Interrupted

    arm = Arm.from_dict(content)
    try:
        return Done(arm=arm, result=run_arm(arm, Path(root)))
    except ArmFailed as error:
        return Done(arm=arm, failure=error.failure, why=error.why)
    except LossgapError as error:
        return Done(arm=arm, failure="failed", why=str(error))
    except Interrupted as error:
        return Done(arm=arm, failure="killed", why=f"its worker was told to end ({signal.Signals(error.number).name})")
    except Exception as error:  # noqa: BLE001  # a fault in one arm must not cost the others; it is reported
        return Done(arm=arm, failure="failed", why=one_line(f"{type(error).__name__}: {error}"))


def attend() -> None:
    """In a worker: end with the parent, and leave Ctrl-C, which a terminal sends to the whole group, to it."""
    if hasattr(os, "setsid"):
        os.setsid()
    if _BLOCKS:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # drops one that came while it was blocked
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os._exit(1)
