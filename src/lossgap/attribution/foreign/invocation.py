"""The command line that starts another trainer: split once, checked, and filled in for an arm. No shell is involved.

    words = split("python train.py config/train_shakespeare_char.py {overrides}")
    filled(words, Places(...), seed=3, overrides=["--n_layer=4"])

`{overrides}` is a whole argument and becomes whole arguments; `{out_dir}` and `{seed}` are filled in where they stand.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from lossgap.attribution.foreign import launcher
from lossgap.errors import ConfigError
from lossgap.settings import did_you_mean
from lossgap.strangers import one_line, short

OVERRIDES: Final = "{overrides}"
OUT_DIR: Final = "{out_dir}"
SEED: Final = "{seed}"
Seeding = Literal["argument", "launcher", "none"]
_PLACEHOLDERS: Final = (OVERRIDES, OUT_DIR, SEED)
_BRACED: Final = re.compile(r"\{\w+\}")
_FILL: Final = re.compile(r"\{(?:out_dir|seed)\}")
_PYTHON: Final = re.compile(r"pythonw?(?:\d+(?:\.\d+)*t?)?(?:\.exe)?")
_PLAIN_FLAGS: Final = frozenset({"-u", "-B", "-O", "-OO", "-q", "-s"})
"""Options of the interpreter that leave what runs as it is."""
_EXAMPLE: Final = "e.g. --runner 'python train.py {overrides}'"
_SHELLS: Final = re.compile(r"(?:&&|\|\|?|;|&|\d*(?:>>?|<)(?:&\d)?)")
"""Matches the operators between the words of a shell's command line."""
_STARTERS: Final = ("torch.distributed.", "accelerate.", "deepspeed.", "torchrun", "horovod.")
"""Modules that start the script in processes of their own, which the launcher does not reach."""
MACHINE: Final = frozenset({"device", "dtype", "compile"})
"""Settings that say where and with which kernels a training runs."""
MOST_BYTES: Final = 64 << 10
"""The most bytes of a command."""


@dataclass(frozen=True)
class Script:
    """Where the interpreter's script, or `-m` and its module, stands in a command."""

    at: int
    """Index of the script's word, or of `-m`."""
    path: str
    """As it is written; "" for a module."""


def split(text: str) -> tuple[str, ...]:
    """The words of a `--runner`. Raises ConfigError (`runner-bad-command`)."""
    if "\0" in text or len(text) > MOST_BYTES:
        raise _bad(text, f"it holds a NUL character, or more than {MOST_BYTES:,} characters")
    try:
        words = tuple(shlex.split(text))
    except ValueError as error:
        raise _bad(text, f"{str(error).lower()}; close the quote") from None
    if not words:
        raise _bad(text, f"it names no program; {_EXAMPLE}")
    whole = words.count(OVERRIDES)
    if any(OVERRIDES in word for word in words if word != OVERRIDES):
        raise _bad(text, f"{OVERRIDES} must be an argument of its own, as it becomes several; {_EXAMPLE}")
    for found in _BRACED.findall(" ".join(words)):
        if found not in _PLACEHOLDERS and (advice := did_you_mean(found, _PLACEHOLDERS)):
            raise _bad(text, f"{found} is not a placeholder; {advice}")
    if whole != 1:
        raise _bad(
            text,
            f"{OVERRIDES} must stand in it once, where the arms' settings go ({whole} times here); {_EXAMPLE}",
        )
    shells = next((word for word in words if _SHELLS.fullmatch(word)), None)
    if shells is not None:
        raise _bad(text, f"{shells} is a shell's, and none runs it; name one program, or a script that does the rest")
    if words[0] in _PLACEHOLDERS:
        raise _bad(text, f"it begins with {words[0]}, not with a program; {_EXAMPLE}")
    return words


def _bad(text: str, rule: str) -> ConfigError:
    return ConfigError("runner-bad-command", f"--runner={short(text)}: {rule}")


