"""Facts: a known value and its source, or an unknown one and the settings that would tell it.

batch = derive("batch_size x gradient_accumulation_steps", lambda b, g: b * g, batch_size, accumulation)
batch.value                         # 12, or None
if isinstance(batch, Unknown): ...  # batch.needs == ("gradient_accumulation_steps",)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

FactEvidence = Literal["stated", "computed", "inferred"]
"""stated: the record or the user says so. computed: follows from what is stated. inferred: concluded, may be wrong."""

_WEAKNESS: dict[FactEvidence, int] = {"stated": 0, "computed": 1, "inferred": 2}


@dataclass(frozen=True)
class Known(Generic[T_co]):
    """A value, how sure it is, and in one phrase where it comes from (`line 12`, `--set`, a formula)."""

    value: T_co
    evidence: FactEvidence
    how: str

    @property
    def known(self) -> bool:
        """True."""
        return True

    @property
    def why(self) -> str:
        """Empty: nothing is missing."""
        return ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Empty: nothing is missing."""
        return ()


@dataclass(frozen=True)
class Unknown:
    """Why a value is not known, and the settings (nanoGPT's names) that would tell it."""

    why: str
    needs: tuple[str, ...] = ()
    evidence: Literal["unknown"] = "unknown"

    @property
    def known(self) -> bool:
        """False."""
        return False

    @property
    def value(self) -> None:
        """None, so that `fact.value` can be asked of either."""
        return None

    @property
    def how(self) -> str:
        """Why it is not known."""
        return self.why


Fact = Known[T] | Unknown


def derive(how: str, function: Callable[..., T], *facts: Fact[object]) -> Fact[T]:
    """`function` of the values of `facts`, in their order; Unknown if one of them is, with all that is missing.

    A result is `computed`, or `inferred` if one of the facts is.
    """
    missing = [item for item in facts if isinstance(item, Unknown)]
    if missing:
        needs = tuple(dict.fromkeys(name for item in missing for name in item.needs))
        return Unknown("; ".join(dict.fromkeys(item.why for item in missing)), needs)
    known = [item for item in facts if isinstance(item, Known)]
    evidence = weakest(*known)
    concluded = [item.how for item in known if item.evidence == "inferred"]
    because = f" ({'; '.join(dict.fromkeys(concluded))})" if concluded else ""
    return Known(function(*(item.value for item in known)), evidence, how + because)


def weakest(*facts: Known[object]) -> FactEvidence:
    """The evidence of a value that is computed from `facts`."""
    worst: FactEvidence = "computed"
    for item in facts:
        if _WEAKNESS[item.evidence] > _WEAKNESS[worst]:
            worst = item.evidence
    return worst


def first_known(*facts: Fact[T]) -> Fact[T]:
    """The first fact that is known, else what all of them lack."""
    for item in facts:
        if isinstance(item, Known):
            return item
    lacking = [item for item in facts if isinstance(item, Unknown)]
    needs = tuple(dict.fromkeys(name for item in lacking for name in item.needs))
    return Unknown("; ".join(dict.fromkeys(item.why for item in lacking)), needs)
