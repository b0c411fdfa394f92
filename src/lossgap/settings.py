"""Settings: the fields of a dataclass as flags, with one grammar for every command.

    @dataclass(frozen=True, kw_only=True)
    class SampleSettings:
        num_samples: int = setting(10, "how many samples to draw", unit="samples")

    given = parse_arguments(["out", "--num_samples=3"], SampleSettings)
    settings = build(SampleSettings, given)

The grammar, applied left to right, a later value replacing an earlier one:

1. `--key=value`; everything after the first `=` is the value, further `=` included.
2. `--key value`, when the next argument does not start with `--`.
3. `--flag` for a bool means True; a following `True` or `False` is taken as its value.
4. `_` and `-` are the same in keys. `-h` and `--help` ask for help, whatever else is given.
5. `--` ends the flags. All other arguments are positionals; a lone `-` is one.

Types: bool (`True`, `False`, any case), int (`1_000`), float (an int too), str (as it stands; quotes
around the whole value are removed), `Path`, `Literal[...]` of strings, `tuple[int, ...]` (`500,2000`),
and any of these `| None` (`None`).
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import math
import re
import types
import typing
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from lossgap.errors import ConfigError
from lossgap.strangers import one_line, short

T = TypeVar("T")

Factor = Literal[
    "capacity",
    "context",
    "batch",
    "length",
    "schedule",
    "regularisation",
    "optimizer",
    "data",
    "numerics",
    "device",
]
"""A group of settings that an experiment switches as one (docs/architecture.md, the factors)."""


def setting(
    default: T,
    doc: str,
    unit: str | None = None,
    factor: Factor | None = None,
    meaning: bool = True,
) -> T:
    """A dataclass field with what the help, the comparison and the hash need to know of it.

    `doc` is one sentence that names the sentinel values; `unit` is what the number counts; `factor`
    is the group it belongs to, or None for measurement and bookkeeping; `meaning` says whether a
    training with another value would be another training.
    """
    return dataclasses.field(default=default, metadata={"doc": doc, "unit": unit, "factor": factor, "meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting as people see it. `default` is `dataclasses.MISSING` for a required one."""

    name: str
    annotation: Any
    default: object
    doc: str
    unit: str | None
    factor: Factor | None
    meaning: bool

    @property
    def type(self) -> str:
        """The type in words: `int`, `text`, `auto|plain|fused`, `ints, comma separated`, ..."""
        return type_words(self.annotation)

    @property
    def required(self) -> bool:
        """Whether a value must be given."""
        return self.default is dataclasses.MISSING


_SETTINGS: dict[type, Mapping[str, Setting]] = {}


def settings_of(cls: type) -> Mapping[str, Setting]:
    """The settings of dataclass `cls`, by name, in the order of its fields."""
    if cls not in _SETTINGS:
        hints = typing.get_type_hints(cls)
        found = {field.name: _setting_of(field, hints[field.name]) for field in dataclasses.fields(cls)}
        _SETTINGS[cls] = types.MappingProxyType(found)
    return _SETTINGS[cls]


def _setting_of(field: dataclasses.Field[Any], annotation: Any) -> Setting:
    default = field.default
    if default is dataclasses.MISSING and field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    return Setting(
        name=field.name,
        annotation=annotation,
        default=default,
        doc=field.metadata.get("doc", ""),
        unit=field.metadata.get("unit"),
        factor=field.metadata.get("factor"),
        meaning=field.metadata.get("meaning", True),
    )


# ---------------------------------------------------------------------------------------------
# Words for messages


def nearest(word: str, words: Iterable[str], limit: int = 3) -> list[str]:
    """The up to `limit` of `words` that look most like `word`, best first."""
    folded = {candidate.lower(): candidate for candidate in words}
    # The cost grows with the square of the length, and a long word resembles no name of ours.
    found = difflib.get_close_matches(word.lower()[:80], folded, n=limit, cutoff=0.6)
    return [folded[name] for name in found]


