"""Reading a bundle that may be torn, or come from a stranger: checked before anything large is read, never executed.

1. The file: a regular one, of a credible size, with a header that fits in it.
2. The header: safetensors' own checks (names, kinds, shapes, offsets that cover the file exactly), then the document:
   every value of its kind, the config a valid one, the model no larger than the file.
3. The arrays: exactly those that the document and the model call for, each of its kind and shape; numbers finite,
   tokens within the vocabulary.
4. The digest over all of it.
"""

from __future__ import annotations

import os
import re
import struct
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from lossgap.config import TrainConfig
from lossgap.errors import BundleError, ConfigError
from lossgap.gpt import GPT, GPTConfig
from lossgap.parity.bundle import DIGEST, DOCUMENT, SCHEMA, Array, Bundle, BundlePoint, digest, token_kind
from lossgap.parity.bundle_fields import Fields, parse
from lossgap.parity.evidence import Item, StepAllowance
from lossgap.parity.reference import Direction, Key, sequence_bytes
from lossgap.parity.rounding import PRECISION, Arithmetic
from lossgap.parity.sketch import WIDTH
from lossgap.parity.stretch import Moment
from lossgap.random import Split
from lossgap.runs.run_json import open_data
from lossgap.strangers import shown
from lossgap.training.numerics import DTYPES, MOST_THREADS, Numerics

MAX_BYTES = 32 * 1024**3
"""A larger file is refused: it holds several copies of a model's weights, which must fit in memory."""
MAX_HEADER = 64 * 1024**2
"""The names of the arrays and the document; ours have less than a megabyte."""
MAX_ITERATIONS = 1_000_000
MAX_POINTS = 1_000
MAX_ITEMS = 100_000
MAX_LAYERS = 1_000
MAX_SEQUENCE = 1 << 36
"""Bytes of one sequence in float64: GPT-2 XL's takes 61 GB."""
_BIG = 2**53
_DEVICE = re.compile(r"(cpu|mps|cuda|xpu|hpu)(:[0-9]{1,4})?")
_WORDS = re.compile(r"[A-Za-z0-9_.' -]{1,200}")
_PARTS = ("weights", "exp_avg", "exp_avg_sq", "gradients", "updated")
_NAMES = (
    *("schema", "version", "config", "model_args", "corpus", "numerics", "environment", "first", "iterations"),
    *("losses", "grad_norms", "evaluations", "points"),
)
_DIRECTIONS: tuple[Direction, ...] = get_args(Direction)
_SPLITS: tuple[Split, ...] = get_args(Split)


def read_bundle(path: Path) -> Bundle:
    """Read and verify a bundle.

    Raises BundleError: `no-bundle`, `bundle-too-large`, `bundle-version`, or `bad-bundle` for one that is torn,
    changed after it was written, or made to do harm.
    """
    try:
        _check_file(path)
        return _Reader(path).bundle()
    except BundleError:
        raise
    except ConfigError as error:
        raise _bad(path, f"its config: {error}") from error
    except (OSError, ValueError, OverflowError, MemoryError, RecursionError) as error:
        raise _bad(path, _reason(error)) from error


