"""Measure how the spread over seeds depends on a recipe: 24 tiny recipes, 8 seeds of each, on one core.

    OMP_NUM_THREADS=1 nice -n 15 python scripts/measure_spread_bank.py --runs=out-spread-bank
    python scripts/measure_spread_bank.py --runs=out-spread-bank --write=True     # the results so far, into the table
    python scripts/measure_spread_bank.py --check=True     # false alarms of the model on recipes that it has not seen

Each training has one thread, and its final state is scored on the whole val split. All recipes get seed 1, then all
get seed 2, so an interrupted bank has as many seeds of each recipe as it can; a finished training is not repeated.
Every recipe is `BASE` with what `RECIPES` changes. "tenth" is the first 100,000 characters of Tiny Shakespeare.
"""

from __future__ import annotations

import datetime
import gzip
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossgap.arguments import build, parse_arguments
from lossgap.errors import LossgapError
from lossgap.settings import setting

BANK = Path(__file__).parents[1] / "src" / "lossgap" / "comparison" / "spread_bank.json"
LEAST = 3
"""Seeds of a recipe, below which it is left out."""
COMMAND = "python scripts/measure_spread_bank.py --runs=out-spread-bank"

BASE: dict[str, object] = {
    "dataset": "shakespeare_char",
    "gradient_accumulation_steps": 1,
    "n_layer": 2,
    "n_head": 4,
    "n_embd": 64,
    "block_size": 64,
    "batch_size": 8,
    "learning_rate": 2e-3,
    "max_iters": 300,
    "warmup_iters": 20,
    "beta2": 0.99,
    "dropout": 0.0,
    "device": "cpu",
    "compile": False,
    "threads": 1,
    "final_eval": False,
    "always_save_checkpoint": False,
    "eval_iters": 8,
}

