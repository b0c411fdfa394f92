"""nanoGPT's config files, read without running them, and the command line of `lossgap train`.

A config file is Python in form, and here it is data: what it says is found in its syntax tree.

1. `NAME = value`: a constant, arithmetic on numbers, texts joined by `+`, a tuple or list, or a name
   that was set before (in this file, or a setting as it stands). `+=` and the like, too.
2. Docstrings, `import` and `pass` are passed over in silence.
3. Anything else is skipped with a warning that names the line, and is an error if it sets a setting
   that changes the training: a run must not start with a value its config file does not say.
4. A name that is not a setting, is used nowhere else in the file and does not begin with `_` gets a warning.
"""

from __future__ import annotations

import ast
import operator
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from lossgap.arguments import Given, asks_for_help, read_arguments
from lossgap.config import TrainConfig
from lossgap.errors import ConfigError, warn
from lossgap.presets import PRESETS, preset
from lossgap.settings import accept, did_you_mean, settings_of
from lossgap.strangers import LAYOUT, one_line, short, visible

MAX_BYTES = 1_000_000
"""A larger file is refused: nobody writes a megabyte of settings."""

MAX_WARNINGS = 20
"""Warnings about one file; the others are counted."""


@dataclass(frozen=True)
class ConfigFile:
    """The contents of a config file: its text, the values by setting name, and the line of each."""

    path: str
    text: str
    values: dict[str, object]
    lines: dict[str, int]


# ---------------------------------------------------------------------------------------------
# Constant expressions

_BITS = 256  # of an int while computing; a setting has 64
_CHARACTERS = 10_000  # of a text while computing

