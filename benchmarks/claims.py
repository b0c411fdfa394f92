"""The twelve claims of the note "The loss difference between CPU and GPU in nanoGPT", each against measured runs.

    python benchmarks/claims.py docs/claims.md        # `make claims`; seconds, as it trains nothing

Numbers come from the reference curves that are shipped (`make reference` trains them), from the five seeds of
`comparison/spreads.json`, from the measured and published recipes of `runs/references.json`, and from settings alone.
What no run has measured yet says so, and is no verdict.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from lossgap.arithmetic import flops_per_token, nanogpt_parameters
from lossgap.presets import preset
from lossgap.references.curve_file import ReferenceCurve, curves
from lossgap.references.trainings import named
from lossgap.runs.readers.recipe_match import Reference, references

LAPTOP, GPU = "shakespeare_char_cpu", "shakespeare_char"
VOCABULARY, TRAIN_TOKENS = 65, 1_003_854
NOT_YET = "not measured yet"
A100 = 312e12
ABOUT = 0.05
"""A single number of the note ("val 2.0") counts as met within this."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim of the note with what was measured of it."""

    said: str
    verdict: str
    measured: tuple[str, ...]
    command: str


class Evidence:
    """The runs that there are."""

    def __init__(self) -> None:
        self.curves: dict[str, ReferenceCurve] = {item.name: item for item in curves()}
        self.published: dict[str, Reference] = {item.name: item for item in references()}
        text = resources.files("lossgap.comparison").joinpath("spreads.json").read_text(encoding="utf-8")
        spreads = json.loads(text)
        self.seeds = next(item for item in spreads["spreads"] if item["id"].startswith(LAPTOP))
        self.window = next(float(item["sd"]) for item in spreads["windows"] if item["context"] == 64)

    def final(self, name: str) -> str:
        """The exact val loss at the end over the seeds of a reference, or `not measured yet` with its command."""
        found = self.curves.get(name)
        if found is None:
            return f"{NOT_YET} (`make reference RECIPE={name}`)"
        values = found.finals()
        spread = f" ± {values.std(ddof=1):.4f}" if len(values) > 1 else ""
        return f"{values.mean():.4f}{spread} ({len(values)} seed{'s' * (len(values) > 1)}, exact)"

    def lower(self, name: str, other: str) -> str:
        """Whether the first reference ends below the second beyond two standard errors; `not measured yet`."""
        if name not in self.curves or other not in self.curves:
            return NOT_YET
        a, b = self.curves[name].finals(), self.curves[other].finals()
        if min(len(a), len(b)) < 2:
            return NOT_YET
        error = math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        gap = float(a.mean() - b.mean())
        return "undecided" if abs(gap) <= 2 * error else "true" if gap < 0 else "false"

    def near(self, name: str, value: float) -> str:
        """Whether a reference ends within `ABOUT` of a number."""
        mean = self.mean(name)
        return NOT_YET if mean is None else _near(mean, value)

    def mean(self, name: str) -> float | None:
        """The mean of those, if there are any."""
        found = self.curves.get(name)
        if found is None and name == "laptop2000":
            return float(self.seeds["mean"])
        return None if found is None else float(found.finals().mean())

    def at(self, name: str, iteration: int) -> tuple[float, float] | None:
        """Train and val loss of an evaluation: the mean over the reference's seeds, else nanoGPT's own run."""
        found = self.curves.get(name)
        if found is not None and iteration <= min(item.iters[-1] for item in found.seeds):
            pairs = [
                (np.interp(iteration, item.iters, item.train), np.interp(iteration, item.iters, item.val))
                for item in found.seeds
            ]
            train, val = np.mean(pairs, axis=0)
            return float(train), float(val)
        own = {"laptop2000": LAPTOP, "laptop5000": f"{LAPTOP}, 5,000 iterations", "gpu5000": GPU}.get(name, "")
        return self.published[own].evals.get(iteration) if own in self.published else None


def size(name: str) -> tuple[int, float, int]:
    """Parameters, FLOPs of an iteration, and tokens of an iteration of a preset."""
    p = preset(name)
    layers, width, context, batch = (int(str(p[key])) for key in ("n_layer", "n_embd", "block_size", "batch_size"))
    count = nanogpt_parameters(layers, width, VOCABULARY, bias=False)
    return count, float(flops_per_token(count, layers, width, context)) * batch * context, batch * context


def _near(value: float, said: float) -> str:
    return "true" if abs(value - said) <= ABOUT else "false"


