"""Words that people type for something that lossgap has under another name, answered with a command that runs here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lossgap import suggestion
from lossgap.errors import LossgapError

FIRST = "shakespeare_char_cpu"
"""The training that is suggested where there is no run yet."""
RESUMED, SAMPLED, EVALUATED, COMPARED, LISTED = "train", "sample", "eval", "compare", "runs"
MEANT: Mapping[str, str] = {
    **dict.fromkeys(("resume", "continue"), RESUMED),
    **dict.fromkeys(("generate", "text"), SAMPLED),
    **dict.fromkeys(("eval", "evaluate"), EVALUATED),
    **dict.fromkeys(("diff", "why"), COMPARED),
    **dict.fromkeys(("list", "ls"), LISTED),
}


def meant(word: str) -> str:
    """The advice for `word`, as `write COMMAND`; empty for a word that is not known."""
    if word == "version":
        return "write lossgap --version"
    wanted = MEANT.get(word)
    if wanted is None:
        return ""
    if wanted == LISTED:
        return f"write {suggestion.command('runs')}"
    runs = _newest()
    if wanted == COMPARED:
        if len(runs) < 2:
            return "lossgap compare takes two runs or logs; lossgap compare --help has examples"
        return f"write {suggestion.compare(runs[1], runs[0])}"
    if not runs:
        return f"it needs a run, and there is none here: {suggestion.train(FIRST)} makes one"
    if wanted == SAMPLED:
        return f"write {suggestion.command('sample', runs[0])}"
    only = {"eval_only": True} if wanted == EVALUATED else {}
    return f"write {suggestion.train(init_from='resume', out_dir=runs[0], **only)}"


def _newest() -> list[Path]:
    """The runs below this folder that have trained something, the newest first."""
    from lossgap.api import list_runs

    with suppress(LossgapError):
        found = [run for run in list_runs().runs if not run.problem and run.iter is not None]
        return [run.path for run in sorted(found, key=lambda run: run.created or "", reverse=True)]
    return []