_OPERATORS: dict[type[ast.operator], Callable[[float, float], object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


class NotConstantError(Exception):
    """The expression has no value that can be found without running code; the text says why."""


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def evaluate_constant(node: ast.expr, names: Mapping[str, object]) -> object:
    """The value of a constant expression. Raises `NotConstantError`."""
    match node:
        case ast.Constant(value=value) if value is None or isinstance(value, bool | int | float | str):
            return _bounded(value)
        case ast.Name(id=name) if name in names:
            return names[name]
        case ast.Name(id=name):
            raise NotConstantError(f"{name} has no constant value here")
        case ast.Tuple(elts=items) | ast.List(elts=items):
            values = tuple(evaluate_constant(item, names) for item in items)
            if all(_is_number(value) for value in values):  # tuples of tuples could grow without end
                return values
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = evaluate_constant(operand, names)
            if _is_number(number):
                return -number if isinstance(sign, ast.USub) else number
        case ast.BinOp(left=left, op=op, right=right):
            return _bounded(_binary(op, evaluate_constant(left, names), evaluate_constant(right, names)))
    raise NotConstantError("the value is not a constant")


def _binary(op: ast.operator, left: object, right: object) -> object:
    if isinstance(op, ast.Add) and isinstance(left, str) and isinstance(right, str):
        return left + right
    if not (_is_number(left) and _is_number(right)):
        raise NotConstantError("arithmetic needs numbers")
    if type(op) not in _OPERATORS:
        raise NotConstantError("the operator is not one of + - * / // % **")
    # 9 ** 9 ** 9 would take for ever: the size is known before the power is computed.
    whole = isinstance(left, int) and isinstance(right, int)
    if isinstance(op, ast.Pow) and whole and int(left).bit_length() * abs(right) > 4 * _BITS:
        raise NotConstantError("the number is too large")
    try:
        return _OPERATORS[type(op)](left, right)
    except OverflowError:
        raise NotConstantError("the number is too large") from None
    except ZeroDivisionError:
        raise NotConstantError("it divides by zero") from None


def _bounded(value: object) -> object:
    """`value`, unless it is larger than a setting can be, or complex."""
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise NotConstantError("the number is too large")
    if isinstance(value, str) and len(value) > _CHARACTERS:
        raise NotConstantError("the text is too long")
    if isinstance(value, complex):
        raise NotConstantError("the number is complex")
    return value


# ---------------------------------------------------------------------------------------------
# The file


def _read_source(path: Path) -> str:
    """The text of the file, line ends as `\\n`. Raises `ConfigError` `config-file-unreadable`."""
    shown = one_line(str(path))
    try:
        if not path.is_file():  # a folder, or a pipe that would block
            raise ConfigError("config-file-unreadable", f"{shown}: not a regular file; give a config file or a preset")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ConfigError("config-file-unreadable", f"{shown}: cannot be read ({error}); check the path") from None
    if len(data) > MAX_BYTES:
        raise ConfigError(
            "config-file-unreadable",
            f"{shown}: larger than {MAX_BYTES:,} bytes, which no config file is; give a smaller file",
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            "config-file-unreadable", f"{shown}: not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from None
    if "\0" in text:
        raise ConfigError("config-file-unreadable", f"{shown}: holds a NUL byte, so it is not text; give a text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _syntax(text: str, shown: str) -> ast.Module:
    """The syntax tree. Raises `ConfigError` `config-file-not-python`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the parser, about an unknown escape such as \d
            return ast.parse(text)
    except SyntaxError as error:
        raise ConfigError(
            "config-file-not-python",
            f"{shown} line {error.lineno or 1}: not valid Python ({one_line(error.msg or 'syntax error')}); "
            "write one NAME = value on each line (a log is no config: lossgap read says what it holds)",
        ) from None
    except (ValueError, RecursionError, MemoryError, OverflowError):
        raise ConfigError(
            "config-file-not-python",
            f"{shown}: nested too deeply to be parsed; write plain NAME = value lines",
        ) from None


def read_config_file(path: str | os.PathLike[str], known: Mapping[str, object] | None = None) -> ConfigFile:
    """The settings that the config file at `path` sets, by the rules at the top of this module.

    `known` holds the settings as they stand before the file (default: TrainConfig's defaults), for files
    that compute one from another. Nothing in the file is executed. Raises `ConfigError`:
    `config-file-unreadable`, `config-file-not-python`, `config-value-not-constant`, and those of `accept`.
    """
    shown = one_line(os.fspath(path))
    text = _read_source(Path(path))
    before = {name: item.default for name, item in settings_of(TrainConfig).items()} if known is None else known
    reader = _ConfigReader(shown, text, dict(before))
    try:
        reader.read(_syntax(text, shown))
    except RecursionError:
        raise ConfigError(
            "config-file-not-python", f"{shown}: an expression is nested too deeply; write plain NAME = value lines"
        ) from None
    return ConfigFile(os.fspath(path), text, reader.values, reader.lines)


class _ConfigReader:
    """Walks the statements of one file and keeps the names that have a constant value so far."""

    def __init__(self, shown: str, text: str, names: dict[str, object]) -> None:
        self.shown = shown
        self.source = text.split("\n")
        self.names = names
        self.settings = settings_of(TrainConfig)
        self.used: set[str] = set()
        self.unknown: set[str] = set()
        self.warned = 0
        self.values: dict[str, object] = {}
        self.lines: dict[str, int] = {}

    def read(self, tree: ast.Module) -> None:
        self.used = {
            node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        for statement in tree.body:
            match statement:
                case ast.Pass() | ast.Expr(value=ast.Constant()):
                    pass
                case ast.Assign(targets=targets, value=value) if all(isinstance(item, ast.Name) for item in targets):
                    self.assign([item.id for item in targets if isinstance(item, ast.Name)], value, statement)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self.assign([name], value, statement)
                case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                    self.used.add(name)
                    self.assign([name], ast.BinOp(ast.Name(name, ast.Load()), op, value), statement)
                case _:
                    self.skip(statement, "only NAME = value is read")
        if self.warned > MAX_WARNINGS:
            warn("config-value-skipped", f"{self.shown}: {self.warned - MAX_WARNINGS} more lines without effect")

    def assign(self, names: list[str], expression: ast.expr, statement: ast.stmt) -> None:
        try:
            value = evaluate_constant(expression, self.names)
        except NotConstantError as error:
            self.skip(statement, str(error))
            return
        for name in names:
            if name in self.settings:
                where = f"{self.shown} line {statement.lineno}"
                self.names[name] = self.values[name] = accept(self.settings[name], value, where)
                self.lines[name] = statement.lineno
            else:
                self.names[name] = value
                self.warn_unknown(name, statement.lineno)

    def warn(self, slug: str, message: str) -> None:
        """Warn, but not more than `MAX_WARNINGS` times for one file: it may be any Python program."""
        self.warned += 1
        if self.warned <= MAX_WARNINGS:
            warn(slug, message, stacklevel=3)

    def warn_unknown(self, name: str, line: int) -> None:
        if not name.startswith("_") and name not in self.used and name not in self.unknown:
            self.unknown.add(name)
            # Looking for near names costs too much for a file with a hundred thousand of them.
            near = did_you_mean(name, self.settings) if self.warned < MAX_WARNINGS else ""
            advice = near or "it has no effect"
            self.warn(
                "config-name-unknown",
                f"{self.shown} line {line}: {one_line(name)} is not a setting and is used nowhere; {advice}",
            )

    def skip(self, statement: ast.stmt, reason: str) -> None:
        """Pass over a statement: an error if it sets what changes the training, else a warning."""
        stored = set(_stored_names(statement))
        for name in stored:
            self.names.pop(name, None)  # nothing can be computed from it any more
        where = f"{self.shown} line {statement.lineno}"
        words = short(self.source[statement.lineno - 1].strip())
        for name in sorted(stored):
            if name in self.settings and self.settings[name].meaning:
                advice = f"write a constant, or remove the line and give --{name}=VALUE"
                raise ConfigError("config-value-not-constant", f"{where}: {words} sets {name}, but {reason}; {advice}")
        if not self.is_quiet(statement, stored):
            self.warn("config-value-skipped", f"{where}: {words} is skipped: {reason}")

    def is_quiet(self, statement: ast.stmt, stored: set[str]) -> bool:
        """True if the statement may be passed over without a word: an import, or a helper of other lines."""
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return "*" not in stored  # a star import could set anything
        helpers = all(name not in self.settings and (name in self.used or name.startswith("_")) for name in stored)
        return isinstance(statement, ast.Assign | ast.AnnAssign) and bool(stored) and helpers


def _stored_names(statement: ast.stmt) -> Iterator[str]:
    """Every name that the statement could set, where the syntax shows it."""
    local = False
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        local = True  # what its body sets is its own, unless declared global
        yield statement.name
    for node in ast.walk(statement):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if not local:
                yield name
            case ast.Global(names=names):
                yield from names
            case ast.alias(name=name, asname=alias):
                yield (alias or name).partition(".")[0]
            case ast.Subscript(slice=ast.Constant(value=str() as name), ctx=ast.Store()):
                yield name  # globals()["batch_size"] = 3


# ---------------------------------------------------------------------------------------------
# The command line of `lossgap train`


def resolve_arguments(argv: Sequence[str]) -> Given:
    """Config files, presets and flags, applied left to right: the later one wins, as in nanoGPT.

    A positional that exists is a config file; else it is the name of a preset; else, if it ends in
    `train_shakespeare_char.py` (nanoGPT's README on a machine without nanoGPT), it is the preset
    `shakespeare_char`, with a warning. `positionals` keeps them as they were given.
    Raises `ConfigError`: `no-such-config`, and those of `read_arguments` and `read_config_file`.
    """
    if asks_for_help(argv):
        return Given({}, {}, help=True)
    defaults = {name: item.default for name, item in settings_of(TrainConfig).items()}
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    positionals: list[str] = []
    echo: list[str] = []
    for item in read_arguments(argv, TrainConfig):
        if not isinstance(item, str):
            values[item.name], sources[item.name] = item.value, item.source
            echo.append(f"Overriding: {item.name} = {visible(str(item.value), LAYOUT)}")
            continue
        positionals.append(item)
        if os.path.exists(item):
            file = read_config_file(item, defaults | values)
            values |= file.values
            sources |= {name: f"{one_line(item)} line {file.lines[name]}" for name in file.values}
            echo += [f"Overriding config with {one_line(item)}:", visible(file.text, LAYOUT)]
        else:
            name = _preset_name(item)
            given = preset(name)
            values |= given
            sources |= dict.fromkeys(given, f"preset {name}")
            listed = "".join(f"{key} = {value!r}\n" for key, value in given.items())
            echo += [f"Overriding config with preset {name}:", listed]
    return Given(values, sources, tuple(positionals), echo=tuple(echo))


def _preset_name(positional: str) -> str:
    """The preset meant by a positional that is not a file. Raises `ConfigError` `no-such-config`."""
    if positional in PRESETS:
        return positional
    shown = one_line(positional)
    if os.path.basename(positional) == "train_shakespeare_char.py":
        warn("config-file-is-preset", f"{shown} does not exist; the preset shakespeare_char has the same settings")
        return "shakespeare_char"
    key = positional.partition("=")[0].replace("-", "_")
    if "=" in positional and key in settings_of(TrainConfig):
        advice = f"did you mean --{shown}?"
    else:
        stem = os.path.splitext(os.path.basename(positional))[0]
        advice = did_you_mean(stem, PRESETS) or f"give a file that exists, or one of {', '.join(PRESETS)}"
    raise ConfigError("no-such-config", f"{shown}: no such config file or preset; {advice}")


def train_config(given: Given) -> TrainConfig:
    """The checked config of what was given. A `ConfigError` says where a refused value came from."""
    try:
        return TrainConfig.from_dict(given.values)
    except ConfigError as error:
        blamed = str(error).partition("=")[0].removeprefix("--")
        source = given.sources.get(blamed, "")
        if not source or source.startswith("--"):
            raise
        raise ConfigError(error.slug, f"{error} ({blamed} is set in {source})") from None


__all__ = [
    "MAX_BYTES",
    "MAX_WARNINGS",
    "ConfigFile",
    "read_config_file",
    "resolve_arguments",
    "train_config",
]
