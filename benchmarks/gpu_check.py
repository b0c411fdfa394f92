"""What a GPU does to a training, in one command and under ten minutes, without nanoGPT and without a network.

    make gpu-check                                     # leaves gpu-check.json and gpu-check.md
    python benchmarks/gpu_check.py --device=cpu --tiny --out=FOLDER     # the same code path on any machine, in seconds

Stages, each of which begins only while time is left and whose failure costs that stage alone:

1. canary    the kernels against float64: float32, TF32, bfloat16
2. replay    recorded on the CPU and replayed on the device: float32, TF32, bfloat16, eager and compiled; then back
3. speed     updates per second of lossgap and of a plain loop over the same model, in turns
4. train     the GPU recipe, as many iterations (and as long a decay) as fit, to its exact val loss
5. explain   arms between the laptop recipe and the GPU recipe, for the time that is left

Without CUDA it says so and exits with 0.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import lossgap
from lossgap.machine.compiler import compile_support
from lossgap.machine.probe import environment
from lossgap.pace.stopwatch import Stand

MINUTES = 9.5
TINY: dict[str, Any] = {
    "n_layer": 1, "n_head": 2, "n_embd": 32, "block_size": 16, "batch_size": 4, "eval_iters": 2, "max_iters": 20,
    "lr_decay_iters": 20, "warmup_iters": 2, "threads": 1,
}  # fmt: skip
Facts = dict[str, Any]


class GpuCheck:
    """The stages of one machine. `facts` is what the JSON holds."""

    def __init__(self, device: str, tiny: bool, minutes: float, folder: Path) -> None:
        self.device, self.tiny, self.folder = device, tiny, folder
        self.start = time.perf_counter()
        self.end = self.start + 60 * minutes
        self.small: Facts = TINY if tiny else {}
        self.compiles = bool(compile_support(device).value) and not tiny
        self.facts: Facts = {
            "schema": "lossgap.gpu-check/1",
            "lossgap": lossgap.__version__,
            "machine": environment(device),
            "device": device,
            "tiny": tiny,
            "stages": {},
        }

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.perf_counter()

    def run(self) -> Facts:
        """Every stage in its order."""
        stages = (self.canary, self.replay, self.speed, self.train, self.explain)
        for stage in stages:
            self._stage(stage.__name__, stage)
        self.facts["seconds"] = time.perf_counter() - self.start
        return self.facts

    def _stage(self, name: str, stage: Callable[[], Facts]) -> None:
        print(f"{name}: {self.left:.0f} s are left", flush=True)
        begun = time.perf_counter()
        if self.left <= 0:
            found: Facts = {"why": "the time was over"}
        else:
            try:
                found = stage()
            except Exception as error:  # noqa: BLE001  # a fault of one stage is a result; the others go on
                found = {"why": f"{type(error).__name__}: {error}"}
        self.facts["stages"][name] = found | {"seconds": time.perf_counter() - begun}

    # -----------------------------------------------------------------------------------------
    # Stages

    def numerics(self) -> list[tuple[str, Facts]]:
        """The numerics that are tried on the device."""
        kinds: list[tuple[str, Facts]] = [("float32", {"dtype": "float32"})]
        if self.device.startswith("cuda"):
            kinds.append(("TF32", {"dtype": "float32", "tf32": True}))
        return [*kinds, ("bfloat16", {"dtype": "bfloat16"})]

    def canary(self) -> Facts:
        """The kernels at both recipes' shapes."""
        found: Facts = {}
        for recipe in ("shakespeare_char_cpu", "shakespeare_char"):
            for name, settings in self.numerics():
                checked = lossgap.canary(recipe, **self.small, device=self.device, compile=False, **settings)
                faults = [check.words() for check in checked.faults]
                found[f"{recipe}, {name}"] = {"checks": len(checked.checks), "faults": faults}
        return found

    def replay(self) -> Facts:
        """From the CPU to the device in every numerics, and back in float32."""
        iters, found = 5 if self.tiny else 20, Facts()
        places = [("cpu", self.device), (self.device, "cpu")]
        for here, there in places:
            bundle = self.folder / f"{here.replace(':', '-')}-to-{there.replace(':', '-')}.lossgap"
            lossgap.record(
                "shakespeare_char_cpu",
                **self.small,
                device=here,
                dtype="float32",
                iters=iters,
                out=bundle,
                overwrite=True,
            )
            kinds = self.numerics() if there == self.device else [("float32", {"dtype": "float32"})]
            compiled = [False, True] if self.compiles and there == self.device else [False]
            for name, settings in kinds:
                for is_compiled in compiled:
                    if self.left <= 0:
                        return found
                    how = f"{here} to {there}, {name}, {'compiled' if is_compiled else 'eager'}"
                    replayed = lossgap.replay(bundle, device=there, compile=is_compiled, **settings)
                    found[how] = {"verdict": replayed.verdict, "answer": replayed.text().splitlines()[0]}
        return found

    def speed(self) -> Facts:
        """Updates of the GPU recipe by lossgap and by a plain loop over the same model, in turns."""
        found: Facts = {}
        for dtype in ("float32", "bfloat16"):
            for is_compiled in [False, True] if self.compiles else [False]:
                config = lossgap.TrainConfig.from_dict(
                    {**_preset("shakespeare_char"), **self.small, "device": self.device, "dtype": dtype,
                     "compile": is_compiled, "deterministic": False, "dropout_rng": "device"}
                )  # fmt: skip
                stand, plain = Stand(config), PlainLoop(config)
                count, ours, theirs = 2 if self.tiny else 20, list[float](), list[float]()
                plain.updates(3)
                for _ in range(3):
                    ours.append(statistics.median(stand.updates(count)))
                    theirs.append(statistics.median(plain.updates(count)))
                ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
                found[f"{dtype}, {'compiled' if is_compiled else 'eager'}"] = {
                    "ms": 1000 * statistics.median(ours),
                    "plain_ms": 1000 * statistics.median(theirs),
                    "ratio": statistics.median(ratios),
                }
        return found

    def train(self) -> Facts:
        """The GPU recipe with a decay as long as what fits into two fifths of the time that is left."""
        base = {**_preset("shakespeare_char"), **self.small, "device": self.device, "compile": False}
        update = statistics.median(Stand(lossgap.TrainConfig.from_dict(base)).updates(3 if self.tiny else 10))
        length = int(min(base["max_iters"], 0.4 * self.left / update))
        settings = base | {"max_iters": length, "lr_decay_iters": length, "out_dir": str(self.folder / "gpu-recipe")}
        run = lossgap.train(**settings, overwrite=True)
        final = run.final or {}
        return {
            "iterations": length,
            "of": base["max_iters"],
            "val_loss": final.get("val_loss"),
            "seconds_per_update": update,
        }

    def explain(self) -> Facts:
        """Arms of the pair, within the time that is left."""
        if self.tiny:
            return {"why": "left out at the tiny scale"}
        budget = f"{max(10, int(0.8 * self.left))}s"
        found = lossgap.explain("shakespeare_char_cpu", "shakespeare_char", budget=budget, arm_device=self.device)
        return {"budget": budget, "answer": found.text().splitlines(), "document": found.json()}


