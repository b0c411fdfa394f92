"""Experiment trackers: Weights & Biases, TensorBoard, MLflow. Each is an extra, imported only when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from lossgap.config import TrainConfig
from lossgap.errors import ConfigError, warn
from lossgap.strangers import trusted

Values = Mapping[str, float]
Failures = tuple[type[Exception], ...]


class Tracker(Protocol):
    """Takes values by name at an iteration."""

    def log(self, iteration: int, values: Values) -> None:
        """Hand over one set of values."""

    def close(self) -> None:
        """Finish the run there."""


class WandbTracker:
    """nanoGPT's names: iter, train/loss, val/loss, lr, mfu (in per cent)."""

    def __init__(self, config: TrainConfig) -> None:
        wandb = _extra("wandb", "wandb_log")
        self.run = wandb.init(project=config.wandb_project, name=config.wandb_run_name, config=config.to_dict())

    def log(self, iteration: int, values: Values) -> None:
        """One wandb row."""
        self.run.log({"iter": iteration, **values})

    def close(self) -> None:
        """Finish the wandb run."""
        self.run.finish()


class TensorBoardTracker:
    """Event files in the run folder's `tensorboard`; what earlier ones hold from `iteration` on is hidden."""

    def __init__(self, folder: Path, iteration: int | None) -> None:
        _extra("tensorboard", "tensorboard_log")
        module = _extra("torch.utils.tensorboard", "tensorboard_log", "tensorboard")
        self.writer = module.SummaryWriter(str(folder / "tensorboard"), purge_step=iteration)

    def log(self, iteration: int, values: Values) -> None:
        """One scalar each."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Write what is buffered."""
        self.writer.close()


class MlflowTracker:
    """An MLflow run where MLflow's own settings (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME) say."""

    def __init__(self, config: TrainConfig, name: str) -> None:
        self.mlflow = _extra("mlflow", "mlflow_log")
        self.mlflow.start_run(run_name=name)
        self.mlflow.log_params({key: str(value)[:500] for key, value in config.to_dict().items()})

    def log(self, iteration: int, values: Values) -> None:
        """One metric each."""
        self.mlflow.log_metrics(dict(values), step=iteration)

    def close(self) -> None:
        """End the MLflow run."""
        self.mlflow.end_run()


class Watched:
    """A tracker that may fail: the training goes on without it, and says so once."""

    def __init__(self, tracker: Tracker, name: str, failures: Failures) -> None:
        self.tracker: Tracker | None = tracker
        self.name, self.failures = name, failures

    def log(self, iteration: int, values: Values) -> None:
        """Hand the values over, or warn (`tracker-lost`) and be silent from then on."""
        if self.tracker is None:
            return
        try:
            self.tracker.log(iteration, values)
        except self.failures as error:
            self._lost(f"at iteration {iteration}", error)

    def close(self) -> None:
        """Finish the run there, or warn (`tracker-lost`)."""
        if self.tracker is None:
            return
        try:
            with trusted():
                self.tracker.close()
        except self.failures as error:
            self._lost("at the end", error)

    def _lost(self, when: str, error: Exception) -> None:
        self.tracker = None
        warn(
            "tracker-lost",
            f"{self.name} takes no more values {when} ({_reason(error)}); the training continues, its record in the "
            "run folder is whole",
        )


def check_trackers(config: TrainConfig) -> None:
    """Raises ConfigError (`missing-extra`) where a tracker that the config asks for is not installed."""
    for module in ("wandb", "tensorboard", "mlflow"):
        if getattr(config, f"{module}_log"):
            _extra(module, f"{module}_log")


def open_trackers(config: TrainConfig, folder: Path, iteration: int | None = None) -> list[Tracker]:
    """Those that the config asks for, for a training that begins at `iteration`.

    Raises ConfigError (`missing-extra`, `tracker-unusable`).
    """
    makers: dict[str, Callable[[], Tracker]] = {
        "wandb": lambda: WandbTracker(config),
        "tensorboard": lambda: TensorBoardTracker(folder, iteration),
        "mlflow": lambda: MlflowTracker(config, folder.name),
    }
    check_trackers(config)
    trackers: list[Tracker] = []
    for name, make in makers.items():
        flag = f"{name}_log"
        if not getattr(config, flag):
            continue
        failures = _failures(name)
        try:
            with trusted():
                trackers.append(Watched(make(), name, failures))
        except failures as error:
            for opened in trackers:
                opened.close()
            raise ConfigError(
                "tracker-unusable",
                f"--{flag}=True: {name} does not start ({_reason(error)}); mend that, or --{flag}=False",
            ) from error
    return trackers


def _failures(name: str) -> Failures:
    """Return what a tracker raises for causes outside this program: no login, no server, no disk space."""
    own: dict[str, tuple[str, str]] = {
        "wandb": ("wandb.errors", "Error"),
        "mlflow": ("mlflow.exceptions", "MlflowException"),
    }
    if name not in own:
        return (OSError,)
    module, error = own[name]
    return (OSError, getattr(importlib.import_module(module), error))


def _reason(error: Exception) -> str:
    """The first line of what a foreign package says."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _extra(module: str, flag: str, extra: str | None = None) -> Any:  # a foreign module
    extra = extra or module
    state = "is not installed"
    try:
        found = importlib.import_module(module)
        if found.__file__ is not None:  # else it is a folder of that name, such as the one that wandb leaves behind
            return found
    except ImportError as error:
        if not isinstance(error, ModuleNotFoundError) or error.name != extra:
            state = f"cannot be imported ({_reason(error)})"
    raise ConfigError(
        "missing-extra",
        f"--{flag}=True needs {extra}, which {state}; pip install 'lossgap[{extra}]', or --{flag}=False",
    )
