"""Training the arms of a design: what is cached is not trained again, what fails is retried, then its seed replaced.

    gathered = gather(design, arm_of, executor, root, watch)
    gathered.games("last")      # seed -> switched factors -> loss

An arm that gives no result twice fails; all arms of its seed then count for nothing, and a seed that nobody has used
takes its place, with its own order. No failure is dropped: `failed` has each. A combination of factors that fails with
one seed after the other and never gives a result ends the experiment early, before the budget is spent on the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lossgap.attribution import measure
from lossgap.attribution.arm import Arm, ArmResult
from lossgap.attribution.design import LEAST_SEEDS, Design, Switched, all_arms
from lossgap.attribution.effects import Game
from lossgap.attribution.executor import Done, Executor
from lossgap.attribution.explanation import At, FailedArm
from lossgap.errors import TrainingError

ATTEMPTS = 2
HOPELESS = 4
"""Arms that failed before any gave a result: they are tried again before all else, and if all fail again, it ends."""
ArmOf = Callable[[Switched, int], Arm]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """One arm ended, for whoever shows the progress."""

    done: int
    total: int
    seconds: float
    """Seconds the arm took; 0 if it was cached or failed."""
    what: str
    """One line if something went wrong; else empty."""


Watch = Callable[[Ended], None]


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The results of a design's arms."""

    design: Design
    """With the seeds that took the places of failed ones; only complete seeds if it was stopped."""
    arms: dict[tuple[int, Switched], Arm]
    results: dict[str, ArmResult]
    """By the arm's key."""
    cached: frozenset[str]
    """Keys of arms that an earlier experiment trained."""
    failed: tuple[FailedArm, ...]
    replaced: tuple[int, ...]
    complete: bool
    spent: float = field(default=0.0)
    """Seconds that the arms trained here took, summed."""

    def result(self, seed: int, switched: Switched) -> ArmResult:
        """Return the result of one arm."""
        return self.results[self.arms[seed, switched].key]

    def games(self, at: At) -> dict[int, Game]:
        """Return every seed's losses, one for every arm, on the common measurement."""
        return {
            seed: {switched: _loss(self.result(seed, switched), at) for switched in self.design.arms(seed)}
            for seed in self.design.seeds
        }


def _loss(result: ArmResult, at: At) -> float:
    return result.val_loss if at == "last" else result.best_val_loss


def _sorted(design: Design) -> Design:
    """By seed: the order in which failed seeds were replaced depends on the clock, and must not reach a digit."""
    return design.part(sorted(range(len(design.seeds)), key=design.seeds.__getitem__))


def gather(
    design: Design, arm_of: ArmOf, executor: Executor, root: Path, watch: Watch, spare: Iterator[int] | None = None
) -> Gathered:
    """Train the design's arms. `spare` are seeds for failed ones; by default those after the design's.

    Raises TrainingError `arms-fail` when more seeds failed than the design has, when one combination of factors
    failed with 3 seeds (all, if there are fewer) and gave a result with none, or when `HOPELESS` arms failed twice
    before any gave a result. After Ctrl-C the seeds that are complete make the result, which then is not `complete`.
    """
    return _Gathering(design, arm_of, executor, root, watch, spare or iter(range(design.seeds[-1] + 1, 1 << 62))).run()


