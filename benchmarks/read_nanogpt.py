"""How fast and in how much memory a nanoGPT log is read.

    python benchmarks/read_nanogpt.py [--megabytes 1000] [--keep]

Writes a log of that size into a temporary folder (an evaluation every 250 iterations, a row for each iteration), reads
it in a process of its own, and prints one JSON line: MB/s by wall clock and by processor time, peak memory of that
process with all it imports, rows before and after thinning. Checks that every evaluation is there.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EVERY = 250


def write_log(path: Path, megabytes: int) -> int:
    """A log of about that size; returns the number of its evaluations."""
    draw = random.Random(1)
    lines, evaluations, written, at = [], 0, 0, 0
    chunk = [
        f"{draw.uniform(0.8, 4.2):.4f}, time {draw.uniform(10, 900):.2f}ms, mfu {draw.uniform(0, 40):.2f}%\n"
        for _ in range(5000)
    ]
    with path.open("w") as stream:
        while written < megabytes * 10**6:
            if at % EVERY == 0:
                lines.append(f"step {at}: train loss {draw.random():.4f}, val loss {draw.random():.4f}\n")
                evaluations += 1
            lines.append(f"iter {at}: loss {chunk[at % 5000]}")
            at += 1
            if len(lines) >= 50_000:
                text = "".join(lines)
                stream.write(text)
                written += len(text)
                lines = []
        stream.write("".join(lines))
    return evaluations


def read_log(path: Path) -> None:
    """Read the log and print what it cost."""
    from lossgap.runs.readers.base import Source
    from lossgap.runs.readers.formats.nanogpt import READER

    wall, processor = time.perf_counter(), time.process_time()
    (run,) = READER.read(Source(path=path, name=path.name))
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    megabytes = path.stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "megabytes": round(megabytes),
                "megabytes_per_second": round(megabytes / wall, 1),
                "megabytes_per_processor_second": round(megabytes / processor, 1),
                "peak_megabytes": round(peak),
                "evaluations": run.evals.height,
                "rows": run.thinned.rows if run.thinned else run.iters.height,
                "kept": run.iters.height,
                "block": run.thinned.block if run.thinned else 1,
            }
        )
    )


def main() -> None:
    """Write, read in another process, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        read_log(options.read)
        return
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "train.log"
        evaluations = write_log(log, options.megabytes)
        line = subprocess.run(
            [sys.executable, __file__, "--read", str(log)], check=True, capture_output=True, text=True
        ).stdout
    print(line, end="")
    if json.loads(line)["evaluations"] != evaluations:
        raise SystemExit(f"{evaluations} evaluations were written")


if __name__ == "__main__":
    main()
