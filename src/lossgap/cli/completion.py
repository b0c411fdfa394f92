"""`lossgap completion SHELL`: the completion of every command, its flags and their values, made from the options."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import shtab

from lossgap.arguments import parse_arguments
from lossgap.cli.exit_codes import DONE
from lossgap.cli.help import help_text
from lossgap.config import TrainConfig
from lossgap.errors import ConfigError
from lossgap.options import CompletionFlags
from lossgap.presets import PRESETS
from lossgap.settings import Setting, settings_of
from lossgap.suggestion import FLAGS, OF_A_TRAINING

SHELLS = ("bash", "zsh", "fish", "tcsh")
USAGE = "completion SHELL"
ABOUT = f"""Prints the completion of lossgap's commands, flags and values for a shell: {", ".join(SHELLS)}. A new \
shell that reads it completes with the tabulator key."""
EXAMPLES = (
    "completion bash > ~/.local/share/bash-completion/completions/lossgap",
    "completion zsh > ~/.zfunc/_lossgap",
    "completion fish > ~/.config/fish/completions/lossgap.fish",
)


def main(argv: Sequence[str]) -> int:
    """Print the completion. Raises ConfigError `unknown-shell`."""
    given = parse_arguments(argv, CompletionFlags)
    if given.help:
        print(help_text(USAGE, ABOUT, CompletionFlags, EXAMPLES))
        return DONE
    if len(given.positionals) != 1 or given.positionals[0] not in SHELLS:
        raise ConfigError("unknown-shell", f"name one shell of {', '.join(SHELLS)}: lossgap completion bash")
    print(shtab.complete(parser(), shell=given.positionals[0]))
    return DONE


def parser() -> ArgumentParser:
    """All commands with their flags, as shtab wants to see them."""
    from lossgap.cli.main import COMMANDS

    whole = ArgumentParser(prog="lossgap", description="why two training losses differ")
    commands = whole.add_subparsers()
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == "completion":
            command.add_argument("shell", choices=SHELLS)
            continue
        # A preset and a path stand in the same place; of the two the shell is asked for paths.
        runs: Any = command.add_argument("run", nargs="*", help=f"a run, or a preset: {', '.join(PRESETS)}")
        runs.complete = shtab.FILE
        own = settings_of(FLAGS[name])
        for item in {**(settings_of(TrainConfig) if name in OF_A_TRAINING else {}), **own}.values():
            _add(command, item)
    return whole


def _add(command: ArgumentParser, item: Setting) -> None:
    words = [f"--{item.flag}", *([item.short] if item.short else [])]
    flag: Any = command.add_argument(
        *words, help=item.doc.replace("%", "%%"), choices=item.choices or None, default=SUPPRESS
    )
    if item.annotation is Path or item.annotation == Path | None:
        flag.complete = shtab.FILE