class PlainLoop:
    """nanoGPT's way to train the same model: torch's batches, autocast, clipping, fused AdamW, no record."""

    def __init__(self, config: lossgap.TrainConfig) -> None:
        stand = Stand(config)
        self.config, self.tokens = config, torch.from_numpy(stand.corpus.train[:].astype("int64"))
        self.model, self.step_model = stand.model, stand.step_model
        self.device, self.dtype = stand.numerics.device, getattr(torch, stand.numerics.dtype)
        fused = self.device != "mps"
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=config.learning_rate, fused=fused)

    def updates(self, count: int) -> list[float]:
        """Seconds of each update."""
        return [self._update() for _ in range(count)]

    def _update(self) -> float:
        start, c = time.perf_counter(), self.config
        at = torch.randint(len(self.tokens) - c.block_size, (c.batch_size,))
        x = torch.stack([self.tokens[i : i + c.block_size] for i in at]).to(self.device)
        y = torch.stack([self.tokens[i + 1 : i + 1 + c.block_size] for i in at]).to(self.device)
        kind = torch.device(self.device).type
        with torch.autocast(kind, dtype=self.dtype, enabled=self.dtype != torch.float32):
            _, loss = self.step_model(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), c.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        float(loss.detach())
        if kind == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def _preset(name: str) -> Facts:
    from lossgap.presets import preset

    return preset(name)


def page(facts: Facts) -> str:
    """The facts as one page of Markdown."""
    machine, stages = facts["machine"], facts["stages"]
    name = machine.get("gpu") or machine.get("cpu")
    lines = [
        f"# GPU check: {name}",
        "",
        f"lossgap {facts['lossgap']}, torch {machine.get('torch')}, {facts['seconds']:.0f} s",
        "",
    ]
    for title, stage in stages.items():
        lines += [f"## {title}", ""]
        for key, value in stage.items():
            if key in ("seconds", "document"):
                continue
            said = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            lines += ["```", *said, "```"] if isinstance(said, list) else [f"- {key}: {said}"]
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Check, and leave the JSON and the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--tiny", action="store_true", help="small shapes: the code path, not the figures")
    parser.add_argument("--out", type=Path, default=Path())
    asked = parser.parse_args()
    if asked.device.startswith("cuda") and not torch.cuda.is_available():
        print("gpu-check: torch finds no CUDA device here; nothing to check")
        return 0
    work = Path(tempfile.mkdtemp(prefix="lossgap-gpu-check-"))
    try:
        facts = GpuCheck(asked.device, asked.tiny, asked.minutes, work).run()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    (asked.out / "gpu-check.json").write_text(json.dumps(facts, indent=1, default=str), encoding="utf-8")
    (asked.out / "gpu-check.md").write_text(page(facts), encoding="utf-8")
    print(f"gpu-check: {asked.out / 'gpu-check.json'}, {asked.out / 'gpu-check.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
