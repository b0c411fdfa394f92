"""Views as one HTML file, by one template; and a result as a small card for a notebook.

    render([view], command="lossgap compare a.log b.log")      # the whole file as text
    card(view)                                                 # less than 10 kB, without scripts

The file needs no network, and what strangers say is text or a value in JSON: see `shell`. Without JavaScript everything
but the charts is there: folds are `<details>`, and alternatives stand one below the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from lossgap.report import shell
from lossgap.report.blocks import Alternatives, Block, Chart, Claims, Fold, Headline, Judgement, Suggestion, View

CARD = 9_000
"""Bytes of a notebook's card at most."""
CARD_SIZES = ((3, 400), (3, 150), (1, 100), (0, 50))
"""Claims of a card and characters of each text, from the most to the least: the first that fits is taken."""


def render(views: Sequence[View], *, command: str = "", made: datetime | None = None) -> str:
    """The page of one view, or of several one below the other; its head names the `command` and when it was `made`."""
    blocks = [block for view in views for block in walk((*view.first, *view.rest))]
    charts = sorted({block.draws for block in blocks if isinstance(block, Chart) and not block.why})
    moves = charts or any(isinstance(block, Alternatives) for block in blocks)
    when = (made or datetime.now().astimezone()).strftime("%Y-%m-%d %H:%M %Z").strip()
    return shell.page(
        _title(views),
        "view.html.j2",
        [{"view": view, "number": number, "count": len(views)} for number, view in enumerate(views, 1)],
        style=("page.css",),
        script=("drawing.js", *(f"{name}.js" for name in charts), "start.js") if moves else (),
        drawn=bool(charts),
        command=command or next((view.made_by for view in views if view.made_by), ""),
        made=when,
    )


def card(view: View) -> str:
    """The answer for a notebook: headline, verdict, strongest claims, what to do next."""
    blocks = view.brief or tuple(b for b in view.first if isinstance(b, Headline | Judgement | Claims | Suggestion))
    for claims, most in CARD_SIZES:
        found = shell.part("card.html.j2", view=view, blocks=blocks, claims=claims, most=most)
        if len(found.encode()) <= CARD:
            break
    return found


def walk(blocks: Iterable[Block]) -> Iterator[Block]:
    """All blocks, those inside of folds and alternatives too."""
    for block in blocks:
        yield block
        if isinstance(block, Fold):
            yield from walk(block.blocks)
        elif isinstance(block, Alternatives):
            for choice in block.choices:
                yield from walk(choice.blocks)


def _title(views: Sequence[View]) -> str:
    return views[0].title if len(views) == 1 else f"{views[0].title} and {len(views) - 1} more"
