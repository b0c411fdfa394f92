"""A decision together with its reason: what every probe that chooses something returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Choice(Generic[T]):
    """A choice (`value`) and one line that gives its reason (`why`), fit for a log and for run.json."""

    value: T
    why: str
