"""The language of what people read. English is the source, and results are English; a renderer says it in another one.

    with spoken("ja"):
        say("different, beyond chance")
        say("laptop ends 0.19 lower than gpu, beyond chance, because it trained longer (...).")

`locale/ja.po` is the catalogue, in gettext's form. An entry's English text may have names in braces, as in
`{lower} ends {by} lower than {other}`: it says every sentence that fits, with the same names in the translation. What a
name beginning with `said` stands for is said in the language as well; with `saids` each part of a list. Other names
hold numbers and texts of strangers, which stay as they are; one letter is a number, without a blank. What has no
entry stays English.
"""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

T = TypeVar("T")
SOURCE = "en"
LANGUAGES = (SOURCE, "ja")
VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")
"""The environment's variables that name a locale, the strongest first, as POSIX has them."""
STOPS: Mapping[str, tuple[str, str]] = {"en": (" ", ", "), "ja": ("", "、")}
"""The text between two sentences, and between the parts of a list."""
KEPT = frozenset({"command", "made_by", "word", "draws", "data", "value", "side", "look", "number", "name", "shape"})
"""Fields of blocks that are no words for people: commands, keys, numbers, names of runs."""

_SPOKEN: ContextVar[str] = ContextVar("lossgap_language", default=SOURCE)


def spoken_now() -> str:
    """The code of the language that is spoken, such as `ja`."""
    return _SPOKEN.get()


@contextmanager
def spoken(code: str) -> Iterator[None]:
    """Speak one of `LANGUAGES` for the time of the block."""
    token = _SPOKEN.set(code)
    try:
        yield
    finally:
        _SPOKEN.reset(token)


def of_environment(environ: Mapping[str, str]) -> str:
    """The language of the locale, where there is a catalogue for it; else English."""
    locale = next((environ[name] for name in VARIABLES if environ.get(name)), "")
    code = locale.partition(".")[0].partition("_")[0].lower()
    return code if code in LANGUAGES else SOURCE


def say(text: str) -> str:
    """`text` in the language that is spoken; as it is where the catalogue has no entry for it."""
    code = _SPOKEN.get()
    if code == SOURCE or not text:
        return text
    return _said(text, code)


def between() -> str:
    """The text between two sentences."""
    return STOPS[_SPOKEN.get()][0]


def translated(item: T) -> T:
    """A block or a view with every text in it said in the language that is spoken."""
    return item if _SPOKEN.get() == SOURCE else _walked(item)


def _walked(item: Any) -> Any:
    if isinstance(item, str):
        return say(item)
    if isinstance(item, tuple):
        return tuple(_walked(part) for part in item)
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        fields = {
            field.name: _walked(getattr(item, field.name)) for field in dataclasses.fields(item) if _speaks(item, field)
        }
        return dataclasses.replace(item, **fields)
    return item


def _speaks(item: object, field: dataclasses.Field[Any]) -> bool:
    """A field with words; the name of a table's column is one, other names are of runs."""
    return field.init and (field.name not in KEPT or (field.name == "name" and hasattr(item, "drop")))


# ---------------------------------------------------------------------------------------------
# Entries


@dataclass(frozen=True)
class Template:
    """An entry with names in braces: the text before, between and behind them, and the translation."""

    literals: tuple[str, ...]
    names: tuple[str, ...]
    translation: str

    def values(self, text: str) -> dict[str, str] | None:
        """The texts that the names stand for in `text`, each as short as can be; None where it does not fit."""
        if not (text.startswith(self.literals[0]) and text.endswith(self.literals[-1])):
            return None
        at, found = len(self.literals[0]), {}
        end = len(text) - len(self.literals[-1])
        for name, after in zip(self.names, self.literals[1:], strict=True):
            last = name == self.names[-1]
            place = end if last else text.find(after, at, end)
            if place <= at or (len(name) == 1 and " " in text[at:place]):
                return None
            found[name] = text[at:place]
            at = place + len(after)
        return found


def template(source: str, translation: str) -> Template | None:
    """The entry as a template; None where it has no names."""
    parts = [(text, name) for text, name, _, _ in string.Formatter().parse(source)]
    names = tuple(name for _, name in parts if name is not None)
    if not names:
        return None
    literals = [text for text, _ in parts]
    return Template((*literals, *([""] if parts[-1][1] is not None else [])), names, translation)


@cache
def catalogue(code: str) -> Mapping[str, str]:
    """English text to translation, as `locale/CODE.po` has them."""
    import polib

    path = resources.files("lossgap") / "locale" / f"{code}.po"
    return {entry.msgid: entry.msgstr for entry in polib.pofile(path.read_text(encoding="utf-8")) if entry.msgstr}


@cache
def _templates(code: str) -> tuple[Template, ...]:
    """Those with the most text of their own first: of two that fit, the more special one says more."""
    made = [template(source, said) for source, said in catalogue(code).items()]
    found = [item for item in made if item is not None]
    return tuple(sorted(found, key=lambda item: -sum(map(len, item.literals))))


def _said(text: str, code: str) -> str:
    whole = _entry(text, code)
    if whole is not None:
        return whole
    sentences = text.split(". ")
    if len(sentences) == 1:
        return text
    stopped = [*(f"{part}." for part in sentences[:-1]), sentences[-1]]
    said = [_entry(part, code) for part in stopped]
    # A full stop in a name would part a sentence: then all of it stays English.
    return text if None in said else STOPS[code][0].join(map(str, said))


def _entry(text: str, code: str) -> str | None:
    # A title within a sentence begins with a small letter.
    found = catalogue(code).get(text) or catalogue(code).get(text[:1].upper() + text[1:])
    if found is not None:
        return found
    for item in _templates(code):
        values = item.values(text)
        if values is None:
            continue
        said = {name: _value(name, value, code) for name, value in values.items()}
        if None not in said.values():
            return item.translation.format(**said)
    return None


def _value(name: str, value: str, code: str) -> str | None:
    """The text that a name stands for, said where it is a sentence; None where that has no entry."""
    if name.startswith("saids"):
        parts = [_entry(part, code) for part in value.split(", ")]
        return None if None in parts else STOPS[code][1].join(map(str, parts))
    return _entry(value, code) if name.startswith("said") else value