def seed_words(text: str) -> tuple[str, ...]:
    """The words of a `--seed-arg`. Raises ConfigError (`runner-bad-seed-arg`)."""
    try:
        words = tuple(shlex.split(text))
    except ValueError:
        words = ()
    if "\0" in text or sum(word.count(SEED) for word in words) != 1 or OVERRIDES in text or words == (SEED,):
        raise ConfigError(
            "runner-bad-seed-arg",
            f"--seed-arg={short(text)}: it needs {SEED} once, in the form of the script's flag, e.g. '--seed={SEED}'",
        )
    return words


def check_there(words: Sequence[str], folder: Path) -> None:
    """The working folder, the program and a Python script are there. Raises ConfigError (`runner-not-there`)."""
    if not folder.is_dir():
        raise ConfigError(
            "runner-not-there", f"{one_line(str(folder))}: the runner's folder is not there; name another"
        )
    program = words[0]
    local = "/" in program or "\\" in program
    if shutil.which(str(folder / program) if local else program) is None:
        where = f"in {one_line(str(folder))}" if local else "on the PATH"
        raise ConfigError(
            "runner-not-there",
            f"--runner: there is no program {one_line(program)} {where}; give the path of one, e.g. {sys.executable}",
        )
    script = python_script(words)
    if script is not None and script.path and not (folder / script.path).is_file():
        raise ConfigError(
            "runner-not-there",
            f"--runner: there is no script {one_line(script.path)} in {one_line(str(folder))}; start this where the "
            "trainer is started, or give its path",
        )


def python_script(words: Sequence[str]) -> Script | None:
    """The script of `python script.py ...` or `python -m module ...`; None for any other command.

    None, too, for modules that only start the script elsewhere: seeding them would seed nothing.
    """
    program = re.split(r"[/\\]", words[0])[-1]
    if not (_PYTHON.fullmatch(program) or words[0] == sys.executable):
        return None
    at = 1
    while at < len(words) and words[at] in _PLAIN_FLAGS:
        at += 1
    if at >= len(words):
        return None
    if words[at] == "-m":
        module = words[at + 1] if at + 1 < len(words) else OVERRIDES
        return None if module in _PLACEHOLDERS or module.startswith(_STARTERS) else Script(at, "")
    return None if words[at].startswith("-") or words[at] in _PLACEHOLDERS else Script(at, words[at])


def seeding(words: Sequence[str], seed_arg: str) -> Seeding:
    """How an arm's seed reaches the trainer: by its own flag, by our launcher, or not at all."""
    if seed_arg or any(SEED in word for word in words):
        return "argument"
    return "none" if python_script(words) is None else "launcher"


def fixed_by(words: Sequence[str]) -> Mapping[str, str]:
    """Settings that the command fixes, {name: the argument}: after `{overrides}` all, before it those of the machine.

    Device, dtype and compile are this machine's wherever the command names them: a log from another machine must not
    send the arms to a device that is not here.
    """
    place = list(words).index(OVERRIDES)
    found = {}
    for at, word in enumerate(words):
        flag = re.fullmatch(r"--?([A-Za-z_][\w.-]*)(?:=.*)?", word, re.S)
        name = flag[1].replace("-", "_") if flag else ""
        if name and (at > place or name in MACHINE):
            found[name] = word
    return found


def filled(words: Sequence[str], seed_arg: str, seed: int | None, out_dir: str, overrides: Sequence[str]) -> list[str]:
    """The arguments of one arm; a Python script is started through the launcher, which keeps its best checkpoint, too.

    `seed` None leaves the seed alone: it is the trainer's own, if it has any.
    """
    how = seeding(words, seed_arg)
    assert seed is not None or how != "argument"
    fields = {OUT_DIR: out_dir, SEED: str(seed)}

    def fill(word: str) -> str:
        return _FILL.sub(lambda match: fields[match[0]], word)

    script = python_script(words)
    arguments: list[str] = []
    for at, word in enumerate(words):
        if script is not None and at == script.at:
            arguments += [launcher.__file__, str(seed) if how == "launcher" and seed is not None else "-"]
        if word == OVERRIDES:
            arguments += overrides
            arguments += [fill(part) for part in seed_words(seed_arg)] if seed_arg else []
        else:
            arguments.append(fill(word))
    return arguments