def did_you_mean(word: str, words: Iterable[str], prefix: str = "") -> str:
    """`did you mean --a or --b?`, or an empty text where nothing is near."""
    names = [prefix + name for name in nearest(word, words)]
    return f"did you mean {' or '.join(names)}?" if names else ""


def type_words(annotation: Any) -> str:
    """A type annotation in the words of the help and of error messages."""
    inner, optional = _without_none(annotation)
    if typing.get_origin(inner) is Literal:
        words = "|".join(str(choice) for choice in typing.get_args(inner))
    elif inner == tuple[int, ...]:
        words = "ints, comma separated"
    else:
        words = {bool: "bool", int: "int", float: "float", str: "text", Path: "path"}[inner]
    return f"{words} or None" if optional else words


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """`(T, True)` for `T | None`, else `(annotation, False)`."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(annotation) if arg is not type(None)]
        if len(inner) == 1:
            return inner[0], True
    return annotation, False


# ---------------------------------------------------------------------------------------------
# Values

_INT_LIMIT = 2**63
_WITH_ARTICLE = {"int": "an int", "float": "a float", "bool": "a bool (True or False)", "text": "a text"}


def _wrong_type(setting: Setting, value: object, where: str, remedy: str = "") -> ConfigError:
    expected = _WITH_ARTICLE.get(setting.type, setting.type)
    got = f"{short(value)} ({type(value).__name__})"
    default = "" if setting.required or setting.default in ("", ()) else f"e.g. its default {short(setting.default)}"
    advice = remedy or default or f"give {expected}"
    return ConfigError("wrong-type", f"{where}: {setting.name} expects {expected}, got {got}; {advice}")


def accept(setting: Setting, value: object, where: str) -> Any:
    """A Python value (config file, JSON, call) as the setting's type; `where` opens the message.

    An int is accepted for a float and a list for a tuple, nothing else is converted. Raises
    `ConfigError` `wrong-type`, `bad-choice`, or `bad-setting` for a number that is not finite, an
    int beyond 64 bits, or a text with a NUL character.
    """
    inner, optional = _without_none(setting.annotation)
    if value is None and optional:
        return None
    if typing.get_origin(inner) is Literal:
        return _accept_choice(setting, value, typing.get_args(inner), where)
    if inner == tuple[int, ...]:
        if not isinstance(value, list | tuple):
            raise _wrong_type(setting, value, where)
        return tuple(_accept_number(setting, item, int, where) for item in value)
    if inner in (int, float):
        return _accept_number(setting, value, inner, where)
    if inner is Path and isinstance(value, str | Path):
        return Path(_accept_text(setting, str(value), where))
    if inner is str and isinstance(value, str):
        return _accept_text(setting, value, where)
    if inner is bool and isinstance(value, bool):
        return value
    raise _wrong_type(setting, value, where)


def _accept_choice(setting: Setting, value: object, choices: Sequence[str], where: str) -> str:
    if not isinstance(value, str):
        raise _wrong_type(setting, value, where)
    if value not in choices:
        listed = f"{setting.name} must be one of {', '.join(choices)}"
        advice = did_you_mean(value, choices) or f"take {choices[0]}"
        raise ConfigError("bad-choice", f"{where}: got {short(value)}, but {listed}; {advice}")
    return value


def _accept_text(setting: Setting, value: str, where: str) -> str:
    if "\0" in value:
        raise ConfigError("bad-setting", f"{where}: {setting.name} holds a NUL character; remove it")
    return value


def _accept_number(setting: Setting, value: object, kind: type, where: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(setting, value, where)
    if isinstance(value, int) and not -_INT_LIMIT < value < _INT_LIMIT:
        raise ConfigError("bad-setting", f"{where}: {setting.name} must fit in 64 bits; give a smaller number")
    if kind is float:
        if not math.isfinite(value):
            raise ConfigError("bad-setting", f"{where}: {setting.name} must be finite, got {value}; give a number")
        return float(value) + 0.0  # -0.0 becomes 0.0, so that equal settings have equal hashes
    if isinstance(value, float):
        whole = f"write {int(value)}" if math.isfinite(value) and value.is_integer() else ""
        raise _wrong_type(setting, value, where, whole)
    return value


_QUOTED = re.compile(r"""(['"])(?:\\.|(?!\1)[^\\\n])*\1""")


def read_text(setting: Setting, text: str, where: str) -> Any:
    """The value that `text`, as typed on a command line, gives the setting.

    Raises `ConfigError` as `accept` does.
    """
    inner, optional = _without_none(setting.annotation)
    if optional and text in ("None", "none"):
        return None
    value: object = text
    if inner is bool:
        value = {"true": True, "false": False}.get(text.strip().lower(), text)
    elif inner in (int, float):
        value = _number(inner, text)
    elif inner == tuple[int, ...]:
        parts = text.strip().strip("()[]").split(",")
        value = [_number(int, part) for part in parts if part.strip()]
    else:
        value = _unquoted(text)
    return accept(setting, value, where)


def _number(kind: Any, text: str) -> object:
    """`text` as a number, or unchanged for `accept` to refuse; `1e3` for an int names its remedy."""
    for attempt in (kind, float):
        try:
            return attempt(text)
        except ValueError:
            continue
    return text


def _unquoted(text: str) -> str:
    """The text inside, where the whole of `text` is one Python string literal (as nanoGPT reads it)."""
    if not _QUOTED.fullmatch(text):
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape such as \d
            return str(ast.literal_eval(text))
    except (SyntaxError, ValueError):
        return text


# ---------------------------------------------------------------------------------------------
# Arguments


@dataclass(frozen=True)
class Given:
    """What was given explicitly: nothing that is only a default.

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

    Raises `ConfigError` `unknown-flag`, `missing-value`, and as `accept` does.
    """
    settings = settings_of(cls)
    rest = list(reversed(argv))
    while rest:
        argument = rest.pop()
        if argument == "--":
            yield from reversed(rest)
            return
        if not argument.startswith("-") or argument == "-":
            yield argument
            continue
        key, equals, text = argument.lstrip("-").partition("=")
        name = key.replace("-", "_")
        if name not in settings or not argument.startswith("--"):
            raise _unknown_flag(argument.partition("=")[0], name, settings)
        if not equals:
            text = _next_value(settings[name], rest)
        source = one_line(f"--{name}={text}")
        yield Flag(name, read_text(settings[name], text, source), source)


def _next_value(setting: Setting, rest: list[str]) -> str:
    """The value of a flag without `=`: taken off `rest`, or True for a bool."""
    if _without_none(setting.annotation)[0] is bool:
        return rest.pop() if rest and rest[-1].lower() in ("true", "false") else "True"
    if not rest or rest[-1].startswith("--"):
        raise ConfigError(
            "missing-value", f"--{setting.name}: no value given; write --{setting.name}=VALUE ({setting.type})"
        )
    return rest.pop()


def _unknown_flag(flag: str, name: str, settings: Iterable[str]) -> ConfigError:
    advice = did_you_mean(name, settings, "--") or "--help lists them all"
    return ConfigError("unknown-flag", f"{one_line(flag[:80])}: there is no such flag; {advice}")


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether `-h` or `--help` stands among the flags."""
    flags = argv[: argv.index("--")] if "--" in argv else argv
    return "-h" in flags or "--help" in flags


def parse_arguments(argv: Sequence[str], cls: type) -> Given:
    """What `argv` (without the command's name) sets of dataclass `cls`, and its positionals.

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
            values[item.name], sources[item.name] = item.value, item.source
    return Given(values, sources, tuple(positionals))


def build(cls: type[T], given: Given) -> T:
    """The dataclass `cls` with the given values. Raises `ConfigError` `missing-flag` for a required one."""
    for item in settings_of(cls).values():
        if item.required and item.name not in given.values:
            raise ConfigError("missing-flag", f"--{item.name} is required; give --{item.name}=VALUE ({item.type})")
    return cls(**given.values)