def _check_file(path: Path) -> None:
    try:
        stream = open_data(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BundleError(
            "no-bundle", f"{shown(path)} cannot be read: {reason}; name a file that `lossgap record` wrote"
        ) from None
    with stream:
        size = os.fstat(stream.fileno()).st_size
        head = stream.read(8)
    if size > MAX_BYTES:
        raise _too_large(path, f"it has {size:,} bytes, and a bundle has at most {MAX_BYTES:,}")
    if len(head) < 8:
        raise ValueError(f"it has {size} bytes, and a bundle begins with the length of its header in 8")
    (header,) = struct.unpack("<Q", head)
    if header > size - 8:
        raise ValueError(f"its header should have {header:,} bytes and the file has {size:,}: it is torn, or no bundle")
    if header > MAX_HEADER:
        raise _too_large(path, f"its header has {header:,} bytes, and a bundle's has at most {MAX_HEADER:,}")


class _Reader:
    """One file, open."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path, self.size = path, path.stat().st_size
        try:
            opened: Any = safe_open(path, framework="numpy")
            self.names: set[str] = set(opened.keys())
            self.metadata: Mapping[str, str] = opened.metadata() or {}
        except SafetensorError as error:
            raise ValueError(f"it is not a whole safetensors file ({_reason(error)})") from error
        self.file = opened
        self.hash_over: dict[str, Array] = {}

    def bundle(self) -> Bundle:
        text = self.metadata.get(DOCUMENT)
        if text is None or set(self.metadata) != {DOCUMENT, DIGEST}:
            raise ValueError("it is a safetensors file, but none that `lossgap record` wrote")
        fields = Fields(parse(text), "the document")
        _check_schema(self.path, fields)
        fields.only(_NAMES)
        found = self._content(fields)
        if self.names != set(self.hash_over):
            extra = sorted(self.names - set(self.hash_over))[0]
            raise ValueError(f"it holds an array that its document does not know: {extra[:60]!a}")
        if digest(text, self.hash_over.items()) != self.metadata[DIGEST]:
            raise ValueError("its content does not match its digest, so it was changed after it was written")
        return found

    def _content(self, fields: Fields) -> Bundle:
        config = TrainConfig.from_dict(fields.mapping("config"))
        shape = self._shape(Fields(fields.mapping("model_args"), "model_args"), config)
        first = fields.count("first", 0, _BIG)
        iterations = fields.count("iterations", 1, MAX_ITERATIONS)
        windows = (iterations, config.gradient_accumulation_steps, config.batch_size, shape.block_size + 1)
        parameters = _parameters(shape)
        points = tuple(self._point(row, n, parameters) for n, row in enumerate(fields.rows("points", MAX_POINTS)))
        order = [point.iteration for point in points]
        if not order or order[0] != first or order != sorted(set(order)) or order[-1] >= first + iterations:
            raise ValueError("its points do not lie in the recorded iterations, from the first one on")
        return Bundle(
            config=config,
            shape=shape,
            corpus=_corpus(Fields(fields.mapping("corpus"), "corpus")),
            numerics=_numerics(Fields(fields.mapping("numerics"), "numerics")),
            environment=fields.mapping("environment"),
            version=fields.text("version"),
            first=first,
            windows=self._tokens("windows", windows, shape),
            evaluation={split: self._evaluation(split, config, shape) for split in _SPLITS},
            losses=fields.numbers("losses", iterations),
            grad_norms=fields.numbers("grad_norms", iterations, nulls=True),
            evaluations=tuple(_evaluations(fields, first, first + iterations)),
            points=points,
        )

    def _shape(self, fields: Fields, config: TrainConfig) -> GPTConfig:
        """Before a model is built of it: a large number costs nothing to write down."""
        most = self.size
        shape = GPTConfig(
            n_layer=fields.count("n_layer", 1, most),
            n_head=fields.count("n_head", 1, most),
            n_embd=fields.count("n_embd", 1, most),
            block_size=fields.count("block_size", 1, most),
            vocab_size=fields.count("vocab_size", 1, most),
            bias=fields.flag("bias"),
            dropout=fields.number("dropout", 0.0, 1.0),
        )
        for name in ("n_layer", "n_head", "n_embd", "block_size", "bias", "dropout"):
            if getattr(shape, name) != getattr(config, name):
                raise ValueError(f"its config and its model_args differ in {name}")
        if shape.n_layer > min(MAX_LAYERS, len(self.names)):
            raise ValueError(f"its model_args claim {shape.n_layer:,} layers")
        c = shape.n_embd
        if 4 * (12 * shape.n_layer * c * c + (shape.vocab_size + shape.block_size) * c) > self.size:
            raise ValueError("its model_args claim more weights than the file holds")
        if sequence_bytes(shape) > MAX_SEQUENCE:
            raise _too_large(self.path, f"one sequence of {shape.block_size:,} tokens takes too much memory in float64")
        return shape

    # ---------------------------------------------------------------------------------------------
    # Arrays

    def _array(self, name: str, kind: np.dtype[Any], shape: tuple[int | None, ...]) -> Array:
        """The array of this name, if it is of this kind and shape (None: any length from 1 on)."""
        if name not in self.names:
            raise ValueError(f"it lacks the array {name[:100]!a}")
        header = self.file.get_slice(name)
        has, is_of = tuple(header.get_shape()), str(header.get_dtype())
        fits = len(has) == len(shape) and all(n == m or (m is None and n > 0) for n, m in zip(has, shape, strict=True))
        if not fits or is_of != _KINDS[kind.str]:
            raise ValueError(f"its array {name[:100]!a} is {is_of} {has}, not {_KINDS[kind.str]} {shape}")
        array: Array = self.file.get_tensor(name)
        self.hash_over[name] = array
        return array

    def _numbers(self, name: str, shape: tuple[int, ...], kind: str = "<f4") -> Array:
        array = self._array(name, np.dtype(kind), shape)
        if not np.isfinite(array).all():
            raise ValueError(f"its array {name[:100]!a} holds numbers that are not finite")
        return array

    def _tokens(self, name: str, dims: tuple[int | None, ...], shape: GPTConfig) -> Tensor:
        array = self._array(name, np.dtype(token_kind(shape.vocab_size)), dims)
        if int(array.max()) >= shape.vocab_size:
            raise ValueError(f"its array {name!a} holds tokens beyond the vocabulary of {shape.vocab_size}")
        return torch.from_numpy(array.astype(np.int64))

    def _evaluation(self, split: Split, config: TrainConfig, shape: GPTConfig) -> Tensor:
        return self._tokens(f"evaluation.{split}", (None, config.batch_size, shape.block_size + 1), shape)

    # ---------------------------------------------------------------------------------------------
    # Points

    def _point(self, row: Fields, number: int, parameters: Mapping[str, tuple[int, ...]]) -> BundlePoint:
        row.only(("iter", "step", "scale", "growth", "lr", "parts", "items"))
        has = tuple(part for part in row.sequence("parts", len(_PARTS)) if isinstance(part, str))
        step = row.count("step", 0, _BIG)
        wanted = set(_PARTS) if step else {"weights", "updated"}
        if set(has) != wanted or len(has) != len(wanted):
            raise ValueError(f"{row.where} lacks the parts {', '.join(sorted(wanted))}")

        def part(name: str) -> dict[str, Tensor]:
            if name not in has:
                return {}
            stem = f"points.{number}.{name}"
            return {p: torch.from_numpy(self._numbers(f"{stem}.{p}", dims)) for p, dims in parameters.items()}

        rows = list(row.rows("items", MAX_ITEMS))
        sketches = self._numbers(f"points.{number}.sketches", (len(rows), WIDTH), "<f8")
        return BundlePoint(
            moment=Moment(
                iteration=row.count("iter", 0, _BIG),
                weights=part("weights"),
                exp_avg=part("exp_avg"),
                exp_avg_sq=part("exp_avg_sq"),
                step=step,
                scale=row.number_or_none("scale", 2.0**-64, 2.0**64),
                growth=row.count("growth", 0, _BIG),
            ),
            lr=row.number("lr", 0.0, 1e6),
            gradients=part("gradients") or None,
            updated=part("updated"),
            items=tuple(_item(item, sketches[n]) for n, item in enumerate(rows)),
        )


_KINDS = {"<f4": "F32", "<f8": "F64", "<u2": "U16", "<u4": "U32"}


def _item(row: Fields, sketch: Any) -> Item:
    row.only(("name", "direction", "what", "exact", "allowances"))
    direction = next((known for known in _DIRECTIONS if known == row.text("direction")), None)
    if direction is None:
        raise ValueError(f"{row.where} has no known direction")
    allowances = {}
    given = Fields(row.mapping("allowances"), f"allowances of {row.where}").only(tuple(PRECISION))
    for kind in given.values:
        allowances[_arithmetic(kind)] = _allowance(given, kind)
    key = Key(row.text("name"), direction, row.text("what"))
    if not all(_WORDS.fullmatch(text) for text in key):
        raise ValueError(f"{row.where} has no usable name")
    return Item(key=key, sketch=sketch, exact=row.number("exact", 0.0, 1.0), allowances=allowances)


def _arithmetic(kind: str) -> Arithmetic:
    return next(known for known in PRECISION if known == kind)


def _allowance(fields: Fields, kind: str) -> StepAllowance:
    """[error or null, allowed]."""
    pair = fields.sequence(kind, 2)
    both = Fields(dict(zip(("error", "allowed"), pair, strict=False)), f"{kind} of {fields.where}")
    return StepAllowance(both.number_or_none("error", 0.0, 1e300), both.number("allowed", 0.0, 1e300))


def _corpus(fields: Fields) -> dict[str, object]:
    names = ("name", "sha256", "tokens_sha256", "hash_method")
    return {name: fields.only(names).text(name) for name in names}


def _numerics(fields: Fields) -> dict[str, object]:
    """Return the settings from which a replay resolves its own numerics."""
    kinds = typing.get_type_hints(Numerics)
    fields.only(tuple(kinds))
    found: dict[str, object] = {name: fields.flag(name) for name, kind in kinds.items() if kind is bool}
    found |= {name: fields.text(name) for name, kind in kinds.items() if kind not in (bool, int)}
    found["threads"] = fields.count("threads", 1, MOST_THREADS)
    choices = {"dtype": tuple(DTYPES), "attention": ("plain", "fused"), "adamw": ("fused", "loop")}
    wrong = next((name for name, known in choices.items() if found[name] not in known), None)
    if wrong is not None or not _DEVICE.fullmatch(str(found["device"])):
        raise ValueError(f"its numerics have no usable {wrong or 'device'}")
    return found


def _evaluations(fields: Fields, first: int, last: int) -> Iterator[tuple[int, Split, float]]:
    for row in fields.rows("evaluations", 2 * MAX_POINTS + 2):
        split = next((known for known in _SPLITS if known == row.text("split")), None)
        if split is None:
            raise ValueError(f"{row.where} is of no known split")
        yield row.count("iter", first, last), split, row.number("loss", 0.0, 1e300)


def _parameters(shape: GPTConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's parameters, without the model's memory."""
    with torch.device("meta"):
        return {name: tuple(parameter.shape) for name, parameter in GPT(shape).named_parameters()}


def _check_schema(path: Path, fields: Fields) -> None:
    found = fields.values.get("schema")
    if found == SCHEMA:
        return
    if isinstance(found, str) and found.startswith("lossgap.bundle/"):
        raise BundleError(
            "bundle-version",
            f"{shown(path)} has schema {found[:40]!a}, this lossgap reads {SCHEMA}: replay it with the lossgap that "
            "recorded it, or record it again",
        )
    raise ValueError(f"its document has no schema {SCHEMA}")


def _too_large(path: Path, reason: str) -> BundleError:
    return BundleError(
        "bundle-too-large", f"{shown(path)} is refused: {reason}; record fewer iterations or checkpoints"
    )


def _bad(path: Path, reason: str) -> BundleError:
    return BundleError("bad-bundle", f"{shown(path)} cannot be used: {reason}; copy it anew, or record it again")


def _reason(error: BaseException) -> str:
    """The first line of an error's text, fit to print: it may quote the file."""
    lines = str(error).strip().splitlines()
    line = lines[0][:200] if lines else type(error).__name__
    return line if line.isprintable() and line.isascii() else ascii(line)
