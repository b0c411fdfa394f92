"""Train the recipes behind the reference curves, and pack what is finished into `src/lossgap/references/curves`.

    python scripts/train_reference.py                                  # the table: names, seeds, what is finished
    python scripts/train_reference.py laptop2000 --seeds=1,2 --runs=out-references
    python scripts/train_reference.py all --runs=out-references        # every recipe, in the order of the table
    python scripts/train_reference.py --pack --runs=out-references     # write the files of what is finished

1. For each seed, `lossgap train` with the recipe's settings, on one thread, into `RUNS/NAME-sSEED`; its output goes to
   `RUNS/NAME-sSEED.log`. A finished run is not repeated and an interrupted one is resumed: give the same command again.
   A training that is under way in another process is left to it, so that several may share the table.
2. After a recipe's last seed its file is packed; with `--pack` nothing is trained.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lossgap.arguments import build, parse_arguments
from lossgap.errors import ConfigError, LossgapError
from lossgap.references.packing import pack
from lossgap.references.trainings import TRAININGS, Training, named, of_presets
from lossgap.runs.run_json import read_run_json
from lossgap.runs.status import true_status
from lossgap.settings import setting

CURVES = Path(__file__).parents[1] / "src" / "lossgap" / "references" / "curves"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of this script."""

    seeds: tuple[int, ...] = setting((), "only these; empty is the recipe's")
    runs: str = setting("out-references", "folder for the runs")
    pack: bool = setting(False, "train nothing, pack what is finished")


def main(argv: Sequence[str]) -> int:
    """Train what is missing of the named recipes, then pack them."""
    given = parse_arguments(argv, Options)
    options = build(Options, given)
    every = (*TRAININGS, *of_presets())
    wanted = every if given.positionals in (["all"], []) else [_named(name) for name in given.positionals]
    if not given.positionals and not options.pack:
        for item in every:
            done = [seed for seed in item.seeds if status(Path(options.runs, item.folder(seed))) == "finished"]
            print(f"{item.name:14} seeds {','.join(map(str, item.seeds)):10} finished {done}  {item.about}")
        return 0
    for item in wanted:
        for seed in () if options.pack else options.seeds or item.seeds:
            train(item, seed, options.runs)
        path = pack(item, Path(options.runs), CURVES, _commit())
        print(f"{item.name}: {path or 'nothing is finished'}", flush=True)
    return 0


def train(item: Training, seed: int, runs: str) -> None:
    """Train one seed of a recipe, unless that is done or under way. Raises LossgapError if the training fails."""
    folder = Path(runs, item.folder(seed))
    state = status(folder)
    if state in ("finished", "running"):
        return
    if item.resumes and status(Path(runs, named(item.resumes).folder(seed))) != "finished":
        train(named(item.resumes), seed, runs)
    Path(runs).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "lossgap", "train", *item.arguments(seed, runs, resume=bool(state))]
    log = Path(runs, f"{folder.name}.log")
    with log.open("a") as stream:
        code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode
    if code != 0:
        raise LossgapError("spread-training-failed", f"{shlex.join(command)} ended with {code}; see {log}")
    print(f"{folder.name}: done", flush=True)


def status(folder: Path) -> str:
    """The status of the run in that folder; empty if there is none."""
    return true_status(folder, read_run_json(folder).get("status")) if (folder / "run.json").exists() else ""


def _named(name: str) -> Training:
    try:
        return named(name)
    except StopIteration:
        known = ", ".join(item.name for item in (*TRAININGS, *of_presets()))
        raise ConfigError("bad-setting", f"{name}: there is no such recipe; there are {known}") from None


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False, cwd=Path(__file__).parent
    )
    return found.stdout.strip()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LossgapError as error:
        print(f"train_reference: {error} [{error.slug}]", file=sys.stderr)
        sys.exit(1)
