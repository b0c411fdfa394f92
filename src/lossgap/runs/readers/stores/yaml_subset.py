"""The part of YAML that hparams and config files of trainers use, read as data.

Block mappings and sequences, plain and quoted scalars, flow lists and mappings of scalars, block text (`|`, `>`).
A tag (`!!python/object:...`) is never followed: its text is the value, and what is nested below it is left out.
Anchors and aliases are text. Any other line is skipped. Nothing here raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lossgap.runs.readers.setting_names import MAX_TEXT, typed

MAX_LINES = 20_000
MAX_DEPTH = 24

_PLAIN = r"[^\s#'\"\[\]{}&*!|>%@`-][^#]*?|-[^\s#][^#]*?"
_KEY = re.compile(r"""("(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|""" + _PLAIN + r")(?<!\s)\s*+:(?:\s+(.*)|)")


@dataclass(frozen=True)
class _Line:
    indent: int
    text: str


def parse_yaml(text: str) -> dict[str, object]:
    """The mapping in `text`; an empty one if it holds none."""
    lines = []
    for line in text.split("\n")[:MAX_LINES]:
        stripped = line.strip()
        if stripped and not stripped.startswith("#") and stripped not in ("---", "..."):
            lines.append(_Line(len(line) - len(line.lstrip(" ")), stripped))
    value, _ = _block(lines, 0, 0, 0)
    return value if isinstance(value, dict) else {}


def _block(lines: list[_Line], at: int, indent: int, depth: int) -> tuple[object, int]:
    """The value of the lines from `at` that are indented by `indent` or more, and the line after it."""
    if at >= len(lines) or lines[at].indent < indent or depth > MAX_DEPTH:
        return None, _skip(lines, at, indent)
    indent = lines[at].indent
    if lines[at].text == "-" or lines[at].text.startswith("- "):
        return _sequence(lines, at, indent, depth)
    return _mapping(lines, at, indent, depth)


def _skip(lines: list[_Line], at: int, indent: int) -> int:
    while at < len(lines) and lines[at].indent >= indent:
        at += 1
    return at


def _mapping(lines: list[_Line], at: int, indent: int, depth: int) -> tuple[dict[str, object], int]:
    found: dict[str, object] = {}
    while at < len(lines) and lines[at].indent >= indent:
        key = _KEY.fullmatch(lines[at].text) if lines[at].indent == indent else None
        if key is None:
            at += 1
            continue
        name, rest = str(_scalar(key[1])) if key[1][:1] in "'\"" else key[1].strip(), (key[2] or "").strip()
        at += 1
        found[name], at = _value(lines, at, indent, depth, rest)
    return found, at


def _sequence(lines: list[_Line], at: int, indent: int, depth: int) -> tuple[list[object], int]:
    """Items `- value`; one that holds a mapping or another sequence is read as if its dash were blanks."""
    found: list[object] = []
    while at < len(lines) and lines[at].indent == indent and (lines[at].text == "-" or lines[at].text.startswith("- ")):
        rest = lines[at].text[1:].strip()
        if rest and depth < MAX_DEPTH and (rest == "-" or rest.startswith("- ") or _KEY.fullmatch(rest)):
            inner = indent + len(lines[at].text) - len(lines[at].text[1:].lstrip())
            lines[at] = _Line(inner, rest)
            value, at = _block(lines, at, inner, depth + 1)
        else:
            value, at = _value(lines, at + 1, indent, depth, rest)
        found.append(value)
    return found, at


def _value(lines: list[_Line], at: int, indent: int, depth: int, rest: str) -> tuple[object, int]:
    """Parse what stands after a colon or a dash, `rest`; return it and the line after it."""
    if rest.startswith("!") or rest[:1] in ("|", ">"):
        after = _after(lines, at, indent)
        if rest.startswith("!"):
            return rest[:MAX_TEXT], after
        return "\n".join(line.text for line in lines[at:after])[:MAX_TEXT], after
    if rest and not rest.startswith("#"):
        return _scalar(rest), _skip(lines, at, indent + 1)
    dashed = at < len(lines) and lines[at].indent == indent and lines[at].text.startswith("-")
    if at < len(lines) and (lines[at].indent > indent or dashed):
        return _block(lines, at, lines[at].indent, depth + 1)
    return None, at


def _after(lines: list[_Line], at: int, indent: int) -> int:
    """The line after everything that belongs to the key at `indent`, sequences at the same indent too."""
    while at < len(lines) and (
        lines[at].indent > indent or (lines[at].indent == indent and lines[at].text.startswith("-"))
    ):
        at += 1
    return at


_FLOW = re.compile(r"\[(.*)\]|\{(.*)\}", re.DOTALL)


def _scalar(text: str, depth: int = 0) -> object:
    if text[:1] in "'\"":
        end = _closing(text)
        if end:
            inner = text[1:end]
            return (inner.replace("''", "'") if text[0] == "'" else _unescaped(inner))[:MAX_TEXT]
    text = re.split(r"\s#", text, maxsplit=1)[0].strip()
    flow = _FLOW.fullmatch(text)
    if flow and depth < 4:
        items = [item.strip() for item in (flow[1] if flow[1] is not None else flow[2]).split(",")]
        if flow[1] is not None:
            return [_scalar(item, depth + 1) for item in items[:200] if item]
        pairs = (item.partition(":") for item in items[:200] if item)
        return {str(_scalar(name.strip(), depth + 1)): _scalar(value.strip(), depth + 1) for name, _, value in pairs}
    return typed(text)


def _closing(text: str) -> int:
    """Where the quote that opens `text` closes; 0 if it does not."""
    at = 1
    while at < len(text):
        if text[at] == "\\" and text[0] == '"':
            at += 2
        elif text[at] == text[0]:
            if text[0] == "'" and text[at + 1 : at + 2] == "'":
                at += 2
            else:
                return at
        else:
            at += 1
    return 0


def _unescaped(text: str) -> str:
    """The escapes that occur in config files; others stay as they are."""
    return text.replace('\\"', '"').replace("\\n", "\n").replace("\\t", "\t").replace("\\\\", "\\")
