"""Arms on a Ray cluster (extra `[ray]`): many machines, or one that Ray starts here for the experiment and stops again.

    executors = ray_executor("10.0.0.7:6379")       # prepare(..., executor=executors); None: a Ray of our own, here
    executors(root, 2)                              # an `Executor`

One arm is one Ray task, with as many CPUs as it has threads and a GPU where it trains on one. Ray starts a lost task
again, up to `RETRIES` times; then the arm is reported as `killed`. Every machine needs the same lossgap and torch, and
the corpus under the same name: an arm checks both by their hashes. Results come back as JSON-able dicts, since the
machines may have no disk in common; where they have, an arm continues from its checkpoint on whatever machine it is
started again.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import platform
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from lossgap.attribution.arm import Arm, ArmResult, Failure
from lossgap.attribution.executor import Done, Executor
from lossgap.corpus.cache import cache_folder
from lossgap.errors import ConfigError
from lossgap.runs.values import as_mapping, as_text
from lossgap.strangers import one_line

if TYPE_CHECKING:
    from lossgap.attribution.explain import Executors

RETRIES: Final = 2
"""Times that Ray starts the task of a lost worker again."""
STORE_BYTES: Final = 80_000_000
"""The object store of a Ray of our own, about the least there can be: results are small, its default 30% of memory."""
LOOK_AGAIN: Final = 30.0
"""Seconds after which machines that have joined are seen."""
PATIENCE: Final = 10.0
"""Seconds for a cluster to answer."""
LOOPBACK: Final = "127.0.0.1"
"""Where a Ray of our own listens: nobody else has business with it."""


@dataclass(frozen=True)
class RayShare:
    """The share of a machine that one arm takes."""

    cpus: int
    gpus: float = 0.0

    @classmethod
    def of(cls, arm: Arm, cluster_has_gpus: bool) -> RayShare:
        """Its threads, and a GPU if it trains on one, or may: a foreign trainer that is given no device."""
        threads = arm.config.get("threads")
        device = arm.config.get("device")
        wanted = device.startswith("cuda") if isinstance(device, str) else bool(arm.command) and cluster_has_gpus
        return cls(threads if isinstance(threads, int) and threads > 0 else 1, 1.0 if wanted else 0.0)

    def fits(self, machine: Mapping[str, float]) -> int:
        """How many of it a machine with these resources takes at a time."""
        found = machine.get("CPU", 0.0) // self.cpus
        return int(min(found, machine.get("GPU", 0.0) // self.gpus) if self.gpus else found)


def ray_executor(address: str | None) -> Executors:
    """Return a maker of executors: in the cluster at `address` (`auto`: the one running here), or a Ray here if None.

    Raises ConfigError `missing-extra`.
    """
    _ray()

    def made(root: Path, at_once: int) -> Executor:
        return RayExecutor(root, at_once, None if address == "local" else address)

    return made


class RayExecutor(Executor):
    """Ray is started, or joined, with the first arm. A Ray that this process had joined before is used, and left as is.

    `at_once` counts for a Ray of our own; in a cluster it becomes what the cluster has room for.
    """

    def __init__(self, root: Path, at_once: int, address: str | None = None) -> None:
        self.root = root.absolute()
        self.at_once = at_once
        self.address = address
        self._ray = _ray()
        self._entered = False
        """True if this process came into a Ray through us, and so leaves it with us."""
        self._sigterm: Any = None

    def __enter__(self) -> RayExecutor:
        """See the class."""
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the cluster, or stop the Ray that was started."""
        if self._entered:
            self._ray.shutdown()
            _talk(self._ray, True)
            self._entered = False
            _handle_sigterm(self._sigterm)

    def run(self, arms: Sequence[Arm]) -> Iterator[Done]:
        """See `Executor`. Raises ConfigError `ray-unusable`."""
        if not arms:
            return
        self._start(arms)
        task = self._ray.remote(work_there)
        shares = {arm.key: self._share(arm) for arm in arms}
        machines = self._machines()
        waiting, running = deque[Arm](), dict[Any, Arm]()
        for arm in arms:
            if any(shares[arm.key].fits(machine) for machine in machines):
                waiting.append(arm)
            else:
                yield Done(arm=arm, failure="failed", why=_no_room(shares[arm.key]))
        try:
            while waiting or running:
                room = shares[(waiting or list(running.values()))[0].key]
                self.at_once = max(1, sum(room.fits(machine) for machine in self._machines()))
                while waiting and len(running) < self.at_once:
                    arm = waiting.popleft()
                    options = task.options(
                        num_cpus=shares[arm.key].cpus,
                        num_gpus=shares[arm.key].gpus,
                        max_retries=RETRIES,
                        name=f"lossgap arm {arm.key[:12]}",
                    )
                    running[options.remote(arm.to_dict(), str(self.root), os.getcwd())] = arm
                ended, _ = self._ray.wait(list(running), timeout=LOOK_AGAIN)
                for ref in ended:
                    yield self._done(ref, running.pop(ref))
        finally:
            for ref in running:
                with contextlib.suppress(self._ray.exceptions.RayError):
                    self._ray.cancel(ref, force=True)

    def _start(self, arms: Sequence[Arm]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        if self._ray.is_initialized():
            return
        self._sigterm = signal.getsignal(signal.SIGTERM)
        try:
            if self.address is not None:
                _knock(self.address)
                self._ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
            else:
                self._ray.init(
                    address="local",
                    num_cpus=self.at_once * max(RayShare.of(arm, cluster_has_gpus=False).cpus for arm in arms),
                    include_dashboard=False,
                    object_store_memory=STORE_BYTES,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _node_ip_address=LOOPBACK,
                )
        except Exception as error:  # of many kinds, and all of them are about Ray
            self._ray.shutdown()
            _handle_sigterm(self._sigterm)
            what = "does not start here" if self.address is None else f"cannot be joined at {one_line(self.address)}"
            raise ConfigError(
                "ray-unusable",
                f"--executor=ray: Ray {what} ({_reason(error)}); mend that{_token(error)}, name another --address, or "
                "--executor=local",
            ) from error
        self._entered = True
        _talk(self._ray, False)

    def _machines(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _share(self, arm: Arm) -> RayShare:
        gpus = self._ray.cluster_resources().get("GPU", 0.0)
        share = RayShare.of(arm, gpus > 0)
        if share.gpus and gpus and self._entered and self.address is None:
            return replace(share, gpus=1 / math.ceil(self.at_once / gpus))  # several arms on one, as was asked for
        return share

    def _done(self, ref: Any, arm: Arm) -> Done:
        raised = self._ray.exceptions
        try:
            told = as_mapping(self._ray.get(ref))
        except raised.OutOfMemoryError:
            return Done(
                arm=arm, failure="out-of-memory", why="Ray ended its worker, since the machine's memory ran out"
            )
        except (raised.WorkerCrashedError, raised.NodeDiedError, raised.ObjectLostError, raised.LocalRayletDiedError):
            return Done(arm=arm, failure="killed", why=f"its Ray worker was lost {RETRIES + 1} times")
        except raised.RayError as error:
            return Done(arm=arm, failure="failed", why=_reason(error))
        result = ArmResult.from_dict(as_mapping(told.get("result")))
        host = as_text(told.get("host")) or "another machine"
        if result is None or result.key != arm.key:
            failure = as_text(told.get("failure"))
            why = as_text(told.get("why")) or "its result is not a valid one"
            if host != platform.node():
                why = f"{why} (on {one_line(host)})"
            kinds = {kind: kind for kind in get_args(Failure)}
            return Done(arm=arm, failure=kinds.get(failure, "failed"), why=why)
        if not Path(result.run).exists():
            result = replace(result, run=f"{host}:{result.run}")
        return Done(arm=arm, result=result)


def work_there(content: dict[str, object], root: str, folder: str) -> dict[str, object]:
    """In a Ray worker: `local.work`, in the experiment's working folder where this machine has it.

    Its results are kept in `root` where that is a folder that can be written, such as the experiment's own on a disk in
    common, else in this machine's cache.
    """
    from lossgap.attribution.local import work

    with contextlib.suppress(OSError):
        os.chdir(folder)
    kept = Path(root)
    if not (kept.is_dir() and os.access(kept, os.W_OK | os.X_OK)):
        kept = cache_folder() / "explain"
    done = work(content, str(kept))
    return {
        "result": done.result.to_dict() if done.result is not None else None,
        "failure": done.failure,
        "why": done.why,
        "host": platform.node(),
    }


def _ray() -> Any:  # a foreign module
    # Read when Ray is loaded. A task whose worker was ended for want of memory would be started again for ever.
    os.environ.setdefault("RAY_task_oom_retries", str(RETRIES))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    state = "is not installed"
    try:
        found = importlib.import_module("ray")
        if found.__file__ is not None:  # else it is a folder of that name
            return found
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError) or error.name != "ray":
            state = f"cannot be imported ({_reason(error)})"
    raise ConfigError(
        "missing-extra",
        f"--executor=ray needs ray, which {state}; pip install 'lossgap[ray]', or --executor=local",
    )


def _knock(address: str) -> None:
    """Raises OSError where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdecimal() and int(port) < 1 << 16:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()


def _token(error: Exception) -> str:
    """Ray does not say so when a cluster wants a token, and with an address it sends none by itself."""
    if type(error) is ConnectionError and "RAY_AUTH_MODE" not in os.environ:
        return " (if the cluster asks for a token: RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or ~/.ray/auth_token)"
    return ""


def _talk(ray: Any, aloud: bool) -> None:
    """Ray prints what becomes of its workers on our standard output, into our own, with `log_to_driver=False` too."""
    ray._private.worker._worker_logs_enabled = aloud


def _handle_sigterm(handler: Any) -> None:
    """Put back what Ray replaced; None is a handler that Python does not know."""
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _no_room(share: RayShare) -> str:
    needs = f"{share.cpus} CPUs" + (f" and {share.gpus:g} GPU" if share.gpus else "")
    return f"no machine of the Ray cluster has the {needs} that it takes"


def _reason(error: Exception) -> str:
    """The line of a foreign package's error that says most: the last one, after a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else type(error).__name__
