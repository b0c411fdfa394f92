"""Experiment trackers: Weights & Biases, TensorBoard, MLflow. Each is an extra, imported only when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from lossgap.config import TrainConfig
from lossgap.errors import ConfigError

Values = Mapping[str, float]


class Tracker(Protocol):
    """Takes values by name at an iteration."""

    def log(self, iteration: int, values: Values) -> None:
        """Hand over one set of values."""

    def close(self) -> None:
        """Finish the run there."""


class WandbTracker:
    """nanoGPT's names: iter, train/loss, val/loss, lr, mfu (in per cent)."""

    def __init__(self, config: TrainConfig, name: str) -> None:
        wandb = _extra("wandb", "wandb_log")
        self.run = wandb.init(project=config.wandb_project, name=config.wandb_run_name, config=config.to_dict())

    def log(self, iteration: int, values: Values) -> None:
        """One wandb row."""
        self.run.log({"iter": iteration, **values})

    def close(self) -> None:
        """Finish the wandb run."""
        self.run.finish()


class TensorBoardTracker:
    """Event files in the run folder's `tensorboard`."""

    def __init__(self, folder: Path) -> None:
        _extra("tensorboard", "tensorboard_log")
        self.writer = _extra("torch.utils.tensorboard", "tensorboard_log", "tensorboard").SummaryWriter(
            str(folder / "tensorboard")
        )

    def log(self, iteration: int, values: Values) -> None:
        """One scalar each."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, iteration)

    def close(self) -> None:
        """Write what is buffered."""
        self.writer.close()


class MlflowTracker:
    """An MLflow run at the tracking URI that MLflow finds (MLFLOW_TRACKING_URI or ./mlruns)."""

    def __init__(self, config: TrainConfig, name: str) -> None:
        self.mlflow = _extra("mlflow", "mlflow_log")
        self.mlflow.start_run(run_name=name)
        self.mlflow.log_params({key: str(value)[:500] for key, value in config.to_dict().items()})

    def log(self, iteration: int, values: Values) -> None:
        """One metric each; MLflow allows no slash-free restriction on names."""
        self.mlflow.log_metrics(dict(values), step=iteration)

    def close(self) -> None:
        """End the MLflow run."""
        self.mlflow.end_run()


def open_trackers(config: TrainConfig, folder: Path) -> list[Tracker]:
    """Those that the config asks for. Raises ConfigError (`missing-extra`) where one is not installed."""
    trackers: list[Tracker] = []
    if config.wandb_log:
        trackers.append(WandbTracker(config, folder.name))
    if config.tensorboard_log:
        trackers.append(TensorBoardTracker(folder))
    if config.mlflow_log:
        trackers.append(MlflowTracker(config, folder.name))
    return trackers


def _extra(module: str, flag: str, extra: str | None = None):  # type: ignore[no-untyped-def]  # a foreign module
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = extra or module
        raise ConfigError(
            "missing-extra",
            f"--{flag}=True needs {extra}, which is not installed; pip install 'lossgap[{extra}]', or --{flag}=False",
        ) from error