class _Gathering:
    def __init__(
        self, design: Design, arm_of: ArmOf, executor: Executor, root: Path, watch: Watch, spare: Iterator[int]
    ) -> None:
        self.design, self.arm_of, self.executor, self.root = design, arm_of, executor, root
        self.watch, self.spare = watch, spare
        self.arms: dict[tuple[int, Switched], Arm] = {}
        self.results: dict[str, ArmResult] = {}
        self.cached: set[str] = set()
        self.failed: list[FailedArm] = []
        self.replaced: list[int] = []
        self.attempts: dict[str, int] = {}
        self.doubted: set[Switched] = set()
        self.early = False
        """True once the first arms were tried again before all else."""
        self.given_up: dict[int, None] = {}
        """Seeds to be replaced, in order."""
        self.spent = 0.0

    def run(self) -> Gathered:
        for seed in self.design.seeds:
            self._take(seed)
        complete = True
        try:
            while missing := self._missing():
                if self._train(missing):
                    for seed in self.given_up:
                        self._replace(seed)
                    self.given_up.clear()
        except KeyboardInterrupt:
            complete = False
            self._pick_up()
            self._keep_complete_seeds()
        return Gathered(
            design=_sorted(self.design),
            arms=self.arms,
            results=self.results,
            cached=frozenset(self.cached),
            failed=tuple(sorted(self.failed, key=lambda item: (item.seed or 0, item.factors))),
            replaced=tuple(sorted(self.replaced)),
            complete=complete,
            spent=self.spent,
        )

    def _take(self, seed: int) -> None:
        for switched in self.design.arms(seed):
            training_seed = self.design.training_seed(seed, switched)
            arm = self.arms[seed, switched] = self.arm_of(switched, training_seed)
            if arm.key in self.results:
                continue
            known = measure.stored(arm.key, self.root)
            if known is not None:
                self.results[arm.key] = known
                self.cached.add(arm.key)

    def _pick_up(self) -> None:
        """Arms that ended when nobody waited for them any more."""
        for arm in self._missing():
            known = measure.stored(arm.key, self.root)
            if known is not None:
                self.results[arm.key] = known
                self.spent += known.seconds

    def _missing(self) -> list[Arm]:
        """Arms without a result: those to be tried again, then seed by seed, so that it stops with whole seeds."""
        wanted = {
            self.arms[seed, switched].key: self.arms[seed, switched]
            for seed in self.design.seeds
            for switched in self.design.arms(seed)
        }
        left = [arm for key, arm in wanted.items() if key not in self.results and self.attempts.get(key, 0) < ATTEMPTS]
        return sorted(left, key=lambda arm: arm.key not in self.attempts)

    def _train(self, missing: Sequence[Arm]) -> bool:
        """One round over the missing arms; False if it was broken off."""
        ended = self.executor.run(missing)
        sent = {arm.key for arm in missing}
        try:
            for done in ended:
                if done.arm.key not in sent:
                    raise TrainingError(
                        "arms-fail",
                        "a worker answered with another arm than it was given: lossgap was changed while the "
                        "experiment ran; the same command begins again with what it is now",
                    )
                if done.result is not None:
                    self._keep(done.result)
                    continue
                tried = self.attempts[done.arm.key] = self.attempts.get(done.arm.key, 0) + 1
                final = tried >= ATTEMPTS
                said = f"{self._named(done.arm.key)}: {done.failure}: {done.why}"
                self._tell(0.0, said + ("" if final else "; trying again"))
                if final:
                    self.given_up.update(dict.fromkeys(self._fail(done)))
                if self._hopeless() or self._doubtful(done.arm.key, final):
                    return False
        finally:
            if isinstance(ended, Generator):
                ended.close()
        return True

    def _named(self, key: str) -> str:
        """The arm by its seed and what is switched in it; of several that are the same, the first."""
        seed, switched = next(place for place, arm in self.arms.items() if arm.key == key)
        return f"seed {seed}, {', '.join(sorted(switched)) or 'nothing'} switched"

    def _keep(self, result: ArmResult) -> None:
        if measure.stored(result.key, self.root) is None:
            measure.keep(result, self.root)  # it was trained on a machine with another disk
        self.results[result.key] = result
        self.spent += result.seconds
        self._tell(result.seconds, "")

    def _hopeless(self) -> bool:
        """Return whether to break off the round: a command with a mistake in it would fail as often as there are arms.

        Raises TrainingError `arms-fail` when the first arms failed again.
        """
        failed = {switched for (_, switched), arm in self.arms.items() if arm.key in self.attempts}
        # While the control may be under way, it may be the test's settings alone that fail.
        if self.results or frozenset() not in failed:
            return False
        if sum(tried >= ATTEMPTS for tried in self.attempts.values()) >= HOPELESS:
            raise self._arms_fail(len({item.seed for item in self.failed}))
        first_time = len(self.attempts) >= HOPELESS and not self.early
        self.early = self.early or first_time
        return first_time

    def _doubtful(self, key: str, final: bool) -> bool:
        """Return whether to break off the round: a combination that failed so often is tried again before all else.

        Raises TrainingError `arms-fail` when that, too, failed with every seed.
        """
        enough = min(LEAST_SEEDS, len(self.design.seeds))
        for combination in {switched for (_, switched), arm in self.arms.items() if arm.key == key}:
            keys = {arm.key for (_, switched), arm in self.arms.items() if switched == combination}
            if keys & self.results.keys():
                continue
            failed = {item.seed for item in self.failed if item.factors == tuple(sorted(combination))}
            if final and len(failed) >= enough:
                raise self._arms_fail(len(failed))
            if len(keys & self.attempts.keys()) >= enough and combination not in self.doubted:
                self.doubted.add(combination)
                return True
        return False

    def _fail(self, done: Done) -> Iterator[int]:
        for (seed, switched), arm in self.arms.items():
            if arm.key == done.arm.key and seed in self.design.seeds:
                self.failed.append(
                    FailedArm(
                        factors=tuple(sorted(switched)),
                        seed=self.design.training_seed(seed, switched),
                        failure=str(done.failure),
                        why=done.why,
                    )
                )
                yield seed

    def _replace(self, seed: int) -> None:
        self.replaced.append(seed)
        if len(self.replaced) > len(self.design.seeds):
            raise self._arms_fail(len(self.replaced))
        by = next(self.spare)
        self.design = self.design.replacing(seed, by)
        self._take(by)

    def _arms_fail(self, seeds: int) -> TrainingError:
        last = self.failed[-1]
        named = ", ".join(last.factors) or "none"
        return TrainingError(
            "arms-fail",
            f"{seeds} seeds failed, the last with these factors switched: {named}; {last.failure}: {last.why}; "
            f"{self._remedy(last)}",
        )

    def _remedy(self, last: FailedArm) -> str:
        if not self.results and any(not item.factors for item in self.failed):
            return "no arm gave a result: mend what they failed of, and give the same command again"
        if set(last.factors) in (set(), set(self.design.factors)):
            end = "test" if last.factors else "control"
            return f"the {end} itself cannot be trained here: mend it, or compare with another run"
        return (
            "a mixture of the two recipes that cannot be trained cannot be divided: regroup the factors "
            "(--factor NAME=A,B)"
        )

    def _keep_complete_seeds(self) -> None:
        whole = [
            place
            for place, seed in enumerate(self.design.seeds)
            if all(self.arms[seed, switched].key in self.results for switched in self.design.arms(seed))
        ]
        every = set(all_arms(self.design.factors, self.design.dropped)) if self.design.single else set()
        some = {arm for place in whole for arm in self.design.arms(self.design.seeds[place])}
        self.design = self.design.part(whole if every <= some else [])  # later rounds have a part of the arms

    def _tell(self, seconds: float, what: str) -> None:
        total = len({arm.key for (seed, _), arm in self.arms.items() if seed in self.design.seeds})
        done = len({arm.key for (seed, _), arm in self.arms.items() if seed in self.design.seeds} & set(self.results))
        self.watch(Ended(done=done, total=total, seconds=seconds, what=what))
