"""Healthy pairs: one stretch recorded here and replayed in every other numerics that this machine has.

    python benchmarks/healthy_replays.py            # a tiny recipe: every combination, five seeds, two dtypes
    python benchmarks/healthy_replays.py --recipe=laptop --seeds=1 "--only=AVX2;one thread;compiled"

Another machine where there is only one: the same CPU with other instruction sets (ATEN_CPU_CAPABILITY,
ONEDNN_MAX_CPU_ISA, MKL's switches), other thread counts, other kernels, oneDNN on or off, compiled or not. Each
combination is a process of its own, as the libraries read their switches once, with an inductor cache of its own: a
kernel that was compiled for one instruction set gives wrong results in a process that is held to another one (seen with
torch 2.13). All replays must be `equivalent`, but 1%. Prints a table in Markdown: for each combination and dtype how
many were, and how near the losses came to the envelope.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lossgap
from lossgap.settings import build, parse_arguments, setting

RECIPES: dict[str, dict[str, object]] = {
    "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16, "batch_size": 4, "eval_iters": 2},
    "laptop": {},
}
DEFAULT_ISA = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
WITHOUT_ONEDNN = {"LOSSGAP_WITHOUT_ONEDNN": "1"}


@dataclass(frozen=True)
class Combination:
    """Numerics that differ from the recording's: environment variables, and flags of `lossgap replay`."""

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, object] = field(default_factory=dict)


COMBINATIONS = (
    Combination("as recorded"),
    Combination("one thread", asked={"threads": 1}),
    Combination("fused attention", asked={"attention": "fused"}),
    Combination("AdamW in a loop", asked={"adamw": "loop"}),
    Combination("fused attention, loop, one thread", asked={"attention": "fused", "adamw": "loop", "threads": 1}),
    Combination("AVX2", AVX2),
    Combination("AVX2, one thread, fused attention", AVX2, {"threads": 1, "attention": "fused"}),
    Combination("no vector code", DEFAULT_ISA),
    Combination("no vector code, AdamW in a loop", DEFAULT_ISA, {"adamw": "loop"}),
    Combination("oneDNN AVX512_CORE", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
    Combination("ATen AVX2 only", {"ATEN_CPU_CAPABILITY": "avx2"}),
    Combination("MKL compatible", {"MKL_CBWR": "COMPATIBLE"}),
    Combination("without oneDNN", WITHOUT_ONEDNN),
    Combination("in bfloat16", asked={"dtype": "bfloat16"}),
    Combination("in float32", asked={"dtype": "float32"}),
    Combination("compiled", asked={"compile": True}),
    Combination("compiled, AVX2", AVX2, {"compile": True}),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Flags."""

    recipe: str = setting("tiny", "tiny or laptop")
    seeds: int = setting(5, "seeds per combination and dtype")
    dtypes: str = setting("float32,bfloat16", "comma separated")
    iters: int = setting(50, "iterations of a stretch")
    only: str = setting("", "only combinations of these names, with ; between them")
    folder: str = setting("", "keep the bundles and results here")
    child: str = setting("", "internal: bundles to replay in this process, as JSON")


def main(argv: Sequence[str]) -> int:
    """Run the matrix; exit code 1 if more than 1% of the replays are not equivalent."""
    options = build(Options, parse_arguments(argv, Options))
    if options.child:
        return _child(json.loads(options.child))
    with tempfile.TemporaryDirectory() as folder:
        return _matrix(options, Path(options.folder or folder))


def _matrix(options: Options, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    bundles = [
        (dtype, seed, _recorded(options, folder, dtype, seed))
        for dtype in options.dtypes.split(",")
        for seed in range(1, options.seeds + 1)
    ]
    rows: list[dict[str, object]] = []
    print("| replayed with | dtype | equivalent | largest difference | of the envelope | largest error of a step |")
    print("|---|---|---|---|---|---|")
    for combination in COMBINATIONS:
        if not options.only or combination.name in options.only.split(";"):
            found = _replayed(combination, bundles, folder)
            rows += found
            _print(combination.name, found)
    equal = sum(row["verdict"] == "equivalent" for row in rows)
    print(f"\n{equal} of {len(rows)} replays are equivalent.")
    (folder / "results.json").write_text(json.dumps(rows), encoding="utf-8")
    return 0 if len(rows) - equal <= 0.01 * len(rows) else 1


def _recorded(options: Options, folder: Path, dtype: str, seed: int) -> str:
    path = folder / f"{options.recipe}-{dtype}-{seed}.lossgap"
    if not path.exists():
        given: dict[str, Any] = {"device": "cpu", "dtype": dtype, "compile": False, "seed": seed, "threads": 2}
        given |= {"attention": "plain", **RECIPES[options.recipe]}
        lossgap.record("shakespeare_char_cpu", iters=options.iters, out=path, **given)
    return str(path)


def _replayed(
    combination: Combination, bundles: Sequence[tuple[str, int, str]], folder: Path
) -> list[dict[str, object]]:
    cache = folder / "inductor" / combination.name.replace(", ", "-").replace(" ", "-")
    work = {"bundles": bundles, "asked": dict(combination.asked), "name": combination.name}
    done = subprocess.run(
        [sys.executable, __file__, f"--child={json.dumps(work)}"],
        env={**os.environ, **combination.variables, "TORCHINDUCTOR_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{combination.name}: {done.stderr}")
    rows: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def _child(work: Mapping[str, Any]) -> int:
    import torch

    if "LOSSGAP_WITHOUT_ONEDNN" in os.environ:
        torch._C._set_mkldnn_enabled(False)
    rows = []
    for dtype, seed, bundle in work["bundles"]:
        start = time.perf_counter()
        found = lossgap.replay(bundle, device="cpu", **work["asked"])
        parts = found.trajectory
        ratios = [
            abs(place.difference) / (place.high - place.recorded) for place in parts.places if place.high is not None
        ]
        steps = [check.error / check.allowed for check in found.layers if check.error is not None and check.allowed]
        rows.append(
            {
                "name": work["name"],
                "dtype": dtype,
                "seed": seed,
                "verdict": found.verdict,
                "reasons": found.reasons,
                "largest": max(abs(place.difference) for place in parts.places),
                "ratio": max(ratios, default=None),
                "widest": parts.envelope.widest if parts.envelope is not None else None,
                "step": max(steps, default=None),
                "capability": found.numerics.cpu_capability,
                "compiled": found.numerics.compile,
                "seconds": time.perf_counter() - start,
            }
        )
    print(json.dumps(rows))
    return 0


def _print(name: str, rows: Sequence[Mapping[str, object]]) -> None:
    for dtype in dict.fromkeys(str(row["dtype"]) for row in rows):
        own = [row for row in rows if row["dtype"] == dtype]
        equal = sum(row["verdict"] == "equivalent" for row in own)

        def most(key: str, own: Sequence[Mapping[str, object]] = own) -> float:
            return max((float(str(row[key])) for row in own if row[key] is not None), default=float("nan"))

        print(
            f"| {name} | {dtype} | {equal} of {len(own)} | {most('largest'):.1e} | {most('ratio'):.2f} | "
            f"{most('step'):.2f} |",
            flush=True,
        )
        for row in own:
            if row["verdict"] != "equivalent":
                print(f"<!-- seed {row['seed']}: {row['verdict']}: {row['reasons']} -->", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
