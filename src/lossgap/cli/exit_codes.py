"""The exit codes of every command, said once; scripts rely on them.

`EXCEEDED` and `NOT_JUDGED` come only where a threshold was stated (`compare --max-gap`, `replay --fail-on-difference`,
`canary --fail-on-fault`): a result that nobody made a condition of is shown, and is not a failure.
"""

from __future__ import annotations

DONE = 0
ERROR = 1
"""An error that the user can mend: a bad flag, a missing file, a device that is not here."""
EXCEEDED = 2
NOT_JUDGED = 3
SIGNAL = 128
"""Plus the number of the signal that stopped the command."""
INTERRUPTED = SIGNAL + 2
"""Ctrl-C is signal 2, SIGINT."""

MEANING = (
    f"Exit codes: {DONE} done, {ERROR} error or bad input, {EXCEEDED} a stated threshold exceeded, {NOT_JUDGED} a "
    f"threshold asked for that cannot be judged, {SIGNAL}+N stopped by signal N."
)
