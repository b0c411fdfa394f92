"""Text with full-width characters, which take two columns of a terminal and may be parted between any two of them."""

from __future__ import annotations

from rich.cells import cell_len

NEVER_FIRST = "、。，．）」』】〉》・ー々ぁぃぅぇぉっゃゅょァィゥェォッャュョ)]},.:;!?％"  # noqa: RUF001  # they are meant: full-width marks of Japanese
"""Characters that do not begin a line in Japanese (JIS X 4051, the part that occurs here)."""


def columns(text: str) -> int:
    """Columns that a terminal shows `text` in."""
    return cell_len(text)


def is_wide(text: str) -> bool:
    """True if a character of it takes two columns."""
    return cell_len(text) > len(text)


def padded(text: str, width: int) -> str:
    """`text` with blanks behind it up to so many columns."""
    return text + " " * max(0, width - cell_len(text))


def cut_wide(text: str, width: int) -> str:
    """As much of `text` as so many columns hold, with an ellipsis where that is not all."""
    if cell_len(text) <= width:
        return text
    kept = ""
    for char in text:
        if cell_len(kept + char) > width - 1:
            break
        kept += char
    return kept.rstrip() + "…"


def broken(text: str, width: int) -> str:
    """`text` with line breaks, for a terminal that would break it at blanks alone; other text is as it was."""
    if not is_wide(text) or width < 8:
        return text
    lines = [""]
    for piece in _pieces(text):
        if lines[-1] and cell_len(lines[-1] + piece.rstrip()) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
            piece = piece.lstrip()
        lines[-1] += piece
    return "\n".join(lines)


def _pieces(text: str) -> list[str]:
    """Parts that stay whole: a word, or one full-width character with what must not begin a line behind it."""
    pieces: list[str] = []
    for char in text:
        glued = pieces and (
            char in NEVER_FIRST
            or char == " "
            or not (is_wide(char) or is_wide(pieces[-1][-1]) or pieces[-1][-1] == " ")
        )
        if glued:
            pieces[-1] += char
        else:
            pieces.append(char)
    return pieces
