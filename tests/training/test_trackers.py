"""Trackers: what they are given is what the record holds; without their package, one line says so."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from lossgap.config import TrainConfig
from lossgap.errors import LossgapWarning
from lossgap.training.trackers import Watched, open_trackers

from .small import Ended, one_error
from .tiny_run import SETTINGS, document, environment, flags, rows
from .tiny_run import train as train_in_a_process

Train = Callable[..., Ended]
Curves = dict[str, dict[int, float]]
"""Values by name and iteration."""

needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed (extra tensorboard)"
)
needs_wandb = pytest.mark.skipif(
    importlib.util.find_spec("wandb") is None, reason="wandb is not installed (extra wandb)"
)
needs_mlflow = pytest.mark.skipif(
    importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed (extra mlflow)"
)
SHORT = {**SETTINGS, "threads": 2, "max_iters": 6, "eval_interval": 3}


def recorded(run: Path) -> Curves:
    """What a tracker should hold, from the run's own record."""
    curves: Curves = {name: {} for name in ("train/loss", "val/loss", "iter/loss", "lr", "grad_norm", "mfu")}
    for row in rows(run, "iter"):
        for name, field in (("iter/loss", "loss"), ("lr", "lr"), ("grad_norm", "grad_norm")):
            curves[name][row["iter"]] = row[field]
    for row in rows(run, "eval") + rows(run, "final"):
        curves["train/loss"][row["iter"]] = row["train_loss"]
        curves["val/loss"][row["iter"]] = row["val_loss"]
    mfu = {row["iter"]: row["mfu"] for row in rows(run, "iter")}
    for row in rows(run, "eval"):
        before = mfu.get(row["iter"] - 1)
        curves["mfu"][row["iter"]] = -100.0 if before is None else 100 * before
    return curves


def tensorboard_curves(run: Path) -> Curves:
    """What TensorBoard shows of a run folder, read by TensorBoard itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a foreign package's own imports
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run / "tensorboard"))
    accumulator.Reload()
    curves: Curves = {}
    for name in accumulator.Tags()["scalars"]:
        events = {(event.step, event.value) for event in accumulator.Scalars(name)}
        assert len(dict(events)) == len(events), f"{name} has two values at one iteration"
        curves[name] = dict(events)
    return curves


def assert_same(found: Curves, expected: Curves) -> None:
    assert found.keys() == expected.keys()
    for name, curve in expected.items():
        assert found[name].keys() == curve.keys(), name
        for iteration, value in curve.items():
            assert found[name][iteration] == pytest.approx(value, rel=1e-6), (name, iteration)  # it keeps float32


@needs_tensorboard
def test_tensorboard_holds_what_the_record_holds(train: Train) -> None:
    assert train("out", **{**SHORT, "tensorboard_log": True}).code == 0
    assert [row["iter"] for row in rows(Path("out"), "eval")] == [0, 3, 6]
    assert rows(Path("out"), "final")[0]["iter"] == 7
    expected = recorded(Path("out"))
    # The rate of an evaluation is that of the update after it, so the curve of the rate has no gaps.
    assert list(expected["lr"]) == list(range(7))
    assert_same(tensorboard_curves(Path("out")), expected)


@needs_tensorboard
def test_tensorboard_after_a_resume_has_no_point_twice(train: Train, command: Callable[..., Ended]) -> None:
    """The final losses of the first part belong to a state that is no longer the end."""
    assert train("out", **{**SHORT, "tensorboard_log": True, "max_iters": 3}).code == 0
    assert command("train", "--init_from=resume", "--out_dir=out", "--max_iters=6", "--tensorboard_log=True").code == 0
    assert_same(tensorboard_curves(Path("out")), recorded(Path("out")))


@needs_tensorboard
def test_tensorboard_after_overwriting_shows_the_new_run_alone(train: Train) -> None:
    assert train("out", **{**SHORT, "tensorboard_log": True, "max_iters": 9}).code == 0
    assert train("out", **{**SHORT, "tensorboard_log": True, "overwrite": True, "learning_rate": 0.02}).code == 0
    assert_same(tensorboard_curves(Path("out")), recorded(Path("out")))


@needs_tensorboard
def test_tensorboard_has_everything_once_it_is_closed(tmp_path: Path) -> None:
    [tracker] = open_trackers(TrainConfig(tensorboard_log=True), tmp_path, 0)
    for iteration in range(3):
        tracker.log(iteration, {"loss": 0.5 * iteration})
    tracker.close()  # the tracker is still there, so nothing else has written what was buffered
    assert tensorboard_curves(tmp_path) == {"loss": {0: 0.0, 1: 0.5, 2: 1.0}}


@needs_tensorboard
def test_tensorboard_that_cannot_write_is_one_line(train: Train, command: Callable[..., Ended]) -> None:
    assert train("out", **SHORT).code == 0
    Path("out/tensorboard").write_text("in the way", encoding="utf-8")
    ended = command("train", "--init_from=resume", "--out_dir=out", "--max_iters=8", "--tensorboard_log=True")
    line = one_error(ended, "tracker-unusable")
    assert "--tensorboard_log=True: tensorboard does not start" in line
    assert document(Path("out"))["status"] == "failed"
    resumed = command("train", "--init_from=resume", "--out_dir=out", "--max_iters=8", "--tensorboard_log=False")
    assert resumed.code == 0


@pytest.mark.parametrize("package", ["wandb", "tensorboard", "mlflow"])
def test_missing_package_is_one_line(train: Train, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Told before anything is written, so that the same command works once the package is there."""
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    ended = train("out", **{**SHORT, f"{package}_log": True})
    line = one_error(ended, "missing-extra")
    assert f"--{package}_log=True needs {package}, which is not installed; pip install 'lossgap[{package}]'" in line
    assert not Path("out").exists()


