"""Arguments: a command line read by the settings of a dataclass, with one grammar for every command.

    given = parse_arguments(["out", "--num_samples=3"], SampleOptions)
    options = build(SampleOptions, given)
    options = asked(SampleOptions, {"num_samples": 3}, "sample")    # the same, of a Python call

The grammar, applied left to right, a later value replacing an earlier one (or adding to it, where the type says so):

1. `--key=value`; everything after the first `=` is the value, further `=` included.
2. `--key value`, when the next argument does not start with `--`.
3. `--flag` for a bool means True; a following `True` or `False` is taken as its value.
4. `_` and `-` are the same in keys. `-h` and `--help` ask for help, whatever else is given.
5. `--` ends the flags. All other arguments are positionals; a lone `-` is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lossgap.errors import ConfigError
from lossgap.settings import Setting, accept, did_you_mean, read_text, settings_of
from lossgap.strangers import one_line, short

T = TypeVar("T")


@dataclass(frozen=True)
class Given:
    """The settings that were given explicitly: nothing that is only a default.

    `values` by setting name; `sources` says where each came from (`--batch_size=12`,
    `config/x.py line 3`, `preset shakespeare_char`); `echo` holds the lines that nanoGPT prints.
    """

    values: dict[str, object]
    sources: dict[str, str]
    positionals: tuple[str, ...] = ()
    help: bool = False
    echo: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flag:
    """One flag with its value and the words that gave it."""

    name: str
    value: object
    source: str


def read_arguments(argv: Sequence[str], cls: type) -> Iterator[Flag | str]:
    """Flags and positionals (as text) of `argv` in their order, by the grammar of this module.

    Raises `ConfigError` `unknown-flag`, `missing-value`, `empty-argument`, and as `accept` does.
    """
    settings = flags_of(cls)
    rest = list(reversed(argv))
    while rest:
        argument = rest.pop()
        if argument == "--":
            yield from map(_positional, reversed(rest))
            return
        if not argument.startswith("-") or argument == "-":
            yield _positional(argument)
            continue
        key, equals, text = argument.partition("=")
        item = settings.get(_folded(key))
        if item is None:
            raise _unknown_flag(key, settings)
        if not equals:
            text = _next_value(item, rest)
        source = one_line(f"--{item.flag}={text}")
        yield Flag(item.name, read_text(item, text, source), source)


def _positional(text: str) -> str:
    # To the system a path of no characters is the current folder; to its author it is a variable that was not set.
    if not text:
        raise ConfigError("empty-argument", "an argument is empty: name a run, a file or a folder (this folder is .)")
    return text


def _next_value(setting: Setting, rest: list[str]) -> str:
    """The value of a flag without `=`: taken off `rest`, or True for a bool."""
    if setting.is_switch:
        return rest.pop() if rest and rest[-1].lower() in ("true", "false") else "True"
    if not rest or rest[-1].startswith("--"):
        raise ConfigError(
            "missing-value",
            f"--{setting.flag}: no value given; write --{setting.flag}={setting.value or 'VALUE'} ({setting.type})",
        )
    return rest.pop()


def flags_of(cls: type) -> Mapping[str, Setting]:
    """The settings of dataclass `cls` by what names them on a command line: `--out`, `-o`."""
    found: dict[str, Setting] = {}
    for item in settings_of(cls).values():
        found[f"--{item.flag}"] = item
        if item.short:
            found[item.short] = item
    return found


def _folded(key: str) -> str:
    """A flag with `_` for each `-` but the leading ones."""
    name = key.lstrip("-")
    return key[: len(key) - len(name)] + name.replace("-", "_")


def _unknown_flag(flag: str, flags: Mapping[str, Setting]) -> ConfigError:
    name = flag.lstrip("-").replace("-", "_")
    if name == "preset":
        advice = "a preset is given by its name alone, e.g. lossgap train shakespeare_char_cpu"
    else:
        advice = did_you_mean(name, (item.flag for item in flags.values()), "--") or "--help lists them all"
    return ConfigError("unknown-flag", f"{one_line(flag[:80])}: there is no such flag; {advice}")


def asks_for_help(argv: Sequence[str]) -> bool:
    """True if `-h` or `--help` stands among the flags."""
    flags = argv[: argv.index("--")] if "--" in argv else argv
    return "-h" in flags or "--help" in flags


def parse_arguments(argv: Sequence[str], cls: type) -> Given:
    """Return what `argv` (without the command's name) sets of dataclass `cls`, and its positionals.

    With `-h` or `--help` nothing else is judged. Raises as `read_arguments` does.
    """
    if asks_for_help(argv):
        return Given({}, {}, help=True)
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    positionals: list[str] = []
    for item in read_arguments(argv, cls):
        if isinstance(item, str):
            positionals.append(item)
        else:
            before = values.get(item.name) if settings_of(cls)[item.name].repeatable else None
            values[item.name], sources[item.name] = _together(before, item), item.source
    return Given(values, sources, tuple(positionals))


def _together(before: object, flag: Flag) -> object:
    """The value of a flag that may be given again, after what it was given before. Raises ConfigError `bad-factor`."""
    if isinstance(before, tuple) and isinstance(flag.value, tuple):
        return before + flag.value
    if isinstance(before, Mapping) and isinstance(flag.value, Mapping):
        twice = next((name for name in flag.value if name in before), None)
        if twice is not None and before[twice] != flag.value[twice]:
            raise ConfigError("bad-factor", f"{flag.source}: {one_line(str(twice), 60)} was given before; give it once")
        return {**before, **flag.value}
    return flag.value


def parted(argv: Sequence[str], cls: type) -> tuple[list[str], list[str]]:
    """The words of `argv` that are flags of `cls`, with their values, and the others in their order.

    For a command that takes flags of its own beside those of `lossgap train`. Raises ConfigError `missing-value`.
    """
    own: list[str] = []
    rest: list[str] = []
    flags = flags_of(cls)
    words = list(reversed(argv))
    while words:
        word = words.pop()
        if word == "--":
            return own, [*rest, word, *reversed(words)]
        key, equals, _ = word.partition("=")
        item = flags.get(_folded(key)) if key.startswith("-") else None
        if item is None:
            rest.append(word)
        else:
            own.append(word if equals else f"{key}={_next_value(item, words)}")
    return own, rest


def build(cls: type[T], given: Given) -> T:
    """The dataclass `cls` with the given values. Raises `ConfigError` `missing-flag` for a required one."""
    for item in settings_of(cls).values():
        if item.required and item.name not in given.values:
            raise ConfigError("missing-flag", f"--{item.name} is required; give --{item.name}=VALUE ({item.type})")
    return cls(**given.values)


def asked(cls: type[T], keywords: Mapping[str, object], call: str) -> T:
    """The dataclass `cls` with the keywords of a Python call such as `explain(..., budget="20m")`.

    Raises ConfigError: `unknown-setting` with the nearest names, and as `accept` does.
    """
    settings = settings_of(cls)
    for name in keywords:
        if name not in settings:
            advice = did_you_mean(name, settings) or f"there are {', '.join(settings)}"
            raise ConfigError("unknown-setting", f"{call}() takes no {short(name)}; {advice}")
    values = {name: accept(settings[name], value, f"{call}({name}={short(value)})") for name, value in keywords.items()}
    return build(cls, Given(values, {}))
