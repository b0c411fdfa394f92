"""Errors and warnings: one line each, with a slug that `docs/messages.md` explains.

LossgapError            anything that the user can mend; the command line exits with 1
+-- ConfigError         a setting, a flag, a config file
+-- CorpusError         text, token files, tokenizer
+-- CheckpointError     missing, torn, tampered or unfitting checkpoint
+-- RunFolderError      an output folder that is in use, used up or unreadable
+-- TrainingError       a training that cannot continue (loss not finite, disk full)
+-- BundleError         a recorded stretch: missing, damaged, of another version, or impossible to make
+-- MachineError        a device or kernel that was asked for and is not there
"""

from __future__ import annotations

import os
import warnings


class LossgapError(Exception):
    """A problem that the user can mend, described in one line.

    The message names what is wrong, the value, the rule it breaks and the remedy. `slug` is the
    stable name of the message; `docs/messages.md` has a paragraph for each.
    """

    exit_code = 1

    def __init__(self, slug: str, message: str) -> None:
        super().__init__(message)
        self.slug = slug


class ConfigError(LossgapError):
    """A setting, flag or config file that cannot be used."""


class CorpusError(LossgapError):
    """A corpus or tokenizer that is missing, damaged or too small."""


class CheckpointError(LossgapError):
    """A checkpoint that is missing, torn, tampered with, or does not fit."""


class RunFolderError(LossgapError):
    """An output folder that is in use, already used, or unreadable."""


class TrainingError(LossgapError):
    """A training that cannot continue."""


class BundleError(LossgapError):
    """A recorded stretch that is missing, damaged, of another version, or cannot be made."""


class MachineError(LossgapError):
    """A device, compiler or kernel that was asked for and is not there."""


class LossgapWarning(UserWarning):
    """A decision or a doubt that the user should know of; carries a slug like an error does."""

    def __init__(self, slug: str, message: str) -> None:
        super().__init__(message)
        self.slug = slug


def warn(slug: str, message: str, *, stacklevel: int = 2) -> None:
    """Issue a `LossgapWarning`, unless `LOSSGAP_SILENCE` (slugs, comma separated) names its slug."""
    silenced = {name.strip() for name in os.environ.get("LOSSGAP_SILENCE", "").split(",")}
    if slug not in silenced:
        warnings.warn(LossgapWarning(slug, message), stacklevel=stacklevel + 1)
