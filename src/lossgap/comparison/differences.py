"""Which settings two runs have, and which differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lossgap.comparison.fact import Known, Unknown
from lossgap.comparison.facts import Facts
from lossgap.config import TrainConfig
from lossgap.settings import Factor, settings_of

_CONCLUSIONS = frozenset({"recipe", "tokens_per_iter"})
"""Values that readers infer and that are not settings."""


@dataclass(frozen=True, kw_only=True)
class ComparedSetting:
    """A setting with its values; `inferred` names the runs where the value is concluded, not said."""

    name: str
    control: object = None
    test: object = None
    factor: Factor | None = None
    inferred: tuple[str, ...] = ()
    meaning: bool = True
    """True if a training with another value would be another training (an output folder is none)."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings only in the control, only in the test, and differing; in the order of the config, others after it."""

    only_control: tuple[ComparedSetting, ...] = ()
    only_test: tuple[ComparedSetting, ...] = ()
    differ: tuple[ComparedSetting, ...] = ()
    same: tuple[ComparedSetting, ...] = ()

    def differing(self, name: str) -> ComparedSetting | None:
        """The setting, if it differs."""
        return next((item for item in self.differ if item.name == name), None)

    @property
    def comparable(self) -> bool:
        """True if any setting is known for both runs, so that "nothing differs" says something."""
        return bool(self.same or self.differ)

    @property
    def differ_in_meaning(self) -> tuple[ComparedSetting, ...]:
        """The differing settings that make another training."""
        return tuple(item for item in self.differ if item.meaning)


def compare_settings(control: Facts, test: Facts) -> Settings:
    """The settings of two runs side by side: as said, as inferred, or at nanoGPT's defaults (marked inferred)."""
    known = settings_of(TrainConfig)
    names = list(known) + sorted((control.names | test.names) - known.keys() - _CONCLUSIONS)
    groups: Mapping[str, list[ComparedSetting]] = {"control": [], "test": [], "differ": [], "same": []}
    for name in names:
        first, second = control.setting(name), test.setting(name)
        if isinstance(first, Unknown) and isinstance(second, Unknown):
            continue
        sides = (("control", first), ("test", second))
        item = ComparedSetting(
            name=name,
            control=first.value,
            test=second.value,
            factor=known[name].factor if name in known else None,
            inferred=tuple(side for side, fact in sides if isinstance(fact, Known) and fact.evidence == "inferred"),
            meaning=known[name].meaning if name in known else True,
        )
        if isinstance(second, Unknown):
            groups["control"].append(item)
        elif isinstance(first, Unknown):
            groups["test"].append(item)
        else:
            groups["same" if _equal(first.value, second.value) else "differ"].append(item)
    return Settings(
        only_control=tuple(groups["control"]),
        only_test=tuple(groups["test"]),
        differ=tuple(groups["differ"]),
        same=tuple(groups["same"]),
    )


def _equal(first: object, second: object) -> bool:
    """Equal values; 1 and 1.0 are, 1 and True are not, a tuple and a list with equal items are."""
    if isinstance(first, bool) != isinstance(second, bool):
        return False
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return list(first) == list(second)
    return first == second
