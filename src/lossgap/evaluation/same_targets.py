"""Windows that give two models the same targets with the same context, whatever their tokens are.

    laid = same_tokens(n_tokens, (64, 256))            # one tokenizer: the windows of both are the same
    laid = same_text(control, test, (64, 256))         # two tokenizers of one text: the windows are stretches of text
    laid.common[0], laid.own[0]                        # windows of the control, at the common and at its own context

With two tokenizers a window may begin and end only where a token of the one ends together with a token of the other.
Each window is the longest such stretch that fits both contexts, so both models predict the same text from the same
text. What comes before the first such place is not scored, at either context.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lossgap.corpus import Tokenizer, Tokens, exact_windows
from lossgap.corpus.windows import Int64s

REPLACEMENT = "\ufffd"
"""The character that replaces invalid UTF-8: a token that ends inside a character has it in its text."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Windows:
    """Windows on one run's val tokens: starts (W,), lengths (W,)."""

    starts: Int64s
    lengths: Int64s

    @property
    def targets(self) -> int:
        """Tokens that are scored."""
        return int(self.lengths.sum())

    @classmethod
    def side_by_side(cls, n_tokens: int, context: int, first: int = 0) -> Windows:
        """Windows that score each of `n_tokens` from token `first` on, but that one, exactly once.

        The last one is shorter if need be. Raises CorpusError (`corpus-too-small`).
        """
        starts, lengths = exact_windows(n_tokens, context)
        return cls(starts=starts + first, lengths=lengths)


@dataclass(frozen=True, eq=False, kw_only=True)
class Laid:
    """The windows of control and test, at the common context and at each one's own; all score the same text."""

    common: tuple[Windows, Windows]
    own: tuple[Windows, Windows]
    bytes: int | None = None
    """UTF-8 bytes of the scored text; None where the tokens are the same."""


@dataclass(frozen=True, eq=False)
class TokenText:
    """The val text of one run, and where its tokens end in it."""

    text: bytes
    ends: Int64s
    """(n,) bytes up to the end of each token; -1 for a token that ends inside a character."""


def same_tokens(n_tokens: int, contexts: tuple[int, int]) -> Laid:
    """For equal tokens: side by side from token 0, at the smaller context for both. Raises CorpusError as these do."""
    common = Windows.side_by_side(n_tokens, min(contexts))
    own = tuple(Windows.side_by_side(n_tokens, context) for context in contexts)
    return Laid(common=(common, common), own=(own[0], own[1]))


def same_text(control: TokenText, test: TokenText, contexts: tuple[int, int]) -> Laid | None:
    """For different tokens of the same text; None if no stretch that both share fits a context."""
    assert control.text == test.text
    places, *tokens = _shared(control, test)
    bounds = [0]
    while bounds[-1] < len(places) - 1:
        reach = min(
            int(np.searchsorted(ends, ends[bounds[-1]] + context, side="right")) - 1
            for ends, context in zip(tokens, contexts, strict=True)
        )
        if reach <= bounds[-1]:
            return None
        bounds.append(reach)
    if len(bounds) < 2:
        return None
    common, own = [], []
    for ends, context in zip(tokens, contexts, strict=True):
        edges = ends[bounds]
        common.append(Windows(starts=edges[:-1], lengths=np.diff(edges)))
        own.append(Windows.side_by_side(int(edges[-1] - edges[0]) + 1, context, first=int(edges[0])))
    scored = int(places[-1] - places[0])
    return Laid(common=(common[0], common[1]), own=(own[0], own[1]), bytes=scored)


def _shared(control: TokenText, test: TokenText) -> tuple[Int64s, Int64s, Int64s]:
    """Bytes at which a token ends in both (increasing), and the index of that token in each run, (m,) all."""
    kept = [np.flatnonzero(side.ends >= 0) for side in (control, test)]
    places, first, second = np.intersect1d(control.ends[kept[0]], test.ends[kept[1]], return_indices=True)
    return places.astype(np.int64), kept[0][first].astype(np.int64), kept[1][second].astype(np.int64)


def token_text(tokens: Tokens, tokenizer: Tokenizer) -> TokenText:
    """The text of `tokens` and where each one ends. Raises CorpusError (`not-in-vocabulary`)."""
    ids = np.asarray(tokens).tolist()
    pieces = {index: tokenizer.decode([index]) for index in set(ids)}
    sizes = {index: -1 if REPLACEMENT in piece else len(piece.encode()) for index, piece in pieces.items()}
    ends = np.full(len(ids), -1, dtype=np.int64)
    place, broken = 0, []
    for position, index in enumerate(ids):
        size = sizes[index]
        if size < 0:
            broken.append(index)
            text = tokenizer.decode(broken)
            if REPLACEMENT in text:
                continue  # a character is still open
            size, broken = len(text.encode()), []
        elif broken:
            # A whole token closes an invalid character, which then is U+FFFD in the text itself.
            size, broken = size + len(tokenizer.decode(broken).encode()), []
        place += size
        ends[position] = place
    return TokenText(tokenizer.decode(ids).encode(), ends)
