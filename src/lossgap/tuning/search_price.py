"""The cost of a search, before it starts: `SearchPlan` for one time, `SearchPrice` for all that is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lossgap.errors import ConfigError
from lossgap.shown import Shown

MOST_RECIPES = 32
FRESH = 2
"""Seeds that took no part in the choice, on which the winner is trained anew."""
CHOOSING = 100
"""Updates of the recipe as it stands that the shortest trainings must hold: shorter ones do not tell recipes apart."""
SHORTEST = 0.5
"""Minutes with which a search for a target begins."""


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """A search for one time. Each rung has twice the recipes, and half the time for each, of the next one."""

    seconds: float
    """The time that the recipe may take."""
    update: float
    """Seconds of one update of the recipe as it stands."""
    rungs: int
    """0: the time is too short to prefer one recipe to another."""
    fresh: int = FRESH

    @property
    def recipes(self) -> int:
        """Those that begin: two are left for the last rung."""
        return int(2**self.rungs)

    @property
    def cost(self) -> float:
        """Seconds of updates: each rung takes the whole time, as each fresh seed does."""
        return self.seconds * (self.rungs + self.fresh)

    def share(self, rung: int) -> float:
        """Seconds of each training of a rung, counted from 0; the last has half the time."""
        return self.seconds / 2.0 ** (self.rungs - rung)


@dataclass(frozen=True, repr=False, kw_only=True)
class SearchPrice(Shown):
    """The plan of a search and its cost."""

    plans: tuple[SearchPlan, ...]
    """One; for a target one for each time that may be tried, the shortest first."""
    target: float | None
    recipes: tuple[Mapping[str, object], ...]
    """The first recipes, as changes to the one that the search begins with."""
    load: float | None
    """The machine's load average while the update was timed."""

    @property
    def cost(self) -> float:
        """Seconds of updates; for a target the most that they may become."""
        return sum(plan.cost for plan in self.plans)


def plan(minutes: float, update: float, most: int = MOST_RECIPES) -> SearchPlan:
    """As many rungs as leave the first one `CHOOSING` updates. Raises ConfigError `bad-setting` for no time above 0."""
    if not 0 < minutes < math.inf:
        raise ConfigError("bad-setting", f"--minutes={minutes}: minutes must be above 0; e.g. 10")
    halvings = int(math.log2(max(1.0, 60 * minutes / update / CHOOSING)))
    return SearchPlan(seconds=60 * minutes, update=update, rungs=min(halvings, int(math.log2(most))))


def tries(most: float) -> list[float]:
    """Minutes that a search for a target tries: half a minute, one, two, ... and `most` last."""
    found = [min(SHORTEST, most)]
    while found[-1] < most:
        found.append(min(2 * found[-1], most))
    return found
