"""`lossgap`: finds the command, and turns what went wrong into one line and an exit code (`exit_codes.py`)."""

from __future__ import annotations

import os
import sys
import textwrap
import warnings
from collections.abc import Sequence
from importlib import import_module

from lossgap.cli.exit_codes import DONE, ERROR, INTERRUPTED, MEANING
from lossgap.cli.meant import meant
from lossgap.errors import ConfigError, LossgapError, LossgapWarning
from lossgap.language import LANGUAGES, of_environment, say, spoken
from lossgap.settings import did_you_mean
from lossgap.strangers import guarded, visible
from lossgap.version import __version__

COMMANDS = {
    "train": "train a GPT from a config file, a preset and --key=value flags",
    "sample": "text from one checkpoint, or from several side by side",
    "read": "what a log or a run folder contains",
    "compare": "what differs between two runs, how big the gap is, and which causes the evidence supports",
    "explain": "divide the gap between two runs among its causes, by controlled experiments",
    "record": "a stretch of a training as a bundle, to be repeated on another machine",
    "replay": "repeat a recorded stretch here, and separate hardware and numerics from every other cause",
    "canary": "this device's kernels at a run's shapes against float64, in seconds",
    "forecast": "what the losses of a run would be later, with a back-tested interval",
    "tune": "which settings are faster on this machine, and what each does to the loss",
    "bench": "how fast a training is on this machine, by part, and beside nanoGPT",
    "baseline": "what several runs of the accepted state gave, for the gate",
    "gate": "pass, fail or needs more runs: a change against a baseline",
    "runs": "list the runs in a folder",
    "completion": "the shell's completion of all of these: bash, zsh, fish, tcsh",
    "demo": "what `make run` does: train the laptop recipe and show a sample",
}

FLAG = "--lang"
"""The flag of every command that names a language."""
TORCH_MISSING = (
    "which is not installed: pip install 'lossgap[train]' (add --extra-index-url https://download.pytorch.org/whl/cpu "
    "for the smaller build without CUDA)"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    warnings.showwarning = _show_warning
    # Under torchrun each process has the same settings to warn of: the first one does.
    first = os.environ.get("RANK", "0") == "0"
    warnings.simplefilter("always" if first else "ignore", LossgapWarning)
    with guarded():
        return _run(list(sys.argv[1:] if argv is None else argv))


def _language(argv: list[str]) -> tuple[str, list[str]]:
    """The language that `--lang` or the locale asks for, and the words without that flag. Raises ConfigError."""
    code, rest = of_environment(os.environ), []
    words = iter(argv)
    for word in words:
        if word == FLAG or word.startswith(f"{FLAG}="):
            code = word.removeprefix(FLAG).removeprefix("=") or next(words, "")
            if code not in LANGUAGES:
                raise ConfigError(
                    "unknown-language", f"{FLAG}={code[:20]}: answers are in {' or '.join(LANGUAGES)}; write {FLAG}=ja"
                )
        else:
            rest.append(word)
    return code, rest


def _run(argv: list[str]) -> int:
    try:
        code, rest = _language(argv)
        with spoken(code):
            return _dispatch(rest)
    except LossgapError as error:
        print(f"lossgap: error: {visible(str(error))} [{error.slug}]", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    except KeyboardInterrupt:
        print("lossgap: interrupted", file=sys.stderr)
        return INTERRUPTED


def _dispatch(argv: list[str]) -> int:
    if len(argv) == 2 and argv[0] == "help" and argv[1] in COMMANDS:
        argv = [argv[1], "--help"]
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help())
        return DONE
    if argv[0] in ("-V", "--version"):
        print(f"lossgap {__version__}")
        return DONE
    name, *rest = argv
    if name not in COMMANDS:
        advice = meant(name.lower()) or did_you_mean(name, COMMANDS) or f"the commands are {', '.join(COMMANDS)}"
        raise ConfigError("unknown-command", f"{name[:60]!r} is not a lossgap command; {advice}")
    try:
        code: int = import_module(f"lossgap.cli.{name}").main(rest)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        # Reading and comparing logs needs no torch, so it is an extra.
        raise ConfigError("torch-missing", f"lossgap {name} needs torch here, {TORCH_MISSING}") from None
    return code


def _help() -> str:
    lines = [f"  {name:<10} {say(text)}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            say(f"lossgap {__version__}: trains nanoGPT-class models and says why two losses differ"),
            "",
            say("usage: lossgap COMMAND [ARGUMENT ...] [--key=value ...]"),
            "",
            *lines,
            "",
            say(f"lossgap COMMAND --help says more. {FLAG}=ja answers in Japanese, as a Japanese locale does."),
            *textwrap.wrap(MEANING, 80),
        ]
    )


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    if isinstance(message, LossgapWarning):
        print(f"lossgap: warning: {visible(str(message))} [{message.slug}]", file=sys.stderr)
    else:
        print(f"{filename}:{lineno}: {category.__name__}: {message}", file=sys.stderr)
