"""Settings: the fields of a dataclass, each with its doc, unit, type and the values that it takes.

    @dataclass(frozen=True, kw_only=True)
    class SampleOptions:
        num_samples: int = setting(10, "how many samples to draw", unit="samples")

Such a dataclass is a command's flags (`arguments.py` parses them), its generated help, and the keywords of its Python
call. Types: bool (`True`, `False`, any case), int (`1_000`), float (an int too), str (as it stands; quotes around the
whole value are removed), `Path`, `Literal[...]` of strings, `tuple[int, ...]` (`500,2000`), any of these `| None`
(`None`), and three that may be given again, each time adding to what is there: `tuple[str, ...]`,
`Mapping[str, str]` (`iter:step,val_loss:loss`) and `Mapping[str, tuple[str, ...]]` (`NAME=A,B`).
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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from lossgap.errors import ConfigError
from lossgap.strangers import one_line, short

T = TypeVar("T")

Factor = Literal[
    "capacity",
    "architecture",
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
    *,
    group: str = "",
    flag: str = "",
    short: str = "",
    value: str = "",
    aliases: Mapping[str, str] | None = None,
) -> T:
    """A dataclass field with what the help, the comparison and the hash need to know of it.

    `doc` is one sentence that names the sentinel values; `unit` is what the number counts; `factor`
    is the group it belongs to, or None for measurement and bookkeeping; `meaning` says whether a
    training with another value would be another training. The rest is for people: `group` is the heading under
    which the help lists the flag, `flag` names it on the command line where its own name is a
    word of Python, `short` is a second name such as `-o`, `value` stands for its value in the help, and `aliases` are
    other words for its values.
    """
    about = {"doc": doc, "unit": unit, "factor": factor, "meaning": meaning, "group": group}
    return dataclasses.field(
        default=default, metadata={**about, "flag": flag, "short": short, "value": value, "aliases": aliases or {}}
    )


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
    group: str = ""
    flag: str = ""
    """The name on the command line, without `--`."""
    short: str = ""
    value: str = ""
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def type(self) -> str:
        """The type in words: `int`, `text`, `auto|plain|fused`, `ints, comma separated`, ..."""
        return type_words(self.annotation)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that it takes, where they are a list; else nothing."""
        inner = _without_none(self.annotation)[0]
        return typing.get_args(inner) if typing.get_origin(inner) is Literal else ()

    @property
    def required(self) -> bool:
        """True if a value must be given."""
        return self.default is dataclasses.MISSING

    @property
    def repeatable(self) -> bool:
        """True if the flag may be given again, each time adding to what is there."""
        return _without_none(self.annotation)[0] in _ADDED

    @property
    def is_switch(self) -> bool:
        """True if the flag alone, without a value, means True."""
        return _without_none(self.annotation)[0] is bool


_SETTINGS: dict[type, Mapping[str, Setting]] = {}
_TEXTS = tuple[str, ...]
_PAIRS = Mapping[str, str]
_LISTS = Mapping[str, tuple[str, ...]]
_ADDED: Mapping[Any, str] = {_TEXTS: "texts", _PAIRS: "NAME:NAME, comma separated", _LISTS: "NAME=A,B"}
"""The types of flags that may be given again, in words."""


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
        group=field.metadata.get("group", ""),
        flag=field.metadata.get("flag") or field.name,
        short=field.metadata.get("short", ""),
        value=field.metadata.get("value", ""),
        aliases=field.metadata.get("aliases", {}),
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
    elif inner in _ADDED:
        return _ADDED[inner]
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
    if isinstance(value, str):
        value = setting.aliases.get(value.lower(), value)
    if typing.get_origin(inner) is Literal:
        return _accept_choice(setting, value, typing.get_args(inner), where)
    if inner in _ADDED:
        return _accept_added(setting, value, inner, where)
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


def _accept_added(setting: Setting, value: object, kind: Any, where: str) -> object:
    """Texts, a mapping of texts, or a mapping of lists of texts."""
    if kind == _TEXTS:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise _wrong_type(setting, value, where)
        return tuple(_accept_text(setting, item, where) for item in value)
    if not isinstance(value, Mapping):
        raise _wrong_type(setting, value, where)
    if kind == _PAIRS:
        if not all(isinstance(item, str) for pair in value.items() for item in pair):
            raise _wrong_type(setting, value, where)
        return dict(value)
    if not all(
        isinstance(items, list | tuple) and all(isinstance(item, str) for item in items) for items in value.values()
    ):
        raise _wrong_type(setting, value, where)
    return {str(name): tuple(items) for name, items in value.items()}


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
    elif inner in _ADDED:
        value = _added(setting, inner, text)
    else:
        value = _unquoted(text)
    return accept(setting, value, where)


def _added(setting: Setting, kind: Any, text: str) -> object:
    """Return the item that one more `--flag text` adds. Raises ConfigError `bad-columns`, `bad-factor`."""
    if kind == _TEXTS:
        return (text,)
    given = f"--{setting.flag}={one_line(text, 60)}"
    if kind == _PAIRS:
        parts = [part.partition(":") for part in text.split(",") if part.strip()]
        if not all(colon and name for _, colon, name in parts):
            raise ConfigError("bad-columns", f"{given}: write role:name, e.g. --{setting.flag}=iter:step")
        return {role.strip(): name.strip() for role, _, name in parts}
    name, equals, names = text.partition("=")
    if not equals or not names:
        raise ConfigError("bad-factor", f"{given}: write --{setting.flag} NAME=A,B, e.g. --{setting.flag} d=dropout")
    return {name: tuple(item.strip() for item in names.split(","))}


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