def pair(found: tuple[float, float] | None) -> str:
    """Train and val, or that they are not measured."""
    return NOT_YET if found is None else f"train {found[0]:.4f}, val {found[1]:.4f}"


# ---------------------------------------------------------------------------------------------
# The claims, in the note's order


def baseline(e: Evidence) -> Claim:
    """Claim 1."""
    start = e.published[LAPTOP].evals[0]
    return Claim(
        said='The untrained baseline is "about 4.0+" (ln 65 = 4.174).',
        verdict="true" if all(4.0 <= value <= 4.4 for value in start) else "false",
        measured=(f"ln 65 = {math.log(65):.4f}; nanoGPT's laptop recipe starts at {pair(start)}",),
        command="lossgap train shakespeare_char_cpu --max_iters=0",
    )


def iterations(e: Evidence) -> Claim:
    """Claim 2."""
    marks = (0, 250, 1000, 2000, 5000)
    rows = [(at, e.at("laptop5000", at)) for at in marks]
    vals = [found[1] for _, found in rows if found is not None]
    early = (vals[0] - vals[1]) / (vals[0] - vals[-1]) if len(vals) == len(marks) else None
    share = "" if early is None else f"; {early:.0%} of that fall comes in the first 250 iterations"
    laptop, gpu = e.at("laptop5000", 5000), e.at("gpu5000", 5000)
    sharply = NOT_YET if early is None else "false" if early > 0.5 else "true"
    more = NOT_YET if not (laptop and vals) else "true" if vals[-1] < vals[-2] else "false"
    return Claim(
        said="The CPU is higher because it did fewer iterations; the loss falls sharply only after 5,000 to 10,000.",
        verdict=f"more iterations lower it: {more}; a sharp fall only after 5,000: {sharply}",
        measured=(
            *(f"iteration {at:,}: {pair(found)}" for at, found in rows),
            f"at 5,000 iterations the laptop's recipe has {pair(laptop)}, the GPU's {pair(gpu)}{share}",
            f"10,000 iterations: val {e.final('laptop10000')}",
        ),
        command="make reference RECIPE=laptop5000",
    )


def precision(e: Evidence) -> Claim:
    """Claim 3."""
    seed = f"val {e.seeds['mean']:.4f} ± {e.seeds['sd']:.4f} over {e.seeds['n_seeds']} seeds"
    return Claim(
        said='The CPU trains in FP32 without AMP, "so updates are noisier"; the batch of 12 converges more slowly.',
        verdict=f"noisier: false; the batch: {e.lower('batch24', 'laptop2000')} at equal iterations",
        measured=(
            "float32 rounds to 2^-24, bfloat16 to 2^-8, float16 to 2^-11 of a value: the least noisy of the three",
            f"seeds alone move the laptop's {seed}",
            f"batch 12, 2,000 iterations: {e.final('laptop2000')}; batch 24, twice the tokens: {e.final('batch24')}",
        ),
        command="lossgap explain shakespeare_char_cpu shakespeare_char_cpu --factor batch=batch_size --budget 20m",
    )


def overfitting(e: Evidence) -> Claim:
    """Claim 4."""
    laptop, gpu = e.at("laptop2000", 2000), e.at("gpu5000", 5000)
    best = min(e.published[GPU].evals.items(), key=lambda item: item[1][1])
    passes = [size(name)[2] * count / TRAIN_TOKENS for name, count in ((LAPTOP, 2000), (GPU, 5000))]
    return Claim(
        said='Val above train by 0.12 is normal; on the GPU it is more "because training is faster".',
        verdict="the gaps are as said; speed is not their reason" if laptop and gpu else NOT_YET,
        measured=(
            f"laptop at 2,000: {pair(laptop)}, {passes[0]:.1f} passes over the data",
            f"GPU recipe at 5,000: {pair(gpu)}, {passes[1]:.1f} passes; its val was lowest, {best[1][1]:.4f}, at "
            f"iteration {best[0]:,} ({passes[1] * best[0] / 5000:.0f} passes)",
            "what overfits is the number of passes of a larger model; speed is not among the settings",
        ),
        command="lossgap compare examples/cpu-vs-gpu/laptop.toml examples/cpu-vs-gpu/rtx4070ti.toml",
    )