RECIPES: Mapping[str, Mapping[str, object]] = {
    "base": {},
    "rate / 4": {"learning_rate": 5e-4},
    "rate x 4": {"learning_rate": 8e-3},
    "rate x 10": {"learning_rate": 2e-2},
    "iterations / 3": {"max_iters": 100},
    "iterations x 3": {"max_iters": 900},
    "batch / 4": {"batch_size": 2},
    "context / 4": {"block_size": 16},
    "width / 4": {"n_embd": 16},
    "width x 2": {"n_embd": 128, "learning_rate": 1e-3},
    "depth 1": {"n_layer": 1},
    "depth 4": {"n_layer": 4, "n_embd": 48},
    "dropout": {"dropout": 0.2},
    "constant rate": {"decay_lr": False},
    "tenth": {"dataset": "tenth", "max_iters": 600},
    "narrow, many updates": {"n_layer": 1, "n_embd": 32, "block_size": 32, "max_iters": 900},
    "deep, small batch": {"n_layer": 4, "n_embd": 32, "block_size": 32, "batch_size": 4, "learning_rate": 1e-3},
    "smallest, high rate": {"n_layer": 1, "n_embd": 16, "block_size": 32, "batch_size": 4, "learning_rate": 1e-2},
    "low rate": {"n_embd": 48, "learning_rate": 1e-4, "max_iters": 600},
    "short windows, dropout": {"block_size": 32, "batch_size": 16, "learning_rate": 4e-3, "dropout": 0.1},
    "small heads": {"n_embd": 32, "block_size": 32, "batch_size": 16, "learning_rate": 3e-3},
    "three small layers": {"n_layer": 3, "n_embd": 40, "block_size": 32, "batch_size": 16, "learning_rate": 4e-3},
    "two heads, high rate": {"n_head": 2, "n_embd": 32, "block_size": 48, "batch_size": 12, "learning_rate": 6e-3},
    "one layer, dropout": {"n_layer": 1, "n_embd": 48, "block_size": 32, "learning_rate": 5e-3, "dropout": 0.1},
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags of this script."""

    runs: str = setting("out-spread-bank", "folder for the runs")
    seeds: int = setting(8, "seeds of each recipe", "seeds")
    write: bool = setting(False, "write the results so far into the table instead of training")
    track: str | None = setting(
        None, "with --write, modded-nanogpt's records/track_3_optimization, for the falls of its groups"
    )
    check: bool = setting(False, "print how often the shipped model is wrong on each recipe, with that recipe left out")


def main(argv: Sequence[str]) -> int:
    """Train what is missing, or write what there is."""
    options = build(Options, parse_arguments(argv, Options))
    folder = Path(options.runs)
    if options.check:
        check()
        return 0
    if options.write:
        write(folder, None if options.track is None else Path(options.track))
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(1, options.seeds + 1):
        for name in RECIPES:
            train(name, seed, folder)
    return 0


def settings(name: str, folder: Path) -> dict[str, object]:
    """The settings of a recipe: the horizon is max_iters, min_lr a tenth of the rate, ten evaluations."""
    found = {**BASE, **RECIPES[name]}
    rate, iters = found["learning_rate"], found["max_iters"]
    assert isinstance(rate, float)
    assert isinstance(iters, int)
    if found["dataset"] == "tenth":
        found["dataset"] = str(_tenth(folder))
    return {**found, "lr_decay_iters": iters, "min_lr": rate / 10, "eval_interval": max(1, iters // 10)}


def _tenth(folder: Path) -> Path:
    """The first 100,000 characters of Tiny Shakespeare as a text file."""
    from lossgap.corpus import open_corpus

    path = folder / "tenth.txt"
    if not path.exists():
        corpus = open_corpus("shakespeare_char")
        assert corpus.tokenizer is not None
        path.write_text(corpus.tokenizer.decode([int(item) for item in corpus.train[:100_000]]), encoding="utf-8")
    return path


def _place(name: str) -> str:
    return name.replace(" ", "_").replace("/", "by").replace(",", "")


def train(name: str, seed: int, folder: Path) -> None:
    """One training and its exact val loss, in `<recipe>-<seed>/exact.json`."""
    from lossgap.api import train as run

    place = folder / f"{_place(name)}-{seed}"
    done = place / "exact.json"
    if done.exists():
        return
    run(**settings(name, folder), seed=seed, out_dir=str(place), overwrite=True)
    windows = exact(place)
    done.write_text(
        json.dumps({"recipe": name, "seed": seed, "val_loss": statistics.fmean(windows), "windows": windows})
    )
    for checkpoint in place.glob("ckpt*.pt"):
        checkpoint.unlink()
    print(f"{name}, seed {seed}: {statistics.fmean(windows):.4f}", flush=True)


def exact(place: Path) -> list[float]:
    """The loss of every full window of the val split, (W,) nats per token, under the final state."""
    import torch
    import torch.nn.functional as F

    from lossgap.corpus import exact_windows, open_corpus, token_window
    from lossgap.gpt import GPT, GPTConfig
    from lossgap.runs.run_json import read_run_json
    from lossgap.training import checkpoint

    found = checkpoint.load(place / "ckpt-final.pt")
    model = GPT(GPTConfig(**found.model_args)).eval()
    checkpoint.fill(model, found)
    config = read_run_json(place)["config"]
    assert isinstance(config, dict)
    tokens, T = open_corpus(str(config["dataset"])).val, model.config.block_size
    starts, lengths = exact_windows(len(tokens), T)
    starts = starts[lengths == T]
    losses: list[float] = []
    with torch.no_grad():
        for first in range(0, len(starts), 128):
            x, y = (torch.from_numpy(item) for item in token_window(tokens, starts[first : first + 128], T))
            logits = model.lm_head(model.hidden(x)[0])
            each = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
            losses += each.double().mean(1).tolist()
    return losses


def check() -> None:
    """Equal runs of each recipe, judged by a model without that recipe: pairs beyond the 95% interval, and its width.

    With all that a record can show; with the settings and no curve; with a curve and no settings.
    """
    from lossgap.comparison.spread_model import Scale, bank, left_out

    shown: Mapping[str, tuple[Scale, ...] | None] = {
        "all": None,
        "no curve": ("tokens", "parameters", "rate", "iterations"),
        "no settings": ("fall", "iterations"),
    }
    for said, scales in shown.items():
        found = left_out(bank(), scales)
        rates = [item.beyond / item.pairs for item in found]
        widths = [item.reach / (item.sd * math.sqrt(2)) for item in found]
        print(f"{said}: {len(found)} recipes, {sum(item.pairs for item in found)} pairs")
        print(f"  false alarms: mean over recipes {statistics.fmean(rates):.1%}, most {max(rates):.1%}")
        print(f"  half width of the interval: median {statistics.median(widths):.1f} standard deviations of a gap")
        if scales is None:
            for item, rate in zip(found, rates, strict=True):
                print(f"    {item.id:26s} {item.beyond:3d} of {item.pairs:3d} ({rate:.0%}), sd {item.sd:.4f}")


def write(folder: Path, track: Path | None) -> None:
    """The table `spread_bank.json`: these trainings, the groups that the tests store, and the published ones in it."""
    from lossgap.version import __version__

    old = json.loads(BANK.read_text(encoding="utf-8")) if BANK.exists() else {"groups": []}
    kept = [
        item for item in old["groups"] if item["source"].startswith(("github.com/", "python scripts/measure_spread.py"))
    ]
    table = {
        "schema": "lossgap.spread-bank/1",
        "about": "Groups of repeated runs: n, the standard deviation of the last val loss (nats per token) over seeds, "
        "and the scale of the recipe. Only these numbers are kept of published logs.",
        "command": COMMAND + " --write=True",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "lossgap": __version__,
        "groups": [*_trained(folder), *_truth(), *_gallery(), *_published(kept, track)],
    }
    BANK.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def group(
    name: str, source: str, finals: Sequence[float], recipe: Mapping[str, object], vocab: int
) -> dict[str, object]:
    """One group of the table."""
    layers, width = _number(recipe, "n_layer"), _number(recipe, "n_embd")
    iters = _number(recipe, "max_iters")
    return {
        "id": name,
        "n": len(finals),
        "mean": round(statistics.fmean(finals), 5),
        "sd": round(statistics.stdev(finals), 6),
        "tokens": iters * _number(recipe, "batch_size") * _number(recipe, "block_size"),
        "parameters": 12 * layers * width**2 + (2 * layers + 1 + vocab) * width,
        "rate": _number(recipe, "learning_rate"),
        "iterations": iters,
        "source": source,
    }


def _number(recipe: Mapping[str, object], name: str) -> float:
    value = recipe[name]
    assert isinstance(value, int | float)
    return value


def _trained(folder: Path) -> list[dict[str, object]]:
    found = sorted((json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/exact.json")), key=_seed)
    groups = []
    for name in RECIPES:
        finals = [float(item["val_loss"]) for item in found if item["recipe"] == name]
        if len(finals) >= LEAST:
            entry = group(name, COMMAND, finals, settings(name, folder), 65)
            places = [folder / f"{_place(name)}-{item['seed']}" for item in found if item["recipe"] == name]
            groups.append(entry | _curves(finals, [_evaluations(place) for place in places]))
    return groups


def _evaluations(place: Path) -> list[tuple[float, float]]:
    rows = [json.loads(line) for line in (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["iter"], row["val_loss"]) for row in rows if row["kind"] == "eval"]


def _curves(finals: Sequence[float], curves: Sequence[Sequence[tuple[float, float]]]) -> dict[str, object]:
    """The losses, the fall of each run, and the geometric mean of the falls."""
    import numpy as np

    from lossgap.comparison.spread_model import fall

    falls = []
    for curve in curves:
        iters, values = (np.array(column, dtype=float) for column in zip(*curve, strict=True))
        fell = fall(iters, values)
        assert fell is not None
        falls.append(max(1e-3, fell))
    return {
        "fall": round(statistics.geometric_mean(falls), 5),
        "finals": [round(value, 6) for value in finals],
        "falls": [round(value, 5) for value in falls],
    }


def _published(kept: Sequence[dict[str, object]], track: Path | None) -> list[dict[str, object]]:
    """The published groups, with the falls that the logs of `track` and the shipped spreads give."""
    import numpy as np

    from lossgap.comparison.spread_model import fall

    falls = {} if track is None else _track_falls(track)
    spreads = json.loads(BANK.with_name("spreads.json").read_text(encoding="utf-8"))["spreads"]
    for item in spreads:
        if item.get("evaluations"):
            rows = [(row["iter"], row["mean"]) for row in item["evaluations"]]
            iters, values = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
            fell = fall(iters, values)
            if fell is not None:
                falls[item["id"].split(" --")[0]] = fell
    for item in kept:
        name = str(item["id"])
        if name in falls:
            item["fall"] = round(falls[name], 5)
        if name.startswith("modded-nanogpt"):
            item["family"] = " ".join(name.split()[:3])
    return list(kept)


def _track_falls(track: Path) -> dict[str, float]:
    """The mean fall of up to six runs of each record of modded-nanogpt's track 3 whose log can be read."""
    from lossgap.comparison.facts import Facts
    from lossgap.comparison.spread_model import fall
    from lossgap.runs.readers.source import load_runs

    sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
    from speedrun_audit import ROW  # type: ignore[import-not-found]

    found = {}
    for line in (track / "README.md").read_text(encoding="utf-8").splitlines():
        row = ROW.match(line)
        if row is None or Path(row[8]).suffix == ".md":
            continue
        curves = [Facts.of(run).val for run in load_runs(track / row[8])[:6]]
        falls = [fall(curve.iters.astype(float), curve.values) for curve in curves if curve is not None]
        known = [value for value in falls if value is not None]
        if known:
            found[f"modded-nanogpt track 3 #{row[1]}"] = statistics.fmean(known)
    return found


def _seed(item: Mapping[str, int]) -> int:
    return item["seed"]


def _truth() -> list[dict[str, object]]:
    """The arms of the calibration's bank with one scale are one group: their mean log sd, and the runs of one arm."""
    tests = Path(__file__).parents[1] / "tests"
    sys.path.insert(0, str(tests))
    from attribution.truth.bank import HELD_OUT_PATH, PATH, load  # type: ignore[import-not-found]
    from attribution.truth.recipes import BASE as TRUTH_BASE  # type: ignore[import-not-found]
    from attribution.truth.recipes import PAIRS  # type: ignore[import-not-found]

    cells: dict[tuple[float, ...], list[tuple[dict[str, object], list[float]]]] = {}
    for first, second, pair in zip(load(PATH), load(HELD_OUT_PATH), PAIRS, strict=True):
        plan = pair.plan(str(tests))
        for place, arm in enumerate(first.arms):
            recipe = {**TRUTH_BASE, **plan.settings(arm)}
            finals = [*first.losses["last"][:, place].tolist(), *second.losses["last"][:, place].tolist()]
            names = ("n_embd", "block_size", "batch_size", "max_iters", "learning_rate")
            cells.setdefault(tuple(_number(recipe, name) for name in names), []).append((recipe, finals))
    groups = []
    for number, arms in enumerate(cells.values(), 1):
        entry = group(f"calibration {number}", "make truth", arms[0][1], arms[0][0], 17)
        logs = [math.log(statistics.stdev(finals)) for _, finals in arms]
        # The arms of one text and one model, mostly: together they count as one group.
        groups.append(entry | {"sd": round(math.exp(statistics.fmean(logs)), 6), "family": "calibration"})
    return groups


def _gallery() -> list[dict[str, object]]:
    from gallery.plants import PRESET  # type: ignore[import-not-found]
    from gallery.plants import RECIPES as GALLERY

    from lossgap.presets import preset

    data = Path(__file__).parents[1] / "tests" / "gallery" / "data"
    stored = json.loads((data / "spreads.json").read_text(encoding="utf-8"))["spreads"]
    groups = []
    for name, changes in GALLERY.items():
        with gzip.open(data / f"nulls-{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line)["rows"] for line in lines]
        nulls = [float(item["final"]["val_loss"][-1]) for item in rows]
        finals = nulls + next(item["finals"] for item in stored if item["id"] == f"gallery {name}")
        entry = group(f"gallery {name}", "make gallery", finals, {**preset(PRESET), **changes}, 65)
        curves = [list(zip(item["eval"]["iter"], item["eval"]["val_loss"], strict=True)) for item in rows]
        groups.append(entry | _curves(nulls, curves))
    return groups


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except LossgapError as error:
        print(f"measure_spread_bank: {error} [{error.slug}]", file=sys.stderr)
        sys.exit(1)
