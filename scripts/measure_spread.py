"""Measure how far the final losses of one recipe lie apart over seeds, and write it into `spreads.json`.

    python scripts/measure_spread.py shakespeare_char_cpu --seeds=5 --runs=out-spread
    python scripts/measure_spread.py my_config.py --seeds=15 --processes=2 --id="small recipe" --max_iters=300

1. For each seed 1 ... N, `lossgap train CONFIG --seed=K --out_dir=RUNS/seed-K` and the flags that this script does not
   know. A finished run is not repeated, an interrupted one is resumed: run the same command again.
2. The exact val loss of the final states gives mean, sd and df; each evaluation during the training gives the sd over
   seeds there; the measured standard errors of sampled evaluations give the sd of one window's loss.
3. The entry with that id in `src/lossgap/comparison/spreads.json` is replaced, or added; `--dry=True` prints it only.

With `--processes` above 1 every training has one thread, so that they do not disturb each other.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import json
import math
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lossgap.arguments import build, parse_arguments
from lossgap.comparison.facts import Facts
from lossgap.comparison.spread import fingerprint
from lossgap.errors import ConfigError, LossgapError
from lossgap.runs.run import Run, read_run
from lossgap.runs.run_json import read_run_json, write_json
from lossgap.settings import setting, settings_of

TABLE = Path(__file__).parents[1] / "src" / "lossgap" / "comparison" / "spreads.json"


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of this script; all others go to `lossgap train`."""

    seeds: int = setting(5, "how many seeds", "seeds")
    processes: int = setting(1, "trainings at a time; above 1 each has one thread", "processes")
    runs: str = setting("out-spread", "folder for the runs")
    id: str = setting("", "name of the entry; empty is the config and the flags")
    dry: bool = setting(False, "print the entry instead of writing it")


def main(argv: Sequence[str]) -> int:
    """Train what is missing, then write the entry."""
    own = settings_of(Options)
    mine = [item for item in argv if item.startswith("--") and item[2:].partition("=")[0] in own]
    flags = [item for item in argv if item not in mine and item.startswith("--")]
    options = build(Options, parse_arguments(mine, Options))
    named = [item for item in argv if item not in mine and item not in flags]
    if len(named) != 1 or options.seeds < 2 or options.processes < 1:
        raise ConfigError("bad-setting", "give one config or preset, and at least 2 seeds; flags are --key=value")
    config = named[0]
    if options.processes > 1:
        flags = [*flags, "--threads=1"]
    folder = Path(options.runs)
    folder.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(options.processes) as pool:
        seeds = range(1, options.seeds + 1)
        folders = list(pool.map(lambda seed: train(config, flags, seed, folder), seeds))
    command = "python scripts/measure_spread.py " + shlex.join([config, f"--seeds={options.seeds}", *flags])
    entry, windows = measure(
        [read_run(folder) for folder in folders], options.id or " ".join([config, *flags]), command
    )
    print(json.dumps({"entry": entry, "windows": windows}, indent=2))
    if not options.dry:
        update(TABLE, entry, windows)
    return 0


def train(config: str, flags: Sequence[str], seed: int, runs: Path) -> Path:
    """The folder of the finished run of that seed. Raises LossgapError if the training fails."""
    folder = runs / f"seed-{seed}"
    command = [sys.executable, "-m", "lossgap", "train", config, *flags, f"--seed={seed}", f"--out_dir={folder}"]
    if (folder / "run.json").exists():
        if read_run_json(folder).get("status") == "finished":
            return folder
        command.append("--init_from=resume")
    log = runs / f"seed-{seed}.log"
    with log.open("a") as stream:
        code = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False).returncode
    if code != 0:
        raise LossgapError("spread-training-failed", f"{shlex.join(command)} ended with {code}; see {log}")
    print(f"seed {seed}: done", file=sys.stderr, flush=True)
    return folder


def measure(runs: Sequence[Run], name: str, command: str) -> tuple[dict[str, object], dict[str, object] | None]:
    """The entry of these runs, and the sd of a window's loss where evaluations were sampled."""
    facts = [Facts.of(run) for run in runs]
    finals = [item.final.value for item in facts if item.final is not None]
    if len(finals) != len(runs):
        raise LossgapError("spread-without-final", "a run has no exact final val loss; train with --final_eval=True")
    recipe = fingerprint(facts[0])
    assert recipe is not None, "our own record says the whole recipe"
    entry: dict[str, object] = {
        "id": name,
        "recipe": {key: int(value) if value == int(value) else value for key, value in recipe.items()},
        "corpus": facts[0].dataset.value,
        "metric": "val_loss",
        "measure": "exact, every val token scored",
        "varies": "seed",
        "n_seeds": len(finals),
        "mean": round(statistics.fmean(finals), 6),
        "sd": round(statistics.stdev(finals), 6),
        "df": len(finals) - 1,
        "finals": [round(value, 6) for value in finals],
        "evaluations": _over_time(facts),
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{facts[0].device.value or platform.machine()}, torch {runs[0].environment.get('torch')}",
    }
    return entry, _windows(facts[0], command)


def _over_time(facts: Sequence[Facts]) -> list[dict[str, object]]:
    """Mean and sd over seeds of the evaluations during the training; sampled ones contain their own error."""
    curves = [item.val for item in facts]
    rows: list[dict[str, object]] = []
    for at in curves[0].iters.tolist() if curves[0] is not None else []:
        values = [found.value for curve in curves if curve is not None and (found := curve.at(at)) is not None]
        if len(values) == len(curves):
            rows.append(
                {"iter": at, "mean": round(statistics.fmean(values), 5), "sd": round(statistics.stdev(values), 5)}
            )
    return rows


def _windows(facts: Facts, command: str) -> dict[str, object] | None:
    """sd of the mean loss of one window: standard error x sqrt(windows), from the later half of the evaluations."""
    iters, size, context = facts.eval_iters.value, facts.batch_size.value, facts.eval_context.value
    if facts.val is None or facts.eval_mode.value != "sampled" or not (iters and size and context):
        return None
    errors = facts.val.errors[len(facts.val) // 2 :]
    sd = math.sqrt(float((errors**2).mean()) * iters * size)
    return (
        {"context": context, "corpus": facts.dataset.value, "sd": round(sd, 4), "command": command}
        if math.isfinite(sd)
        else None
    )


def update(path: Path, entry: dict[str, object], windows: dict[str, object] | None) -> None:
    """Replace or add the entry (by id) and the window spread (by context), the others as they are."""
    document = json.loads(path.read_text(encoding="utf-8"))
    document["spreads"] = [*(item for item in document["spreads"] if item["id"] != entry["id"]), entry]
    if windows is not None:
        others = [
            item
            for item in document["windows"]
            if (item["context"], item.get("corpus")) != (windows["context"], windows["corpus"])
        ]
        document["windows"] = sorted([*others, windows], key=lambda item: item["context"])
    write_json(path, document)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LossgapError as error:
        print(f"measure_spread: {error} [{error.slug}]", file=sys.stderr)
        sys.exit(1)
