"""An experiment in a process that can be killed: two factors, three seeds, twelve arms; prints what came out as JSON.

python killed_experiment.py TEXT ROOT local|ray|ADDRESS ITERATIONS [TEST_LEARNING_RATE]

A module of its own, since a worker process loads the main module again.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

RECIPE: dict[str, object] = {
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 8,
    "batch_size": 4,
    "gradient_accumulation_steps": 1,
    "warmup_iters": 5,
    "learning_rate": 1e-2,
    "min_lr": 1e-3,
    "dropout": 0.1,
    "compile": False,
}
ARMS = 12


def prepared(text: Path, root: Path, executor: str, iterations: int, learning_rate: float = 3e-3):  # type: ignore[no-untyped-def]  # loaded late
    """The experiment, ready to run in `root`."""
    from lossgap.attribution.explain import prepare
    from lossgap.options import ExplainOptions

    shared = {**RECIPE, "dataset": str(text), "max_iters": iterations, "lr_decay_iters": iterations}
    ends = []
    for name, other in (("control", {}), ("test", {"n_embd": 24, "learning_rate": learning_rate})):
        path = root / f"{name}.py"
        root.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{key} = {value!r}\n" for key, value in {**shared, **other}.items()))
        ends.append(path)
    asked = ExplainOptions(budget=f"{ARMS}runs", workers=2, arm_device="cpu")
    return prepare(ends[0], ends[1], asked, root=root, executor=executors(executor))


def executors(name: str):  # type: ignore[no-untyped-def]  # loaded late
    """By its name, or the address of a Ray cluster."""
    from lossgap.attribution.local import LocalExecutor
    from lossgap.attribution.ray_executor import ray_executor

    if name == "local":
        return LocalExecutor
    return ray_executor(None if name == "ray" else name)


def outcome(explanation) -> dict[str, object]:  # type: ignore[no-untyped-def]
    """Everything but times, paths and what was cached: two runs of one experiment must agree in it to the last bit."""
    return {
        "divisions": json.loads(json.dumps([asdict(explanation.last), asdict(explanation.best)])),
        "seeds": list(explanation.design.seeds),
        "replaced": list(explanation.design.replaced_seeds),
        "failed": [asdict(item) for item in explanation.failed],
        "complete": explanation.complete,
        "arms": sorted(
            [list(arm.factors), arm.seed, arm.val_loss, arm.best_val_loss, [list(point) for point in arm.curve]]
            for arm in explanation.arms
        ),
    }


def main() -> None:
    text, root, executor, iterations, *rate = sys.argv[1:]
    from lossgap.errors import LossgapError

    told: list[str] = []
    try:
        experiment = prepared(Path(text), Path(root), executor, int(iterations), *(float(item) for item in rate))
        found = experiment.run(lambda ended: told.append(ended.what) if ended.what else None)
    except KeyboardInterrupt:
        print(json.dumps({"stopped": True}))
        return
    except LossgapError as error:
        print(json.dumps({"slug": error.slug, "line": str(error), "told": told}))
        return
    spent = {"spent": found.budget.spent_runs, "told": told, "cached": sum(arm.cached for arm in found.arms)}
    print(json.dumps({"outcome": outcome(found), **spent}))


if __name__ == "__main__":
    main()
