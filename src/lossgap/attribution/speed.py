"""How fast this machine trains the shapes of an experiment: measured by a few iterations of each.

1. How many arms at a time, and with how many threads each: the pair with the highest throughput on the shape in the
   middle. It is kept for this machine, so that arms of later experiments are the same arms.
2. Seconds per iteration of every shape, with all workers busy as they will be. Shapes whose turn does not come within
   the time limit are predicted from the highest FLOP/s that was measured.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lossgap.attribution.arm import Measurement
from lossgap.config import TrainConfig
from lossgap.runs.run_json import replace_file
from lossgap.runs.values import as_int, as_list, as_mapping

if TYPE_CHECKING:
    pass

Config = Mapping[str, object]
Shape = tuple[object, ...]
SHAPE = (
    "n_layer", "n_head", "n_embd", "bias", "block_size", "batch_size", "gradient_accumulation_steps", "dtype",
)  # fmt: skip
LIMIT = 20.0
"""Seconds of measuring."""
MOST_PER_CORE = 4
"""Arms at a time for each core, where the user says how many."""
TRIAL = 0.5
"""Seconds of one shape's measurement, at least two iterations."""
START = 0.15
"""Seconds of an arm beside iterations and evaluations: corpus, record, checkpoints. Measured on small arms."""
FORWARD = 1 / 3
"""A forward pass's part of an update's FLOPs (2N of 6N; PaLM, arXiv:2204.02311, appendix B)."""


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Arms at a time and threads for each."""

    at_once: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Seconds per iteration of the shapes of an experiment."""

    workers: Workers
    seconds: Mapping[Shape, float]
    predicted: int = 0
    """Shapes that were not measured."""
    per_flop: float | None = None
    """Seconds per training FLOP of a foreign trainer, whose shapes are not timed one by one."""

    def arm(self, config: Config, measurement: Measurement, val_tokens: int, vocab_size: int) -> float:
        """Predicted seconds of one arm: updates, its own evaluations, and the exact ones of two states.

        Infinite where nothing was measured.
        """
        c = TrainConfig.from_dict(dict(config))
        update = self.seconds.get(shape(config))
        if update is None:
            return math.inf if self.per_flop is None else self.per_flop * flops(config, vocab_size)
        per_token = FORWARD * update / c.tokens_per_iter
        share = min(measurement.tokens, c.tokens_per_iter * (c.max_iters + 1) // (2 * measurement.evaluations))
        own = 2 * measurement.evaluations * max(share, c.batch_size * c.block_size)
        exact = 2 * val_tokens * (1 if c.block_size <= measurement.context else 2)
        return START + update * (c.max_iters + 1) + per_token * (own + exact)


def shape(config: Config) -> Shape:
    """Return what decides the seconds of an iteration."""
    return (*(config[name] for name in SHAPE), config["dropout"] != 0.0)


def flops(config: Config, vocab_size: int) -> float:
    """Training FLOPs of one arm: tokens x (6N + 12 L H Q T), see `GPT.flops_per_token`."""
    return _flops_per_iter(config, vocab_size) * (int(str(config["max_iters"])) + 1)


def _flops_per_iter(config: Config, vocab_size: int) -> float:
    import torch

    from lossgap.gpt import GPT, gpt_config

    with torch.device("meta"):
        model = GPT(gpt_config(TrainConfig.from_dict(dict(config)), vocab_size))
    return float(model.flops_per_token() * TrainConfig.from_dict(dict(config)).tokens_per_iter)


def measure_speed(
    configs: Sequence[Config], vocab_size: int, device: str, root: Path, workers: Workers | None = None
) -> Speed:
    """Time the shapes of these configs. `workers` forces their number and threads."""
    shapes = {shape(config): config for config in configs}
    cost = {key: _flops_per_iter(config, vocab_size) for key, config in shapes.items()}
    order = sorted(shapes, key=cost.__getitem__)
    chosen = workers or workers_for(shapes[order[len(order) // 2]], vocab_size, device, root)
    seconds: dict[Shape, float] = {}
    with _pool(chosen.at_once) as pool:
        # Starting a process and loading torch takes seconds that do not belong to a shape.
        first = [pool.submit(time_shape, dict(shapes[order[0]]), vocab_size, device, 1) for _ in range(chosen.at_once)]
        for job in first:
            job.result()
        start = time.perf_counter()
        while order and time.perf_counter() - start < LIMIT:
            rate = max((cost[key] / value for key, value in seconds.items()), default=0.0)
            if rate and 2 * cost[order[0]] / rate > LIMIT / 2:
                break
            batch, order = order[: chosen.at_once], order[chosen.at_once :]
            copies = [batch[index % len(batch)] for index in range(chosen.at_once)]
            jobs = [pool.submit(time_shape, dict(shapes[key]), vocab_size, device, chosen.threads) for key in copies]
            for key, job in zip(copies, jobs, strict=True):
                seconds[key] = max(seconds.get(key, 0.0), job.result())
    rate = max(cost[key] / value for key, value in seconds.items())
    predicted = {key: cost[key] / rate for key in order}
    return Speed(workers=chosen, seconds=seconds | predicted, predicted=len(predicted))


def most_workers() -> int:
    """Arms at a time beyond which this machine has nothing to gain, and no memory for the processes."""
    from lossgap.machine.probe import usable_cores

    return MOST_PER_CORE * (usable_cores() or 1)


def _pool(workers: int) -> ProcessPoolExecutor:
    from lossgap.attribution.local import attend

    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=attend)


def workers_for(config: Config, vocab_size: int, device: str, root: Path) -> Workers:
    """The fastest pair for this machine, as measured on this shape now or on another one before."""
    import torch

    from lossgap.machine.probe import cpu_name, usable_cores

    if not device.startswith("cpu"):
        return Workers(at_once=1, threads=torch.get_num_threads())
    cores = max(1, usable_cores() or 1)
    if cores == 1:
        return Workers(at_once=1, threads=1)
    path, name = root / "machine.json", f"{cpu_name()}, {cores} cores, torch {torch.__version__}"
    known = _remembered(path)
    if name not in known:
        best, rate = Workers(at_once=cores, threads=1), 0.0
        for threads in [value for value in (1, 2, 4, 8, 16, 32, 64, cores) if value == cores or value <= cores // 2]:
            at_once = max(1, cores // threads)
            with _pool(at_once) as pool:
                jobs = [pool.submit(time_shape, dict(config), vocab_size, device, threads) for _ in range(at_once)]
                found = at_once / max(job.result() for job in jobs)
            if found > rate:
                best, rate = Workers(at_once=at_once, threads=threads), found
        known[name] = best
        content = {key: [item.at_once, item.threads] for key, item in known.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as stream:
            stream.write(json.dumps(content).encode())
    return known[name]


def _remembered(path: Path) -> dict[str, Workers]:
    try:
        content = as_mapping(json.loads(path.read_bytes()[: 1 << 20]))
    except (OSError, ValueError, RecursionError):
        return {}
    found = {}
    for name, value in content.items():
        pair = [as_int(item) for item in as_list(value)]
        if len(pair) == 2 and all(item is not None and 0 < item <= 1024 for item in pair):
            found[name] = Workers(at_once=pair[0] or 1, threads=pair[1] or 1)
    return found


def time_shape(config: dict[str, object], vocab_size: int, device: str, threads: int) -> float:
    """Seconds of one update of this shape, in this process: the least of those that fit TRIAL seconds."""
    import torch

    from lossgap.gpt import gpt_config, n_places
    from lossgap.training import optimizer
    from lossgap.training.draws import CounterDraws
    from lossgap.training.numerics import applied, resolve, training_attention

    c = TrainConfig.from_dict({**config, "threads": threads, "device": device, "compile": False})
    numerics, _ = resolve(c, device, 1, {})
    draws = CounterDraws(c.seed, keyed_dropout=c.dropout_rng == "counter")
    model = draws.new_model(gpt_config(c, vocab_size)).to(device)
    model.use_attention(training_attention(c, numerics))
    adamw = optimizer.adamw(model, c, numerics)
    tokens = torch.randint(vocab_size, (c.batch_size, c.block_size + 1), generator=torch.Generator().manual_seed(1))
    x, y = tokens[:, :-1].to(device), tokens[:, 1:].to(device)
    best, end, done = float("inf"), time.perf_counter() + TRIAL, 0
    with applied(numerics):
        while done < 2 or time.perf_counter() < end:
            start = time.perf_counter()
            for _ in range(c.gradient_accumulation_steps):
                keys = draws.dropout_keys(done, range(c.batch_size), n_places(c.n_layer)) if c.dropout else None
                with numerics.autocast():
                    _, loss = model(x, y, None if keys is None else keys.to(device))
                loss.backward()
            torch.nn.utils.clip_grad_norm_(list(model.parameters()), 1.0)
            adamw.step()
            adamw.zero_grad(set_to_none=True)
            float(loss.detach())  # waits for the device
            best, done = min(best, time.perf_counter() - start), done + 1
    return best