def test_broken_package_is_one_line(train: Train, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken" / "wandb").mkdir(parents=True)
    (tmp_path / "broken" / "wandb" / "__init__.py").write_text("import no_such_part\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "broken"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    line = one_error(train("out", **{**SHORT, "wandb_log": True}), "missing-extra")
    assert "wandb, which cannot be imported (No module named 'no_such_part')" in line


def test_a_folder_is_no_package(train: Train, monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    """wandb leaves a folder `wandb` behind, which Python would import."""
    (here / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(here), *(path for path in sys.path if not (Path(path) / "wandb").exists())])
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    line = one_error(train("out", **{**SHORT, "wandb_log": True}), "missing-extra")
    assert "needs wandb, which is not installed" in line


def test_no_tracker_unless_asked_for(tmp_path: Path) -> None:
    assert open_trackers(TrainConfig(), tmp_path, 0) == []


class Fragile:
    """Takes one set of values and fails at the next, as a tracker does whose server went away."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.taken: list[tuple[int, Mapping[str, float]]] = []

    def log(self, iteration: int, values: Mapping[str, float]) -> None:
        if self.taken:
            raise self.error
        self.taken.append((iteration, values))

    def close(self) -> None:
        raise self.error


def test_a_tracker_that_fails_is_left_behind() -> None:
    inner = Fragile(ConnectionError("the server is gone\nmany more lines"))
    tracker = Watched(inner, "wandb", (OSError,))
    tracker.log(0, {"loss": 1.0})
    with pytest.warns(
        LossgapWarning, match=r"^wandb takes no more values at iteration 1 \(the server is gone\); "
    ) as told:
        tracker.log(1, {"loss": 2.0})
    assert [warning.message.slug for warning in told] == ["tracker-lost"]  # type: ignore[union-attr]  # a LossgapWarning
    tracker.log(2, {"loss": 3.0})  # in silence from here on
    tracker.close()
    assert inner.taken == [(0, {"loss": 1.0})]


def test_a_tracker_that_fails_at_the_end() -> None:
    tracker = Watched(Fragile(ConnectionError()), "mlflow", (OSError,))
    with pytest.warns(LossgapWarning, match=r"at the end \(ConnectionError\)"):
        tracker.close()


def test_a_fault_of_ours_is_not_taken_for_the_trackers() -> None:
    tracker = Watched(Fragile(KeyError("loss")), "wandb", (OSError,))
    tracker.log(0, {})
    with pytest.raises(KeyError):
        tracker.log(1, {})


@needs_wandb
def test_wandb_offline(here: Path) -> None:
    arguments = flags(here / "text.txt", max_iters=6, eval_interval=3, wandb_log=True, wandb_run_name="named")
    train_in_a_process(here, *arguments, variables={"WANDB_MODE": "offline", "WANDB_DIR": str(here)})
    [log] = (here / "wandb").glob("offline-run-*/run-*.wandb")
    content = log.read_bytes()
    for word in (b"named", b"train/loss", b"val/loss", b"iter/loss", b"n_layer"):
        assert word in content


@needs_wandb
def test_wandb_without_a_login_is_one_line(here: Path) -> None:
    variables = {"WANDB_MODE": "online", "WANDB_API_KEY": "", "HOME": str(here), "NETRC": str(here / "none")}
    done = train_in_a_process(here, *flags(here / "text.txt", wandb_log=True), code=1, variables=variables)
    assert [line for line in done.stderr.splitlines() if line.endswith("[tracker-unusable]")]
    assert "Traceback" not in done.stderr


READ_MLFLOW = """
import json, sys, mlflow
client = mlflow.MlflowClient()
[run] = client.search_runs(["0"])
names = run.data.metrics
history = {name: [[m.step, m.value] for m in client.get_metric_history(run.info.run_id, name)] for name in names}
print(json.dumps({"name": run.info.run_name, "status": run.info.status, "params": run.data.params, "history": history}))
"""


@needs_mlflow
def test_mlflow_holds_what_the_record_holds(here: Path) -> None:
    variables = {"MLFLOW_TRACKING_URI": f"sqlite:///{here}/mlflow.db"}
    train_in_a_process(
        here, *flags(here / "text.txt", max_iters=6, eval_interval=3, mlflow_log=True), variables=variables
    )
    env = environment(here, **variables)
    done = subprocess.run([sys.executable, "-c", READ_MLFLOW], cwd=here, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert (found["name"], found["status"], found["params"]["n_layer"]) == ("out", "FINISHED", "2")
    assert_same({name: dict(map(tuple, curve)) for name, curve in found["history"].items()}, recorded(here / "out"))


@needs_mlflow
def test_mlflow_without_its_server_is_one_line(here: Path) -> None:
    variables = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    done = train_in_a_process(here, *flags(here / "text.txt", mlflow_log=True), code=1, variables=variables)
    assert [line for line in done.stderr.splitlines() if line.endswith("[tracker-unusable]")]
    assert "Traceback" not in done.stderr


def test_trackers_do_not_touch_the_training(train: Train) -> None:
    """With and without TensorBoard, the same weights."""
    if importlib.util.find_spec("tensorboard") is None:
        pytest.skip("tensorboard is not installed (extra tensorboard)")
    assert train("plain", **SHORT).code == train("tracked", **{**SHORT, "tensorboard_log": True}).code == 0
    one, other = (torch.load(f"{name}/ckpt-final.pt", weights_only=True)["model"] for name in ("plain", "tracked"))
    assert all(torch.equal(one[name], other[name]) for name in one)
