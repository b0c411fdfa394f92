"""Arms on Ray: one that is started for the experiment, and a cluster that somebody else started."""

from __future__ import annotations

import _thread
import json
import platform
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from lossgap.attribution import measure, ray_executor
from lossgap.attribution.arm import Arm
from lossgap.attribution.executor import Done
from lossgap.attribution.local import work
from lossgap.attribution.ray_executor import RayExecutor, RayShare, work_there
from lossgap.errors import ConfigError

from .fake_executor import arm_of, result_of
from .small_arms import alive, family, in_the_middle, small_arm, wait_until, write_text

LONG = 100_000
"""Iterations of an arm that ends by being ended."""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture
def ray() -> Any:
    return pytest.importorskip("ray", reason="the extra [ray] is not installed")


@pytest.fixture
def cluster(ray: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster with 2 CPUs and what it takes for a GPU; it must outlive those who join it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # a new cluster asks for one, and only `auto` sends it by itself
    script = Path(__file__).with_name("ray_cluster.py")
    running = subprocess.Popen(
        [sys.executable, str(script), "2", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert running.stdin is not None
    assert running.stdout is not None
    try:
        address = running.stdout.readline().strip()
        assert address
        yield address
        assert running.poll() is None
        assert any("raylet" in command for command in alive(family(running.pid)))
    finally:
        running.stdin.close()
        running.wait(60)
        running.stdout.close()


def same(done: Done, root: Path) -> None:
    """Assert that an arm gave what this process makes of it, to the last bit."""
    here = work(done.arm.to_dict(), str(root / "here")).result
    assert done.failure is None, done.why
    assert done.result is not None
    assert here is not None
    assert replace(done.result, seconds=0, run="") == replace(here, seconds=0, run="")


# ---------------------------------------------------------------------------------------------
# A Ray of our own


def test_a_ray_of_our_own_gives_what_one_process_gives_and_goes(ray: Any, text: Path, tmp_path: Path) -> None:
    before = {process.pid for process in family()}
    handler = signal.getsignal(signal.SIGTERM)
    huge = small_arm(text, batch_size=1 << 44)
    diverging = small_arm(text, learning_rate=1e9)
    missing = replace(small_arm(text), config={**small_arm(text).config, "dataset": "nowhere.txt"})
    arms = [small_arm(text, 1), huge, small_arm(text, 2), diverging, missing, small_arm(text, 3)]
    with RayExecutor(tmp_path / "root", 2) as executor:
        ended = {done.arm.key: done for done in executor.run(arms)}
        assert len(ended) == 6
        assert executor.at_once == 2
        started = [process for process in family() if process.pid not in before]
        assert any("raylet" in command for command in alive(started))
        assert any("lossgap" in command or "ray::" in command for command in alive(started))
        for arm in (arms[0], arms[2], arms[5]):
            same(ended[arm.key], tmp_path)
            assert measure.stored(arm.key, tmp_path / "root") == ended[arm.key].result
        assert ended[huge.key].failure == "out-of-memory"
        assert ended[huge.key].why.startswith("Unable to allocate 128")
        assert ended[diverging.key].failure == "not-finite"
        assert ended[missing.key].failure == "failed"
        assert ended[missing.key].why.startswith("no corpus dataset=nowhere.txt")
    assert not ray.is_initialized()
    assert signal.getsignal(signal.SIGTERM) is handler
    wait_until(lambda: alive(started) == [], "the end of Ray's processes")


def test_a_lost_worker_is_started_again_by_ray_and_told_in_the_end(
    ray: Any, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost, whole = small_arm(text, max_iters=LONG), small_arm(text, 2, max_iters=600)
    with RayExecutor(tmp_path, 1) as executor:
        thread = Thread(target=lambda: in_the_middle(tmp_path)[1].kill())
        thread.start()
        (done,) = executor.run([whole])
        thread.join()
        same(done, tmp_path)
        monkeypatch.setattr(ray_executor, "RETRIES", 0)
        thread = Thread(target=lambda: in_the_middle(tmp_path)[1].kill())
        thread.start()
        (done,) = executor.run([lost])
        thread.join()
        assert (done.arm.key, done.failure) == (lost.key, "killed")
        assert done.why == "its Ray worker was lost 1 times"
        # Whoever closes the round ends what runs.
        ended = executor.run([lost])
        assert isinstance(ended, Generator)
        found: list[psutil.Process] = []

        def stop() -> None:
            found.append(in_the_middle(tmp_path)[1])
            _thread.interrupt_main()

        Thread(target=stop).start()
        with pytest.raises(KeyboardInterrupt):
            next(ended)
        wait_until(lambda: alive(found) == [], "the end of the arm that was in training at Ctrl-C")
    assert capsys.readouterr().out == "", "Ray has no business on the standard output"


# ---------------------------------------------------------------------------------------------
# Somebody else's cluster


def test_a_cluster_is_joined_and_left_as_it_was(cluster: str, ray: Any, text: Path, tmp_path: Path) -> None:
    wide = small_arm(text, 3, threads=3)
    on_gpu = replace(small_arm(text), config={**small_arm(text).config, "device": "cuda"})
    with RayExecutor(tmp_path, 64, cluster) as executor:
        ended = {done.arm.key: done for done in executor.run([small_arm(text, 1), wide, small_arm(text, 2), on_gpu])}
        assert executor.at_once in (1, 2), "as many as the cluster has room for"
        same(ended[small_arm(text, 1).key], tmp_path)
        same(ended[small_arm(text, 2).key], tmp_path)
        assert ended[wide.key].failure == "failed"
        assert ended[wide.key].why == "no machine of the Ray cluster has the 3 CPUs that it takes"
        assert ended[on_gpu.key].failure == "failed"
        assert "cuda" in ended[on_gpu.key].why
    assert not ray.is_initialized()
    # Where this process is in a cluster already, that one is used and not left.
    ray.init(address=cluster, log_to_driver=False, logging_level="ERROR")
    try:
        with RayExecutor(tmp_path, 64) as executor:
            same(next(iter(executor.run([small_arm(text, 5)]))), tmp_path)
        assert ray.is_initialized()
    finally:
        ray.shutdown()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "nonsense", "nowhere.invalid:6379"])
def test_a_cluster_that_is_not_there_is_one_line(address: str, ray: Any, text: Path, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with RayExecutor(tmp_path, 1, address) as executor, pytest.raises(ConfigError) as caught:
        list(executor.run([small_arm(text)]))
    assert caught.value.slug == "ray-unusable"
    assert str(caught.value).startswith(f"--executor=ray: Ray cannot be joined at {address} (")
    assert "\n" not in str(caught.value)
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token_is_one_line_with_the_remedy(
    cluster: str, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own: Ray reads the variable when it is loaded."""
    monkeypatch.delenv("RAY_AUTH_MODE")
    script = Path(__file__).with_name("killed_experiment.py")
    command = [sys.executable, str(script), str(text), str(tmp_path / "root"), cluster, "20"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "ray-unusable" in told.stdout, told.stderr
    assert "if the cluster asks for a token: RAY_AUTH_MODE=token" in told.stdout


def test_without_ray_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError) as caught:
        ray_executor.ray_executor(None)
    assert caught.value.slug == "missing-extra"
    line = "--executor=ray needs ray, which is not installed; pip install 'lossgap[ray]', or --executor=local"
    assert str(caught.value) == line


def test_a_folder_is_no_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "ray").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    try:
        with pytest.raises(ConfigError, match="which is not installed"):
            ray_executor.ray_executor(None)
    finally:
        sys.modules.pop("ray", None)  # the folder: else the next test takes it for Ray


def test_nothing_is_started_where_nothing_is_to_run(tmp_path: Path, ray: Any) -> None:
    with RayExecutor(tmp_path / "root", 2) as executor:
        assert list(executor.run([])) == []
    assert not ray.is_initialized()
    assert not (tmp_path / "root").exists()


# ---------------------------------------------------------------------------------------------
# Without Ray: what an arm takes, what a worker does, what comes back


@pytest.mark.parametrize(
    ("config", "command", "gpus", "share"),
    [
        ({"threads": 4, "device": "cpu"}, (), True, RayShare(4, 0.0)),
        ({"threads": 1, "device": "cuda"}, (), False, RayShare(1, 1.0)),
        ({"device": "cuda:0"}, (), True, RayShare(1, 1.0)),
        ({"threads": 0}, (), True, RayShare(1, 0.0)),
        ({}, ("python", "train.py"), True, RayShare(1, 1.0)),
        ({}, ("python", "train.py"), False, RayShare(1, 0.0)),
        ({"device": "cpu"}, ("python", "train.py"), True, RayShare(1, 0.0)),
    ],
)
def test_what_an_arm_takes(config: dict[str, object], command: tuple[str, ...], gpus: bool, share: RayShare) -> None:
    arm = replace(arm_of(frozenset(), 1), config=config, command=command)
    assert RayShare.of(arm, gpus) == share


@pytest.mark.parametrize(
    ("share", "machine", "fits"),
    [
        (RayShare(2), {"CPU": 7.0}, 3),
        (RayShare(8), {"CPU": 7.0}, 0),
        (RayShare(1, 1.0), {"CPU": 7.0, "GPU": 2.0}, 2),
        (RayShare(4, 1.0), {"CPU": 7.0, "GPU": 2.0}, 1),
        (RayShare(1, 0.5), {"CPU": 7.0, "GPU": 1.0}, 2),
        (RayShare(1, 1.0), {"CPU": 7.0}, 0),
        (RayShare(1), {}, 0),
    ],
)
def test_what_fits_on_a_machine(share: RayShare, machine: dict[str, float], fits: int) -> None:
    assert share.fits(machine) == fits


def test_a_worker_without_the_experiments_disk_keeps_results_in_its_own_cache(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOSSGAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    told = work_there(small_arm(text).to_dict(), str(tmp_path / "nowhere"), str(tmp_path / "nowhere"))
    assert json.loads(json.dumps(told)) == told
    assert told["host"] == platform.node()
    assert measure.stored(small_arm(text).key, tmp_path / "cache" / "explain") is not None
    assert not (tmp_path / "nowhere").exists()


def test_a_corpus_is_looked_for_in_the_experiments_folder(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(text.parent)
    arm = small_arm(Path(text.name))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    told = work_there(arm.to_dict(), str(tmp_path), str(tmp_path / "nowhere"))
    assert told["failure"] == "failed"
    assert str(told["why"]).startswith(f"no corpus dataset={text.name}")
    assert work_there(arm.to_dict(), str(tmp_path), str(text.parent))["failure"] is None


class Lost(Exception):  # noqa: N818
    """In the place of every error of Ray's."""


ERRORS = ("OutOfMemoryError", "WorkerCrashedError", "NodeDiedError", "ObjectLostError", "LocalRayletDiedError")


def told(arm: Arm, answer: object, tmp_path: Path) -> Done:
    """What the experiment makes of an answer, or of an error of Ray's."""
    executor = RayExecutor.__new__(RayExecutor)
    kinds = {name: type(name, (Lost,), {}) for name in (*ERRORS, "OtherError")}

    def get(ref: object) -> object:
        if isinstance(answer, str):
            raise kinds[answer]("\x1b[36mray::work()\x1b[39m\nModuleNotFoundError: No module named 'lossgap'")
        return answer

    executor._ray = SimpleNamespace(exceptions=SimpleNamespace(**kinds, RayError=Lost), get=get)
    return executor._done(None, arm)


def test_what_comes_back_is_checked(tmp_path: Path) -> None:
    arm, other = arm_of(frozenset("a"), 1), arm_of(frozenset("b"), 1)
    away = {"host": "there", "failure": None, "why": ""}
    here = {**away, "host": platform.node()}
    assert told(arm, {**away, "result": result_of(arm).to_dict()}, tmp_path).result == replace(
        result_of(arm), run="there:nowhere"
    )
    kept = replace(result_of(arm), run=str(tmp_path))
    assert told(arm, {**here, "result": kept.to_dict()}, tmp_path).result == kept
    no_number = {**kept.to_dict(), "val_loss": "x"}
    answers: list[object] = [None, [], {}, {"result": result_of(other).to_dict()}, {"result": no_number}]
    for answer in answers:
        done = told(arm, answer, tmp_path)
        assert (done.arm, done.result, done.failure) == (arm, None, "failed")
    assert told(arm, {**here, "result": None, "failure": "not-finite", "why": "w"}, tmp_path) == Done(
        arm=arm, failure="not-finite", why="w"
    )
    assert told(arm, {**away, "result": None, "failure": "no kind", "why": "w"}, tmp_path) == Done(
        arm=arm, failure="failed", why="w (on there)"
    )


@pytest.mark.parametrize("error", [*ERRORS, "OtherError"])
def test_every_error_of_rays_is_one_line_of_the_arm(error: str, tmp_path: Path) -> None:
    arm = arm_of(frozenset("a"), 1)
    done = told(arm, error, tmp_path)
    kind = {"OutOfMemoryError": "out-of-memory", "OtherError": "failed"}.get(error, "killed")
    assert (done.arm, done.result, done.failure) == (arm, None, kind)
    assert done.why.isprintable()
    assert (done.why == "ModuleNotFoundError: No module named 'lossgap'") == (error == "OtherError")
