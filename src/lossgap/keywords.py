"""The keywords of a Python call, taken from the options of its command: one list for both."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

from lossgap.settings import settings_of

Call = TypeVar("Call", bound=Callable[..., object])


def takes(*options: type) -> Callable[[Call], Call]:
    """A call that takes the fields of `options` as keywords: its signature and its help list them."""

    def signed(call: Call) -> Call:
        own = inspect.signature(call)
        fixed = [item for item in own.parameters.values() if item.kind is not inspect.Parameter.VAR_KEYWORD]
        items = [item for cls in options for item in settings_of(cls).values()]
        keywords = [
            inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=item.default)
            for item in items
            if item.name not in own.parameters
        ]
        call.__signature__ = own.replace(parameters=[*fixed, *keywords])  # type: ignore[attr-defined]  # what inspect looks for; no stub of a callable has it
        listed = "\n".join(f"    {item.name}: {item.doc}" for item in items)
        call.__doc__ = f"{call.__doc__}\n    Keywords:\n{listed}\n"
        return call

    return signed
