"""The trainers of an experiment's arms: our own, or any other, behind one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lossgap.arithmetic import GPT2_OUTPUTS
from lossgap.attribution import measure
from lossgap.attribution.arm import Arm, Measurement
from lossgap.attribution.design import Switched
from lossgap.attribution.ends import Ends
from lossgap.attribution.factor import FactorPlan
from lossgap.attribution.foreign.runner import Runner
from lossgap.attribution.pricing import measured
from lossgap.attribution.speed import Speed, Workers, flops, measure_speed, workers_for

CARRIED = frozenset(("max_iters", "lr_decay_iters", "warmup_iters"))
"""Settings that a factor carries along, so that an arm always says them."""


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Makes arms, and knows how long they take. `runner` None is our own trainer."""

    runner: Runner | None
    ends: Ends
    device: str
    root: Path
    first_seed: int
    workers: Workers | None
    """Forced, or None: the fastest."""
    timed: bool
    """True if the budget is in seconds, so that a foreign trainer's speed must be known before the start."""

    @property
    def vocab_size(self) -> int:
        """Tokens of the vocabulary."""
        return (self.ends.corpus.vocab_size if self.ends.corpus else None) or GPT2_OUTPUTS

    @property
    def why_one_seed(self) -> str:
        """Why there is one repetition only; empty if seeds reach the trainer."""
        return self.runner.why_no_seed if self.runner is not None else ""

    def arm(self, plan: FactorPlan, switched: Switched, seed: int, threads: int, train_tokens: int = 0) -> Arm:
        """One combination of one seed; our trainer reads the first `train_tokens` tokens of train, 0: all."""
        settings, measurement = plan.settings(switched), measured(plan)
        if self.runner is not None:
            stated = self._stated() | {name for item in plan.factors for name in item.settings}
            both = plan.control.to_dict(), plan.test.to_dict()
            return self.runner.arm(settings, seed, measurement, threads=threads, stated=stated, ends=both)
        assert self.ends.corpus is not None
        corpus, device = self.ends.corpus, self.device
        return measure.our_arm(settings, seed, measurement, corpus, device, threads, train_tokens)

    def _stated(self) -> frozenset[str]:
        """Return an arm's settings. Unstated horizons have nanoGPT's defaults, which no other trainer shares."""
        assert self.runner is not None
        return self.ends.stated | (CARRIED if self.runner.reader == "nanogpt" else {"max_iters"})

    def speed(self, configs: Sequence[Mapping[str, object]]) -> Speed:
        """Our trainer's shapes are timed; of a foreign one's arms, one is trained, if the budget is in seconds."""
        if self.runner is None:
            return measure_speed(configs, self.vocab_size, self.device, self.root, self.workers)
        workers = self.workers or workers_for(configs[0], self.vocab_size, self.device, self.root)
        return Speed(
            workers=workers, seconds={}, per_flop=self._per_flop(configs[0], workers.threads) if self.timed else None
        )

    def _per_flop(self, config: Mapping[str, object], threads: int) -> float:
        """From the control's arm of the first seed, which the experiment needs anyway, and which is kept."""
        assert self.runner is not None
        context = min(self.ends.control.block_size, self.ends.test.block_size)
        measurement = Measurement(context=context)
        arm = self.runner.arm(config, self.first_seed, measurement, threads=threads, stated=self._stated())
        return measure.run_arm(arm, self.root).seconds / flops(config, self.vocab_size)
