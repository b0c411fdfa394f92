"""The frame of every page: the policy, the style, the scripts, the library; a template makes each article.

The file needs no network and asks for none: a content security policy admits its own scripts and styles, by their
hashes, and nothing else. What comes from a stranger reaches the page as escaped text with unprintable characters made
visible (`_shown` sees every value of the templates), or as a value in JSON (`embed.json_block`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from lossgap.language import say, spoken_now
from lossgap.report import embed, words
from lossgap.strangers import visible
from lossgap.version import __version__


def page(
    title: str,
    article: str,
    views: Sequence[object],
    *,
    style: Sequence[str],
    script: Sequence[str],
    drawn: bool,
    command: str = "",
    made: str = "",
) -> str:
    """The whole page, with one article by the template `article` for each of `views`.

    `style` and `script` name files of `report/templates/`, each list of which becomes one element; the drawing library
    is there only if something is `drawn`. The head names the `command` and the time it was `made`.
    """
    styles, scripts = "".join(map(embed.resource, style)), "".join(map(embed.script, script))
    library = embed.library() if drawn else ""
    return part(
        "page.html.j2",
        title=title,
        lang=spoken_now(),
        say=say,
        version=__version__,
        policy=embed.policy([item for item in (library, scripts) if item], (styles,)),
        style=embed.inline(styles),
        script=embed.inline(scripts),
        library=embed.inline(library),
        notice=embed.NOTICE if library else "",
        article=article,
        views=views,
        command=command,
        made=made,
    )


def part(template: str, **values: object) -> str:
    """The markup that one template makes of `values`."""
    return _templates().get_template(template).render(values)


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FunctionLoader(embed.resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=_shown,
    )
    made.filters |= {"json_block": embed.json_block, "brief": words.cut}
    return made


def _shown(value: object) -> object:
    """A value as a template shows it: text with unprintable characters made visible."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
