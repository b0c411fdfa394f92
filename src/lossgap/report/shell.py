"""What is around every page of ours: the policy, the style, the scripts, the library; a template makes each article.

The file needs no network and asks for none: a content security policy admits its own scripts and styles, by their
hashes, and nothing else. What comes from a stranger reaches the page as escaped text with unprintable characters made
visible (`_shown` sees every value of the templates), or as a value in JSON (`embed.json_block`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from lossgap.report import embed
from lossgap.strangers import visible
from lossgap.version import __version__


def page(
    title: str, article: str, views: Sequence[object], *, style: Sequence[str], script: Sequence[str], drawn: bool
) -> str:
    """The whole page, with one article by the template `article` for each of `views`.

    `style` and `script` name files of `report/templates/`, each list of which becomes one element; scripts and the
    drawing library are there only if something is `drawn`.
    """
    styles, scripts = ("".join(map(embed.resource, names)) for names in (style, script))
    library = embed.library() if drawn else ""
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            title=title,
            version=__version__,
            policy=embed.policy((library, scripts) if library else (), (styles,)),
            style=embed.inline(styles),
            script=embed.inline(scripts),
            library=embed.inline(library),
            notice=embed.NOTICE if library else "",
            article=article,
            views=views,
        )
    )


@cache
def _templates() -> Environment:
    return Environment(
        loader=FunctionLoader(embed.resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=_shown,
    )


def _shown(value: object) -> object:
    """What a template shows of a value: text with unprintable characters made visible."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