def evaluations(e: Evidence) -> Claim:
    """Claim 5."""
    laptop, gpu = preset(LAPTOP)["eval_iters"], preset(GPU)["eval_iters"]
    return Claim(
        said="Both used `estimate_loss` with about 200 batches per split; evaluations fluctuate as the data is small.",
        verdict="false" if laptop != gpu else "true",
        measured=(
            f"the README's laptop command has --eval_iters={laptop}, the GPU's config {gpu}: "
            f"{int(str(laptop)) * 12 * 64:,} and {int(str(gpu)) * 64 * 256:,} tokens per split and evaluation",
            f"evaluations fluctuate because they draw few windows: the loss of one window of 64 tokens has a standard "
            f"deviation of {e.window:.2f}, and the laptop's mean is over 240 of them: {e.window / math.sqrt(240):.3f}",
        ),
        command="lossgap read examples/cpu-vs-gpu/laptop.toml",
    )


def reasons(e: Evidence) -> Claim:
    """Claim 6."""
    (n1, f1, t1), (n2, f2, t2) = size(LAPTOP), size(GPU)
    return Claim(
        said='The reasons are steps, parallel gradients, and hardware; "MFU is unrelated to the loss".',
        verdict="incomplete; the sentence about MFU is true",
        measured=(
            f"{n2 / n1:.1f} times the parameters, {t2 / t1:.1f} times the tokens of an iteration, "
            f"{f2 * 5000 / (f1 * 2000):.0f} times the FLOPs, dropout 0.2 against 0, context 256 against 64",
            "none of these is in the note's table",
        ),
        command="lossgap compare examples/cpu-vs-gpu/laptop.toml examples/cpu-vs-gpu/rtx4070ti.toml --full",
    )


EXPECTED = (
    ("0 to 1,000, read at 250", 250, (2.5, 3.0), (3.0, 99.0)),
    ("2,000", 2000, (1.8, 2.2), (2.0, 2.0)),
    ("5,000", 5000, (1.0, 1.5), (1.5, 1.8)),
    ("10,000 and more", 10000, (0.0, 1.0), (1.3, 1.3)),
)
"""The note's table: iterations, where they are read, train from and to, val from and to."""


def trajectory(e: Evidence) -> Claim:
    """Claim 7, row by row."""
    rows, met = [], []
    for label, at, train, val in EXPECTED:
        name = "laptop10000" if at > 5000 else "laptop5000" if at != 2000 else "laptop2000"
        found = e.at(name, at)
        said = f"{label}: the note says train {_range(train)}, val {_range(val)}"
        if found is None:
            rows.append(f"{said}; {NOT_YET} (`make reference RECIPE={name}`)")
            continue
        both = _within(found[0], train), _within(found[1], val)
        met += both
        rows.append(f"{said}; measured {pair(found)}: {'train holds' if both[0] else 'train does not hold'}, "
                    f"{'val holds' if both[1] else 'val does not hold'}")  # fmt: skip
    return Claim(
        said='Expected for "4 layers, 128 channels, no dropout": its table of losses.',
        verdict=f"{sum(met)} of {len(met)} measured entries hold",
        measured=tuple(rows),
        command="lossgap compare RUN --reference",
    )


def _range(ends: tuple[float, float]) -> str:
    low, high = ends
    return f"about {low:g}" if low == high else f"{low:g} or more" if high > 90 else f"{low:g} to {high:g}"


def _within(value: float, ends: tuple[float, float]) -> bool:
    return ends[0] - (ABOUT if ends[0] == ends[1] else 0) <= value <= ends[1] + (ABOUT if ends[0] == ends[1] else 0)


def continued(e: Evidence) -> Claim:
    """Claim 8."""
    own = e.published[f"{LAPTOP}, 5,000 iterations"].evals[5000]
    gpu = e.published[GPU].evals[5000]
    return Claim(
        said='Continued to 5,000 on the CPU, about 1.4 / 1.6, "still above the GPU because of small inefficiencies".',
        verdict=f"val 1.6 in one piece: {_near(own[1], 1.6)}; resumed: {e.near('resumed5000', 1.6)}; above the GPU: "
        f"{'true' if own[1] > gpu[1] else 'false'}",
        measured=(
            f"trained to 5,000 with that horizon (nanoGPT, one seed): {pair(own)}; ours: val {e.final('laptop5000')}",
            f"resumed at 2,000 with the horizon 5,000: val {e.final('resumed5000')}",
            f"the GPU run ends at {pair(gpu)}: its val is above the laptop's {own[1]:.2f}, its train far below",
        ),
        command="lossgap forecast RUN --iters=5000 --lr_decay_iters=5000",
    )


