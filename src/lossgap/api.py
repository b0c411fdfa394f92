"""The Python calls: one for each verb of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lossgap.config_file import resolve_arguments
from lossgap.runs.run import Run
from lossgap.settings import Given

if TYPE_CHECKING:
    from lossgap.sampling import Samples


def train(*configs: str | Path, **settings: object) -> Run:
    """Train a GPT and return its record; the same as `lossgap train CONFIG … --key=value …`.

    `configs` are presets or config files, applied in order; `settings` are `TrainConfig` fields and win over them.
    Shows nothing. Raises LossgapError for what the caller can mend (a bad setting, a used out_dir, a loss that is
    not finite), and `lossgap.training.loop.Interrupted` after SIGINT, SIGTERM or SIGHUP: the run is saved then.
    """
    from lossgap.training.progress import Silence
    from lossgap.training.train import train_given

    given = resolve_arguments([str(config) for config in configs])
    sources = {**given.sources, **{name: f"--{name}={value}" for name, value in settings.items()}}
    merged = Given({**given.values, **settings}, sources, given.positionals, echo=given.echo)
    return train_given(merged, Silence()).run


def sample(
    *runs: str | Path,
    start: str = "\n",
    num_samples: int = 10,
    max_new_tokens: int = 500,
    temperature: float = 0.8,
    top_k: int = 200,
    seed: int = 1337,
    device: str = "auto",
    dtype: str = "auto",
) -> Sequence[Samples]:
    """Text from one checkpoint or several, `num_samples` of `max_new_tokens` tokens each; nanoGPT's defaults.

    `runs` are run folders or checkpoints. Raises LossgapError (missing checkpoint, prompt outside the vocabulary).
    """
    from lossgap.sampling import sample as sample_runs

    return sample_runs(
        [Path(run) for run in runs],
        start=start,
        num_samples=num_samples,
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        seed=seed,
        device=device,
        dtype=dtype,
    )
