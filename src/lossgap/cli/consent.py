"""The question before something that costs time: one way to ask it, for every verb that has a price."""

from __future__ import annotations

import sys

from lossgap.errors import ConfigError


def agreed() -> bool:
    """Ask on the terminal whether to start. Raises ConfigError (`needs-yes`) where there is no terminal."""
    if not sys.stdin.isatty():
        raise ConfigError(
            "needs-yes", "there is no terminal to ask on: add --yes to start, or --dry-run to see the price"
        )
    try:
        return input("start? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False
