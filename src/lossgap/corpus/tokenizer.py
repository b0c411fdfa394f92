"""Text to token ids and back: characters as nanoGPT's, or GPT-2's byte pairs through tiktoken."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol, cast

from lossgap.errors import CorpusError

GPT2_VOCAB_SIZE = 50_257
"""50,000 merges, 256 bytes and `<|endoftext|>` (Radford et al. 2019, section 2.3)."""

_END_OF_TEXT = "<|endoftext|>"


class Tokenizer(Protocol):
    """An object that turns text into token ids and back, and can be carried in a checkpoint as a plain dict."""

    @property
    def vocab_size(self) -> int:
        """Ids run from 0 to `vocab_size - 1`."""

    @property
    def chars(self) -> str | None:
        """The characters in order of their ids, for a tokenizer whose tokens are characters; else None."""

    def encode(self, text: str) -> list[int]:
        """The ids of `text`; CorpusError (`not-in-vocabulary`) for text that cannot be expressed."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; CorpusError (`not-in-vocabulary`) for an id outside the vocabulary."""

    def to_dict(self) -> dict[str, str]:
        """A plain dict that `tokenizer_from_dict` turns into an equal tokenizer."""


@dataclass(frozen=True)
class CharTokenizer:
    """One token for each character; its id is its place in `chars`.

    nanoGPT's vocabulary is the sorted set of the corpus's characters; a `meta.pkl` may hold another order.
    """

    chars: str

    def __post_init__(self) -> None:
        if not self.chars or len(self._ids) != len(self.chars):
            raise CorpusError(
                "bad-tokenizer",
                f"a vocabulary of {len(self.chars)} characters, {len(self._ids)} of them distinct: each character "
                "must have exactly one id; make the tokenizer from the corpus again",
            )

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {char: index for index, char in enumerate(self.chars)}

    @property
    def vocab_size(self) -> int:
        """The number of characters."""
        return len(self.chars)

    def encode(self, text: str) -> list[int]:
        """The id of each character; CorpusError (`not-in-vocabulary`) names the first that has none."""
        try:
            return [self._ids[char] for char in text]
        except KeyError:
            place, char = next((place, char) for place, char in enumerate(text) if char not in self._ids)
        raise CorpusError(
            "not-in-vocabulary",
            f"the character {char!r} (U+{ord(char):04X}, at place {place}) is not among the {self.vocab_size} "
            "characters of this vocabulary: leave it out, or train on a corpus that has it",
        )

    def decode(self, ids: Sequence[int]) -> str:
        """The characters of `ids`; CorpusError (`not-in-vocabulary`) names the first id that is out of range."""
        _check_ids(ids, self.vocab_size)
        return "".join(self.chars[index] for index in ids)

    def to_dict(self) -> dict[str, str]:
        """`{"kind": "char", "chars": ...}`."""
        return {"kind": "char", "chars": self.chars}


@dataclass(frozen=True)
class BpeTokenizer:
    """GPT-2's byte pair encoding. tiktoken (extra `[bpe]`) is imported at the first use, not before."""

    @property
    def vocab_size(self) -> int:
        """50,257. nanoGPT gives its models 50,304 outputs, the next multiple of 64."""
        return GPT2_VOCAB_SIZE

    @property
    def chars(self) -> None:
        """Tokens are not characters."""
        return None

    def encode(self, text: str) -> list[int]:
        """The ids of a prompt; `<|endoftext|>` stands for its own token, as in nanoGPT's `sample.py`."""
        return _gpt2().encode(text, allowed_special={_END_OF_TEXT})

    def encode_corpus(self, text: str) -> list[int]:
        """The ids of a training text, in which nothing is special, as in nanoGPT's `prepare.py`."""
        return _gpt2().encode_ordinary(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD; CorpusError for an id of 50,257 or more."""
        _check_ids(ids, self.vocab_size)
        return _gpt2().decode(ids)

    def to_dict(self) -> dict[str, str]:
        """`{"kind": "gpt2"}`."""
        return {"kind": "gpt2"}


def tokenizer_from_dict(description: Mapping[str, object]) -> Tokenizer:
    """The tokenizer that `to_dict` described.

    Raises:
        CorpusError: (`bad-tokenizer`) if the dict, which may come from a stranger's checkpoint, describes none.
    """
    kind, chars = description.get("kind"), description.get("chars")
    if kind == "char" and isinstance(chars, str):
        return CharTokenizer(chars)
    if kind == "gpt2":
        return BpeTokenizer()
    shown = repr(kind[:40]) if isinstance(kind, str) else f"of the type {type(kind).__name__}"
    raise CorpusError(
        "bad-tokenizer",
        f"a tokenizer whose kind is {shown} is described: known are 'char' (with its characters) and 'gpt2'; the "
        "checkpoint is damaged or from a newer version of lossgap",
    )


def _check_ids(ids: Sequence[int], vocab_size: int) -> None:
    for index in ids:
        if not 0 <= index < vocab_size:
            raise CorpusError(
                "not-in-vocabulary",
                f"token {index} is outside the vocabulary (0 to {vocab_size - 1}): tokens and tokenizer do not belong "
                "together",
            )


class _Encoding(Protocol):
    """The part of tiktoken's Encoding that is used here."""

    def encode(self, text: str, *, allowed_special: AbstractSet[str]) -> list[int]: ...

    def encode_ordinary(self, text: str) -> list[int]: ...

    def decode(self, tokens: Sequence[int]) -> str: ...


@functools.cache
def _gpt2() -> _Encoding:
    """tiktoken's GPT-2 encoding; CorpusError (`no-bpe`) where tiktoken or its vocabulary is missing."""
    try:
        tiktoken = importlib.import_module("tiktoken")
    except ImportError:
        raise CorpusError(
            "no-bpe", "GPT-2's tokenizer needs tiktoken, which is not installed: `pip install 'lossgap[bpe]'`"
        ) from None
    try:
        return cast("_Encoding", tiktoken.get_encoding("gpt2"))
    except (OSError, ValueError) as problem:  # requests' errors are OSErrors; a wrong hash is a ValueError
        reason = " ".join(str(problem).split())[:160]
        raise CorpusError(
            "no-bpe",
            "GPT-2's tokenizer has no vocabulary: tiktoken downloads it at the first use and could not; use it once "
            f"with a network, or name in TIKTOKEN_CACHE_DIR a folder that holds it ({reason})",
        ) from None