def tips(e: Evidence) -> Claim:
    """Claim 9."""
    return Claim(
        said="Tips: max_iters and lr_decay_iters 5,000; batch 24; compile: 20 to 30%; half precision; eval_iters 10.",
        verdict=f"batch 24 lowers val at equal iterations: {e.lower('batch24', 'laptop2000')}; the rest depends on the "
        "machine",
        measured=(
            f"both horizons at 5,000: val {e.final('laptop5000')}; only the horizon, stopped at 2,000: "
            f"{e.final('horizon5000')}; a horizon of 1,000: {e.final('horizon1000')}",
            f"batch 24: {e.final('batch24')}; context 128: {e.final('context128')}; 6 layers of 192: "
            f"{e.final('layers6x192')}; dropout 0.2: {e.final('dropout02')}",
            "compile, threads and precision depend on the machine: `lossgap explain` measures them; "
            "nanoGPT ignores dtype on a CPU",
            f"eval_iters 10 in place of 20 makes an evaluation's error {math.sqrt(2):.1f} times larger",
        ),
        command="make reference RECIPE=batch24",
    )


def resumed(e: Evidence) -> Claim:
    """Claim 10."""
    own = e.published[f"{LAPTOP}, 5,000 iterations"].evals[5000][1]
    return Claim(
        said='Resumed on the GPU, val is expected "to drop to about 1.0 in the next 3,000 iterations".',
        verdict=f"val about 1.0: {e.near('resumed5000', 1.0)}; of a run in one piece: {_near(own, 1.0)}",
        measured=(
            f"resumed at 2,000 with the horizon 5,000: val {e.final('resumed5000')}",
            f"5,000 iterations in one piece: val {own:.4f}",
            "a resume takes the laptop's model along: the device changes rounding, which `replay` measures",
        ),
        command="lossgap record RUN && lossgap replay BUNDLE",
    )


def samples(e: Evidence) -> Claim:
    """Claim 11."""
    laptop, gpu = e.at("laptop2000", 2000), e.at("gpu5000", 5000)
    perplexity = [math.exp(found[1]) if found else math.nan for found in (laptop, gpu)]
    return Claim(
        said="`sample.py` shows it: half-coherent Shakespeare against whole monologues.",
        verdict="not judged here: no loss says it",
        measured=(f"perplexity per character: {perplexity[0]:.2f} and {perplexity[1]:.2f}",),
        command="lossgap sample RUN RUN2",
    )


def logs(e: Evidence) -> Claim:
    """Claim 12."""
    return Claim(
        said="With the full logs more could be said, for example whether the learning rate decayed too far.",
        verdict=f"a horizon of 1,000 decays too far: {e.lower('laptop2000', 'horizon1000')}",
        measured=(
            f"stopped at 2,000 of a decay over 5,000: val {e.final('horizon5000')}; decayed by 1,000: "
            f"{e.final('horizon1000')}; decayed by 2,000: {e.final('laptop2000')}",
        ),
        command="lossgap compare A.log B.log && lossgap forecast A.log --iters=5000",
    )


CLAIMS: tuple[Callable[[Evidence], Claim], ...] = (
    baseline, iterations, precision, overfitting, evaluations, reasons, trajectory, continued, tips, resumed, samples,
    logs,
)  # fmt: skip


def page(found: Sequence[Claim], evidence: Evidence) -> str:
    """The page in Markdown."""
    have = ", ".join(sorted(evidence.curves)) or "none yet"
    lines = [
        "# The note's claims, measured",
        "",
        "Made by `make claims`; do not edit. The note compares a laptop CPU (2,000 iterations, val 1.89) with an RTX",
        "4070 Ti (5,000 iterations, val 1.70).",
        "",
        f"Reference curves of our own trainer: {have}. nanoGPT's own runs and the published ones",
        "are those of `src/lossgap/runs/references.json`, which has their sources.",
        "",
        f"MFU in the note is relative to an A100 ({A100:.3g} FLOP/s) on every device.",
        "",
        "| | claim | verdict |",
        "|--:|---|---|",
        *(f"| {n} | {claim.said} | {claim.verdict} |" for n, claim in enumerate(found, 1)),
    ]
    for number, claim in enumerate(found, 1):
        lines += ["", f"## {number}. {claim.said}", f"**{claim.verdict}**", ""]
        lines += [f"- {row}" for row in claim.measured]
        lines += ["", f"    {claim.command}"]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str]) -> int:
    """Write the page to the file named."""
    evidence = Evidence()
    assert all(named(item) for item in evidence.curves)
    Path(argv[0]).write_text(page([claim(evidence) for claim in CLAIMS], evidence), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
