"""A resume takes the recipe, and nothing that acts, from a checkpoint or record, which may be a stranger's.

A tracker that a checkpoint switches on would send a stranger the losses, and a path in it would make a training read
a file that the user never named. So trackers are off unless this start names them, and a corpus is opened on a
checkpoint's word only where the record holds the hash of its tokens, which the opened corpus must then have. That
check is also what keeps a resume exact: a text that was edited in between is noticed and not trained on silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lossgap.config import TrainConfig
from lossgap.corpus import Corpus
from lossgap.errors import CheckpointError
from lossgap.strangers import one_line, short, shown

TRACKERS = ("wandb_log", "wandb_project", "wandb_run_name", "tensorboard_log", "mlflow_log")
"""Settings that send values somewhere or say where to."""


def without_trackers(
    recorded: Mapping[str, object], named: Mapping[str, object]
) -> tuple[dict[str, object], list[str]]:
    """`recorded` settings with the trackers that `named` does not hold at their defaults, and a line that says so."""
    defaults = TrainConfig().to_dict()
    left = {
        name: recorded[name]
        for name in TRACKERS
        if name in recorded and name not in named and recorded[name] != defaults[name]
    }
    kept = {**recorded, **{name: defaults[name] for name in left}}
    if not any(left.get(name) or named.get(name) for name in TRACKERS if name.endswith("_log")):
        return kept, []
    flags = " ".join(f"--{name}={one_line(str(value), 60)}" for name, value in left.items())
    return kept, [
        f"trackers are not taken over from a checkpoint; add them to log there again: {flags}"
    ] if left else []


def check_dataset(source: Path, dataset: str, corpus: Mapping[str, object]) -> None:
    """A checkpoint chooses no file: it names a corpus, or a path together with the hash of the tokens there.

    Raises CheckpointError (`dataset-not-named`).
    """
    is_path = Path(dataset).name != dataset or Path(dataset).is_file()
    if is_path and not corpus.get("tokens_sha256"):
        raise CheckpointError(
            "dataset-not-named",
            f"{shown(source)} says dataset={short(dataset)} and not which tokens that had: a file is opened only where "
            "you name it; add --dataset=PATH",
        )


def check_corpus(source: Path, recorded: Mapping[str, object], corpus: Corpus, is_named: bool) -> list[str]:
    """Refuse a corpus that changed since; one that this start names is used, and a line says that it is another.

    Raises CheckpointError (`corpus-changed`).
    """
    before = recorded.get("tokens_sha256")
    same_method = recorded.get("hash_method", corpus.hash_method) == corpus.hash_method
    if not isinstance(before, str) or not same_method or before == corpus.tokens_sha256:
        return []
    hashes = f"SHA-256 {one_line(before[:12])}, now {corpus.tokens_sha256[:12]}"
    if not is_named:
        raise CheckpointError(
            "corpus-changed",
            f"{shown(source)} was trained on other tokens than {one_line(corpus.name)} has now ({hashes}): restore the "
            f"text, or add --dataset={one_line(corpus.name)} to go on with the new one",
        )
    return [f"changed from here on: the tokens of {one_line(corpus.name)} ({hashes})"]
